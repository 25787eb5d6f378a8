"""--published: the publication's figures in columns of their own."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from srflow_evaluation.best_of_n import best_of_n
from srflow_evaluation.cli import evaluate
from srflow_evaluation.comparing import compare, encoder_init
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.ntire21 import ntire21
from srflow_evaluation.published_results import METHODS, PUBLISHED, S10, SPACE
from srflow_evaluation.random_samples import random_samples
from srflow_evaluation.restore import restore
from srflow_evaluation.tau_sweep import tau_sweep
from srflow_training import save_checkpoint
from tests.networks import random_srflow, tiny_config


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
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["published"][METHODS]["bicubic"]["lr_psnr"] == "38.70"


def test_figures_that_do_not_compare_are_left_out_with_the_reason(options, tmp_path):
    table = tau_sweep(options(published="div2k-x4", taus=[LevelTaus((0.9,))], samples=2))
    assert not any("published" in heading for heading in table.headings)
    (reason,) = (note for note in table.notes if note.startswith("The published figures (div2k-x4) are left out"))
    assert "--convention published" in reason
    assert "3 pictures, not the 100" in reason
    assert reason in json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]


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
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    published = [name for name in table.headings if name.startswith("S") and name.endswith("LPIPS published")]
    if expected is None:
        assert published == []
        assert any("it is of 10 samples, and this of 3" in note for note in table.notes)
        assert S10 not in summary["published"][SPACE]["SRFlow"]
    else:
        assert table.rows[-1][table.headings.index(published[0])] == expected
        assert not any("diversity score is left out" in note for note in table.notes)


def test_other_commands_have_no_published_figures(photos):
    result = CliRunner().invoke(evaluate, ["report", "--hr", str(photos), "--published", "div2k-x4"])
    assert result.exit_code == 1
    assert result.output.startswith("error: report has no --published: leave it out")
