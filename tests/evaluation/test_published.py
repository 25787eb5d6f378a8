"""Published figures: which line they stand beside, when they are comparable, and their columns."""

from dataclasses import replace

import pytest

from srflow_evaluation.options import LevelTaus
from srflow_evaluation.published_results import (
    DEGRADED,
    ENCODERS,
    METHODS,
    PUBLISHED,
    RESTORATION,
    RESTORED,
    S10,
    SPACE,
    SUPERRESOLVED,
)
from srflow_evaluation.restore import restore
from srflow_evaluation.sampling import best_of_n, compare, encoder_init, ntire21, random_samples, tau_sweep
from srflow_training import save_checkpoint
from tests.evaluation.outputs import summary_of
from tests.networks import random_srflow, tiny_config

DIV2K, CELEBA = PUBLISHED["div2k-x4"], PUBLISHED["celeba-x8"]

SAME = {"convention": "published", "scale": 4, "reduction": "bicubic", "centre": None, "sizes": [(1356, 2040)] * 100}


@pytest.mark.parametrize(
    ("name", "psnr"),
    [
        ("bicubic", "26.70"),
        ("RRDB", "29.44"),
        ("RRDB_PSNR_x4", "29.44"),
        ("RRDB_ESRGAN_x4", "26.22"),
        ("ESRGAN", "26.22"),
        ("esrgan-outputs", "26.22"),
        ("RankSRGAN", "26.55"),
        ("edsr_baseline_x4", "28.98"),
        ("Real-ESRGAN", None),
        ("RealESRGAN_x4plus", None),
        ("BSRGAN", None),
        ("SwinIR", None),
        ("", None),
    ],
)
def test_methods_are_known_by_their_files_and_folders(name, psnr):
    assert DIV2K.line(METHODS, name).get("psnr") == psnr


def test_a_flow_stands_beside_srflow_only_at_its_temperature():
    assert DIV2K.line(METHODS, "mine, τ 0.9", 0.9)["lpips"] == ".120"
    assert DIV2K.line(METHODS, "mine, τ 0.8", 0.8) == {}
    assert DIV2K.line(METHODS, "ESRGAN-initialised flow, τ 0.8", 0.8) == {}
    assert CELEBA.line(METHODS, "mine, τ 0.8", 0.8)["diversity"] == "5.21"
    assert DIV2K.line(METHODS, "τ auto", "auto") == {}


def test_each_protocol_has_its_own_table():
    assert DIV2K.line(RESTORATION, "bicubic") == {}  # of a degraded picture
    restoration = [DIV2K.line(RESTORATION, name)["psnr"] for name in (DEGRADED, SUPERRESOLVED, RESTORED)]
    assert restoration == ["22.48", "23.19", "27.81"]
    assert [figures["lpips"] for figures in CELEBA.tables[ENCODERS].values()] == [".110", ".108"]
    assert PUBLISHED["ntire21-x4"].line(SPACE, "NCSR")[S10] == "26.04"
    assert PUBLISHED["ntire21-x4"].line(SPACE, "SRFlow-DA")[S10] == "23.09"


def test_only_like_is_compared_with_like():
    assert DIV2K.differences(**SAME) == []
    for change, why in (
        ({"convention": "default"}, "--convention published"),
        ({"scale": 8}, "×8, not ×4"),
        ({"reduction": "bilinear"}, "bilinear"),
        ({"centre": 256}, "--crop"),
        ({"sizes": [(1356, 2040)] * 99}, "99 pictures, not the 100 validation photographs"),
        ({"sizes": [(1356, 2040)] * 101}, "take --pictures 100"),
    ):
        (reason,) = DIV2K.differences(**{**SAME, **change})
        assert why in reason
    assert len(DIV2K.differences(**{**SAME, "scale": 8, "sizes": [(64, 64)]})) == 2
    assert PUBLISHED["ntire21-x4"].differences(**{**SAME, "sizes": [(64, 64)]}) == []


@pytest.mark.parametrize(("size", "same"), [((160, 160), True), ((218, 178), False), ((160, 128), False)])
def test_faces_of_another_size_are_not_the_publications(size, same):
    sizes = [(160, 160)] * 4999 + [size]
    reasons = CELEBA.differences(**{**SAME, "scale": 8, "sizes": sizes})
    assert (not reasons) if same else ("160×160 faces" in reasons[0] and "docs/training-data.md" in reasons[0])


@pytest.fixture
def of_three(monkeypatch):
    """The published sets as if they were of three pictures of any size, as the photographs of these tests are."""
    for name in ("div2k-x4", "celeba-x8"):
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], pictures=3, side=0))


@pytest.mark.slow
def test_published_figures_stand_beside_the_measured_ones(options, of_three, checkpoint, tmp_path):
    path = tmp_path / "third.safetensors"
    save_checkpoint(path, random_srflow(tiny_config(), seed=1), notes={"reduction": "bilinear"})
    chosen = {"convention": "published", "published": "div2k-x4", "samples": 2}
    taus = [LevelTaus((0.8,)), LevelTaus((0.9,))]
    table = compare(options(**chosen, taus=taus, models=[str(checkpoint), str(path)]))
    column = table.headings.index("PSNR published")
    assert table.headings[column - 1] == "PSNR, dB ↑"
    assert "GMSD published" not in table.headings
    found = {row[0]: row[column] for row in table.rows}
    assert found == {
        "bicubic": "26.70",
        "tiny (bicubic LR), τ 0.8": "",
        "tiny (bicubic LR), τ 0.9": "27.09",
        "third (bilinear LR), τ 0.8": "",
        "third (bilinear LR), τ 0.9": "",
    }
    assert (
        "Published: means over the 100 validation photographs of DIV2K, samples of SRFlow at τ 0.9; here: over 3."
        in table.notes
    )
    summary = summary_of(tmp_path / "out")
    assert summary["published"][METHODS]["bicubic"]["lr_psnr"] == "38.70"


