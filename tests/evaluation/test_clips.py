"""clips: what flickers along the true motion, and what does not."""

import numpy as np
import pytest
from PIL import Image

from srflow_evaluation import clips as module
from srflow_evaluation.clips import clips
from srflow_evaluation.options import LevelTaus
from srflow_sdk.errors import ArgumentError
from tests.evaluation.outputs import lines_of, summary_of
from tests.sdk.tiny_bundle import write_tiny_bundle

# a step of whole LR pixels, so that only what is drawn changes
FRAMES = 4
STEP = 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.srflow")


@pytest.fixture
def clip(tmp_path):
    """Four frames of 96×104 of a camera that moves to the right."""
    folder = tmp_path / "clip"
    folder.mkdir()
    small = np.random.default_rng(0).integers(60, 190, (24, 48, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(small).resize((192, 96), Image.Resampling.BICUBIC))
    for number in range(FRAMES):
        Image.fromarray(scene[:, number * STEP : number * STEP + 104]).save(
            folder / f"{number:02}.png"
        )
    return folder


def write_motion(folder, frames=FRAMES, step=STEP):
    flow = np.zeros((frames, 2, 96, 104), np.float32)
    flow[:, 1] = step
    visible = np.ones((frames, 96, 104), np.bool_)
    visible[:, :, -step:] = False
    np.savez_compressed(folder / "motion.npz", flow=flow, visible=visible)


def measured(options, bundle, clip, **changes):
    made = {
        "models": [str(bundle)],
        "hr": clip,
        "taus": [LevelTaus((0.05,))],
        "metrics": ("psnr",),
        **changes,
    }
    return clips(options(**made))


def flicker(folder):
    return {row["method"]: row["flicker"] for row in summary_of(folder)["rows"]}


def test_what_moves_with_the_picture_flickers_least(options, bundle, clip, tmp_path):
    write_motion(clip)
    table = measured(options, bundle, clip)
    found = flicker(tmp_path / "out")
    assert (
        [row[0] for row in table.rows]
        == ["bicubic", "τ 0", "motion", "screen", "fresh"]
        == list(found)
    )
    assert summary_of(tmp_path / "out")["hr_flicker"] == 0
    assert found["motion"] < 0.5 * min(found["screen"], found["fresh"])
    rows = lines_of(tmp_path / "out")
    assert len(rows) == FRAMES * 6
    assert [row["picture"] for row in rows if row["flicker"] == ""] == ["00"] * 6


def test_without_a_file_motion_is_estimated(options, bundle, clip, tmp_path):
    table = measured(options, bundle, clip)
    assert any("motion: estimated from the HR frames" in note for note in table.notes)
    assert 0 < summary_of(tmp_path / "out")["hr_flicker"] < 1
    found = flicker(tmp_path / "out")
    assert found["motion"] < min(found["screen"], found["fresh"])


def test_wrong_motion_and_models_are_refused(options, bundle, clip, checkpoint, tmp_path):
    with pytest.raises(ArgumentError, match="export the checkpoint"):
        measured(options, checkpoint, clip)
    write_motion(clip, frames=3)
    with pytest.raises(
        ArgumentError,
        match=r"is of frames and pixels \(3, 96, 104\), and the clip has \(4, 96, 104\)",
    ):
        measured(options, bundle, clip)
    (clip / module.MOTION).write_bytes(b"no arrays")
    with pytest.raises(ArgumentError, match="is damaged"):
        measured(options, bundle, clip, out=tmp_path / "other")
    for path in sorted(clip.iterdir())[1:]:
        path.unlink()
    with pytest.raises(ArgumentError, match="holds one frame"):
        measured(options, bundle, clip)
