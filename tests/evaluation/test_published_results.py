"""Published figures: which line they stand beside, and when they are comparable."""

import pytest

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