def test_figures_that_do_not_compare_are_left_out_with_the_reason(options, tmp_path):
    table = tau_sweep(options(published="div2k-x4", taus=[LevelTaus((0.9,))], samples=2))
    assert not any("published" in heading for heading in table.headings)
    (reason,) = (note for note in table.notes if note.startswith("The published figures (div2k-x4) are left out"))
    assert "--convention published" in reason
    assert "3 pictures, not the 100" in reason
    assert reason in summary_of(tmp_path / "out")["notes"]


def test_the_diversity_and_the_first_of_n_have_their_published_figures(options, of_three, tmp_path):
    path = tmp_path / "faces.safetensors"
    save_checkpoint(path, random_srflow(tiny_config(scale=8)))
    chosen = {"models": [str(path)], "convention": "published", "published": "celeba-x8", "samples": 2}
    table = random_samples(options(**chosen))
    assert list(table.headings[-2:]) == ["diversity, /255", "diversity published"]
    assert table.rows[-1][-1] == "5.21"
    table = best_of_n(options(**chosen, out=tmp_path / "best"))
    column = table.headings.index("SSIM published")
    assert {row[0]: row[column] for row in table.rows} == {
        "bicubic": ".63",
        "best of 1": ".71",
        "best of 2": "",
    }


def test_table_1_has_its_published_figures(options, of_three, tmp_path):
    paths = [tmp_path / name for name in ("trained.safetensors", "scratch.safetensors")]
    for seed, path in enumerate(paths):
        save_checkpoint(path, random_srflow(tiny_config(scale=8), seed=seed))
    chosen = {"models": [str(path) for path in paths], "convention": "published", "published": "celeba-x8"}
    table = encoder_init(options(**chosen, samples=2))
    column = table.headings.index("PSNR published")
    assert [row[column] for row in table.rows] == ["", "25.24", "25.06", "", ""]


@pytest.mark.parametrize(
    ("degradation", "expected"), [("noise:20", ["22.48", "", "", "23.19", "27.81"]), ("blur:2", None)]
)
def test_published_restoration_is_that_of_noise(options, of_three, degradation, expected):
    table = restore(options(convention="published", published="div2k-x4", degradations=[degradation]))
    if expected is None:
        assert "PSNR published" not in table.headings
    else:
        column = table.headings.index("PSNR published")
        assert [row[column] for row in table.rows] == expected
        assert table.rows[3][0] == "sampled, τ 0.9"  # theirs are samples, at the publication's temperature


def test_published_super_resolved_figures_stand_beside_a_sample_of_their_temperature_only(options, of_three):
    chosen = {"convention": "published", "published": "div2k-x4", "sample_tau": LevelTaus((0.5,))}
    table = restore(options(**chosen))
    column = table.headings.index("PSNR published")
    assert table.rows[3][0] == "sampled, τ 0.5"
    assert [row[column] for row in table.rows] == ["22.48", "", "", "", "27.81"]


def test_published_names_give_the_publications_temperature(options, checkpoint):
    chosen = {"convention": "published", "samples": 2, "most": 1}
    for protocol in (compare, random_samples):
        for name, tau in (("div2k-x4", "0.9"), ("celeba-x8", "0.8"), (None, "0.8")):
            out = options().out / protocol.__name__ / str(name)
            table = protocol(options(**chosen, published=name, out=out))
            assert f"τ {tau}" in table.rows[-1][0], (protocol, name)


def test_an_rrdb_has_its_published_figures_by_the_name_of_its_file(options, of_three, tmp_path):
    path = tmp_path / "RRDB_DF2K_4X.safetensors"
    save_checkpoint(path, random_srflow(tiny_config()).encoder)
    table = compare(options(convention="published", published="div2k-x4", references=[path], samples=2))
    column = table.headings.index("PSNR published")
    assert {row[0]: row[column] for row in table.rows}["RRDB_DF2K_4X"] == "29.44"


def test_the_challenge_has_its_published_figures(options):
    table = ntire21(options(convention="published", published="ntire21-x4", samples=2))
    column = table.headings.index("LR-PSNR published")
    assert [row[column] for row in table.rows] == ["", "49.86"]
    assert any("compare only if the challenge's test photographs are measured" in note for note in table.notes)


@pytest.mark.parametrize(("samples", "expected"), [(3, None), (10, "25.01")])
def test_the_published_score_of_10_samples_stands_beside_one_of_10_only(options, lpips, tmp_path, samples, expected):
    chosen = {"convention": "published", "published": "ntire21-x4", "most": 1}
    table = ntire21(options(**chosen, samples=samples))
    summary = summary_of(tmp_path / "out")
    published = [name for name in table.headings if name.startswith("S") and name.endswith("LPIPS published")]
    if expected is None:
        assert published == []
        assert any("it is of 10 samples, and this of 3" in note for note in table.notes)
        assert S10 not in summary["published"][SPACE]["SRFlow"]
    else:
        assert table.rows[-1][table.headings.index(published[0])] == expected
        assert not any("diversity score is left out" in note for note in table.notes)
