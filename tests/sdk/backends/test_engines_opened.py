"""A bundle's engines through `open_backend`: compared with the CPU before they are used, and passed over by "auto"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.backends import open_backend
from srflow_sdk.backends.providers import Provider
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.errors import BundleError, DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile

from .engine_machine import EngineMachine, noise
from .fake_tensorrt import write_engine_bundle


@pytest.fixture
def wrong_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = TensorRTBackend.draw_impl
    monkeypatch.setattr(TensorRTBackend, "draw_impl", lambda self, *rest: 1 - draw(self, *rest))


@pytest.fixture
def from_two_pixels_on(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """As srflow-export builds engines unless told otherwise."""
    profile = LrProfile(min=(2, 2), opt=(64, 64), max=(64, 64))
    return write_engine_bundle(tiny_bundle, tmp_path / "two.srflow", profile=profile)


def test_engines_that_draw_the_cpus_picture_are_used(machine: EngineMachine, from_two_pixels_on: Bundle) -> None:
    backend = open_backend(from_two_pixels_on, device="tensorrt")
    assert backend.device == "tensorrt"
    backend.deactivate()
    assert machine.gpu.used == 0


@pytest.mark.usefixtures("wrong_pictures")
def test_engines_that_draw_another_picture_are_refused_and_released(
    machine: EngineMachine, from_two_pixels_on: Bundle
) -> None:
    with pytest.raises(
        DeviceError, match=r"a different picture from cpu .*build engines again: srflow-export --engines-for"
    ):
        open_backend(from_two_pixels_on, device="tensorrt")
    assert machine.gpu.used == 0


@pytest.mark.parametrize("error", [DeviceError("another GPU"), BundleError("no engine of these graphs")])
def test_auto_passes_over_engines_that_cannot_be_used(
    machine: EngineMachine,
    engine_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lr: np.ndarray,
    error: Exception,
) -> None:
    def fail(_self: TensorRTBackend) -> None:
        raise error

    monkeypatch.setattr(TensorRTBackend, "activate_impl", fail)
    monkeypatch.setattr(Provider, "offered", lambda self: self.device == "cpu")
    backend = open_backend(engine_bundle, device="auto")
    assert backend.device == "cpu"
    assert np.isfinite(backend.sample(backend.encode(lr), noise(1), 0.5)).all()
    backend.deactivate()
    assert caplog.messages[0] == f"continuing without tensorrt: {error}"
