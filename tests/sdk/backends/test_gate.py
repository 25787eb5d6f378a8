"""The gate: a device whose picture differs is refused, and what a bundle promises in less
precision."""

import dataclasses
import logging

import numpy as np
import pytest

from srflow_sdk import backends
from srflow_sdk.backends import OnnxRuntimeBackend, open_backend
from srflow_sdk.backends.gate import check_agreement, is_within_gate, photographs, psnr
from srflow_sdk.backends.providers import Provider
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle

from ..tiny_bundle import INT8_ROW, tiny_manifest, write_tiny_bundle


@pytest.fixture
def bundle(tiny_bundle):
    return Bundle.open(tiny_bundle)


def test_the_distance_of_two_pictures_is_a_psnr():
    for multiple in (1, 2, 7, 64):  # photographs that fit any network
        for photo in photographs(multiple):
            assert photo.dtype == np.float32
            assert photo.shape[2] % multiple == photo.shape[3] % multiple == 0
            assert 0 <= photo.min() < photo.max() <= 1
    assert psnr(np.full_like(photo, 0.5), np.full_like(photo, 0.6)) == pytest.approx(20, abs=1e-3)
    assert psnr(photo, photo) == float("inf")
    assert psnr(photo * np.float32("nan"), photo) == float("-inf")


class Wrong(OnnxRuntimeBackend):
    """The CPU's picture and an error of one part in `parts`."""

    parts = 10.0
    device = "wrong"

    def sample_impl(self, conditioning, noise, tau):
        sr = super().sample_impl(conditioning, noise, tau)
        return sr * np.float32(1 + 1 / self.parts)


def test_values_that_are_not_finite_disagree_unless_the_network_makes_them(
    bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr(Wrong, "parts", float("nan"))
    huge = Bundle.open(write_tiny_bundle(tmp_path / "huge.srflow", gain=float("inf")))
    with Wrong(huge, threads=1) as wrong, OnnxRuntimeBackend(huge, threads=1) as cpu:
        check_agreement(wrong, cpu, huge.manifest)
    with (
        Wrong(bundle, threads=1) as wrong,
        OnnxRuntimeBackend(bundle, threads=1) as cpu,
        pytest.raises(DeviceError, match="-inf dB"),
    ):
        check_agreement(wrong, cpu, bundle.manifest)


@pytest.mark.parametrize(
    ("parity", "message"),
    [
        ([], "where rounding leaves at least 38"),
        ([{"tau": 0.0, "own_db": 25.0}], None),
        ([{"tau": 0.0, "own_db": 25.0}, {"tau": 0.8, "own_db": 44.0}], None),
        ([{"tau": 0.0, "own_db": 44.0}], "at least 34"),
        ([{"tau": 1.0, "own_db": 25.0}], "at least 38"),  # above the default
        ([{"tau": 0.0, "own_db": None}, {"tau": 0.0, "own_db": -200.0}], "at least 38"),
    ],
)
def test_a_network_that_multiplies_rounding_is_held_to_what_its_export_recorded(
    bundle, parity, message
):
    """The tiny bundle's picture and an error of one part in ten are 20 to 30 dB apart."""
    manifest = dataclasses.replace(bundle.manifest, parity=parity, default_tau=0.8)
    with Wrong(bundle, threads=1) as wrong, OnnxRuntimeBackend(bundle, threads=1) as cpu:
        if message is None:
            check_agreement(wrong, cpu, manifest)
        else:
            with pytest.raises(DeviceError, match=message):
                check_agreement(wrong, cpu, manifest)


def test_a_plugin_that_computes_another_picture_is_an_error_if_asked_for_and_passed_over_if_not(
    bundle, monkeypatch, caplog
):
    monkeypatch.setattr(Provider, "offered", lambda self: self.device in ("webgpu", "cpu"))
    monkeypatch.setattr(Provider, "suits_auto", lambda self: self.device == "webgpu")
    closed = []

    class Backend(Wrong):
        def __init__(self, bundle, *, device="cpu", gpu=0, threads=None):
            super().__init__(bundle, threads=threads)
            self.parts = 4.0 if device == "webgpu" else float("inf")
            self.device = device

        def deactivate_impl(self):
            closed.append(self.device)
            super().deactivate_impl()

    monkeypatch.setattr(backends, "OnnxRuntimeBackend", Backend)
    with pytest.raises(DeviceError, match=r"webgpu computes a different picture from cpu \(\d+ dB"):
        open_backend(bundle, device="webgpu", threads=1)
    assert closed == ["cpu", "webgpu"]
    backend = open_backend(bundle, threads=1)
    assert backend.device == "cpu"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "continuing without webgpu" in caplog.text
    backend.deactivate()


def recorded(*decibels):
    return tiny_manifest(parity=[{**INT8_ROW, "psnr_db": value} for value in decibels])


@pytest.mark.parametrize(
    ("precision", "rows", "decibels", "within"),
    [
        ("bf16", (), 38.0, True),
        ("bf16", (), 37.9, False),
        ("bf16", (45.0,), 42.9, False),
        ("bf16", (50.0, None), 38.0, True),
        ("int8", (), 60.0, False),
        ("int8", (37.9,), 60.0, False),
        ("int8", (45.0,), 42.0, True),
        ("int8", (45.0,), 41.9, False),
        ("bundle", (), 90.0, True),
        ("bundle", (), 89.9, False),
    ],
)
def test_what_is_near_enough(precision, rows, decibels, within):
    assert is_within_gate(precision, decibels, recorded(*rows)) is within


def test_rows_of_other_graphs_promise_nothing():
    other = tiny_manifest(parity=[{**INT8_ROW, "graph": "encoder+sampler", "psnr_db": 90.0}])
    assert is_within_gate("bf16", 38.0, other)
    assert not is_within_gate("int8", 60.0, other)
