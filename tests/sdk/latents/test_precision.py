"""Latents say in what precision their conditioning was computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.errors import ArgumentError
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import LEVELS, write_tiny_bundle


def latents_of(upscaler: Upscaler, precision: str) -> Latents:
    """Random latents of a 32×32 picture."""
    random = np.random.default_rng(0)
    levels = {
        level: random.normal(size=(channels, 32 >> level, 32 >> level)).astype(np.float32)
        for level, channels in LEVELS.items()
    }
    sha256 = upscaler.bundle.model_sha256
    return Latents(levels, height=32, width=32, model_sha256=sha256, precision=precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["bundle", "bf16", "int8"])
def test_the_precision_stays_in_files_and_with_what_is_made_of_them(
    upscaler: Upscaler, tmp_path: Path, precision: str
) -> None:
    latents = latents_of(upscaler, precision)
    assert latents.precision == precision
    assert latents.scaled(0.5).precision == precision
    latents.save(tmp_path / "z.safetensors")
    assert Latents.load(tmp_path / "z.safetensors", model=upscaler).precision == precision


def test_files_of_exact_latents_are_those_of_older_versions(upscaler: Upscaler, tmp_path: Path) -> None:
    latents_of(upscaler, "bundle").save(tmp_path / "z.safetensors")
    assert b"precision" not in (tmp_path / "z.safetensors").read_bytes()[:2000]


def test_an_unknown_precision_is_refused(upscaler: Upscaler) -> None:
    with pytest.raises(ArgumentError, match="precision is 'fp8'; it must be one of bundle, bf16, int8"):
        latents_of(upscaler, "fp8")


def test_decoding_in_another_precision_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    small = np.full((8, 8, 3), 0.4, np.float32)
    with (
        Upscaler(bundle, device="cpu", threads=1) as exact,
        Upscaler(bundle, device="cpu", threads=1, precision="int8") as rounded,
    ):
        latents = latents_of(exact, "int8")
        rounded.encode(small).decode(latents)
        assert caplog.messages == []
        assert exact.encode(small).decode(latents).shape == (32, 32, 3)
    assert "made with precision int8 and are decoded with bundle" in caplog.text
