"""The pictures that a teacher draws: of each photograph's reduction at each of its sizes, upright,
and only once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from benchmarks import teacher
from srflow_training.data import halve, to_image
from srflow_training.resampling import reduce_bicubic, round_to_8_bit
from tests.training.crops import save, texture


def nearest(path: Path) -> Path:
    """A network that repeats each pixel four times in both directions."""
    sides = [1, 3, "h", "w"], [1, 3, "H", "W"]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, side)
        for name, side in zip("xy", sides, strict=True)
    ]
    factors = onnx.numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "factors")
    node = helper.make_node(
        "Resize",
        ["x", "", "factors"],
        ["y"],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    graph = helper.make_graph([node], "nearest", ends[:1], ends[1:], [factors])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )
    return path


@pytest.mark.parametrize("orientations", ["2", "8"])
def test_photographs_are_drawn_upright_at_every_size_and_what_is_there_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientations: str
) -> None:
    pixels = texture(150, 202)
    save(tmp_path / "photos" / "sub" / "a.png", pixels)
    save(tmp_path / "out" / "kept.png", texture(128, 128))
    save(tmp_path / "photos" / "kept.jpg", texture(128, 128, seed=1))
    (tmp_path / "run.yaml").write_text("base: x4-small\ndata: {crop: 64, narrowest: 100}\n")
    places = [
        str(nearest(tmp_path / "nearest.onnx")),
        str(tmp_path / "photos"),
        str(tmp_path / "out"),
    ]
    options = ["--config", str(tmp_path / "run.yaml"), "--orientations", orientations]
    monkeypatch.setattr(sys, "argv", ["teacher.py", *places, *options])
    teacher.main()
    for name, photo in (("sub/a.png", pixels), ("sub/a-halved1.png", halve(pixels))):
        height, width = (side // 4 * 4 for side in photo.shape[:2])
        lr = (
            round_to_8_bit(reduce_bicubic(to_image(photo[:height, :width]), 4))[0]
            .permute(1, 2, 0)
            .numpy()
        )
        expected = (lr * 255).round().astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
        with Image.open(tmp_path / "out" / name) as drawn:
            assert np.array_equal(np.asarray(drawn), expected)
    with Image.open(tmp_path / "out" / "kept.png") as kept:
        assert np.array_equal(np.asarray(kept), texture(128, 128))
    assert not list((tmp_path / "out").rglob("*.part"))
