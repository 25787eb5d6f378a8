"""With "auto", the scale chooses the model, too: the smallest that enlarges so much, by what the manifests say."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import ArgumentError, AsyncUpscaler, Bundle, ImageError, OutputSize, Upscaler, choose_model
from srflow_sdk.files import read_provenance, write_image

from .clean_and_noisy import noisy, smooth
from .test_by_picture import CPU, opened
from .tiny_bundle import write_tiny_bundle

__all__ = ["opened"]

CHOSEN = [
    (None, "x4-small", "x4-photo"),
    (1, "x2-small", "x4-photo"),
    (1.5, "x2-small", "x4-photo"),
    (2, "x2-small", "x4-photo"),
    (2.01, "x4-small", "x4-photo"),
    (3, "x4-small", "x4-photo"),
    (4, "x4-small", "x4-photo"),
    (4.5, "x8-small", "x8-small"),
    (8, "x8-small", "x8-small"),
    (9, "x16-small", "x16-small"),
    (16, "x16-small", "x16-small"),
    (OutputSize(width=96), "x2-small", "x4-photo"),  # of a picture of 96×96
    (OutputSize(height=300), "x4-small", "x4-photo"),
    (OutputSize(width=500, height=1000), "x8-small", "x8-small"),
    (OutputSize(max_side=150), "x2-small", "x4-photo"),
    (OutputSize(max_side=5000), "x4-small", "x4-photo"),  # which asks for no more than it is
    (OutputSize(width=5000), "x16-small", "x16-small"),  # which cannot be
]


@pytest.mark.parametrize(("scale", "clean", "damaged"), CHOSEN)
def test_the_smallest_model_that_enlarges_so_much(five_models: Path, scale: Any, clean: str, damaged: str) -> None:
    assert choose_model(smooth(), scale=scale).name == clean
    choice = choose_model(noisy(10), scale=scale)
    assert choice.name == damaged
    assert choice.why.startswith("noise of ") or (damaged == clean and not isinstance(scale, OutputSize))


def test_manifests_decide_not_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fields in {"a": {"scale": 8}, "b": {"scale": 2, "removes_damage": True}, "c": {"scale": 2}}.items():
        write_tiny_bundle(tmp_path / f"{name}.srflow", name=name, **fields)
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", tmp_path)
    assert [choose_model(picture, scale=2).name for picture in (smooth(), noisy(10))] == ["c", "b"]
    assert choose_model(noisy(10), scale=3).name == "a"


@pytest.mark.parametrize(
    ("lacks", "scale", "clean", "damaged"),
    [
        (["x2-small"], 2, "x4-small", "x4-photo"),
        (["x4-small"], 4, "x8-small", "x4-photo"),
        (["x4-photo"], 2, "x2-small", "x2-small"),
        (["x8-small"], 8, "x16-small", "x16-small"),
    ],
)
def test_without_a_model_the_next_larger_serves(
    five_models: Path, lacks: list[str], scale: float, clean: str, damaged: str
) -> None:
    for name in lacks:
        shutil.rmtree(five_models / f"{name}.srflow")
    assert [choose_model(picture, scale=scale).name for picture in (smooth(), noisy(10))] == [clean, damaged]


@pytest.mark.slow
def test_every_method_draws_with_it(five_models: Path, tmp_path: Path) -> None:
    small = smooth(32)
    write_image(tmp_path / "small.png", small)
    with Upscaler(**CPU) as up:
        for scale, name in ((2, "x2-small"), (3, "x4-small"), (6, "x8-small"), (16, "x16-small")):
            with Upscaler(name, **CPU) as pinned:
                expected = pinned.upscale(small, scale=scale, seed=3)
                drawn: Any = {"scale": scale, "seed": 3}
                assert expected.shape == (32 * scale, 32 * scale, 3)
                assert np.array_equal(up.upscale(small, **drawn), expected)
                assert np.array_equal(up.upscale_many([small], **drawn)[0], expected)
                assert np.array_equal(up.best_of(small, lambda _: 0.0, 1, **drawn), expected)
                up.upscale_file(tmp_path / "small.png", tmp_path / "large.png", **drawn)
                assert np.array_equal(np.asarray(Image.open(tmp_path / "large.png")), expected)
                assert read_provenance(tmp_path / "large.png").model == name  # type: ignore[union-attr]
                values = {**drawn, "value_range": (0, 255)}
                assert np.array_equal(up.upscale(small, **values), pinned.upscale(small, **values))

        async def waited() -> Any:
            async with AsyncUpscaler(**CPU) as waiting:
                return await waiting.upscale(small, scale=16, seed=3)

        assert np.array_equal(asyncio.run(waited()), expected)


def test_a_model_is_opened_once_a_scale_needs_it(five_models: Path, opened: list[str]) -> None:
    with Upscaler(**CPU) as up:
        up.upscale(noisy(10), scale=2)
        assert opened == ["x4-small", "x4-photo"]
        for _ in range(2):
            up.upscale(noisy(10)[:16, :16], scale=8)
        assert opened == ["x4-small", "x4-photo", "x8-small"]
        assert up.scale == 4
        assert up.upscale(smooth()).shape == (384, 384, 3)
    with Upscaler("x8-small", **CPU) as one:
        assert one.scale == 8


def test_a_scale_above_all_is_refused_with_those_that_there_are(five_models: Path, two_models: Path) -> None:
    fix = "ask for at most 16, upscale an output again, or name a bundle of your own"
    with Upscaler(**CPU) as up:
        with pytest.raises(ArgumentError, match=f"scale is 17, but the models here enlarge 2, 4, 8, 16 times: {fix}"):
            up.upscale(smooth(), scale=17)
        with pytest.raises(ImageError, match="the model x16-small enlarges 16 times"):
            up.upscale(smooth(), scale=OutputSize(width=5000))
        with pytest.raises(ArgumentError, match="x4-small enlarges 4 times; ask for at most 4, name a model that"):
            up.encode(smooth()).sample(scale=8)
    with pytest.raises(ArgumentError, match="it must be a number above 0"):
        choose_model(smooth(), scale=0)


def test_only_manifests_are_read_to_choose(five_models: Path) -> None:
    assert Bundle.embedded_names() == ("x4-small", "x2-small", "x4-photo", "x8-small", "x16-small")
    for name in Bundle.embedded_names():
        (five_models / f"{name}.srflow" / "sampler.onnx").unlink()
    assert choose_model(smooth(), scale=2).name == "x2-small"
