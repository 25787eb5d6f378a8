"""The inverter's own halo: the smallest that is enough, measured on a picture with real detail, and in the manifest."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_export import ExportOptions, export_checkpoint, inverter_halo
from srflow_export.exporter import _with_inverter_halo
from srflow_export.halo import measured_halo
from srflow_export.inverter_halo import InverterHaloRow, collage, in_float32, measured_inverter_halo
from srflow_sdk import Bundle
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.drawing.tiles import plan_tiles
from srflow_training import save_checkpoint
from srflow_training.resampling import reduce_bicubic, round_to_8_bit
from tests.networks import random_srflow, tiny_config

CAT = Path(__file__).resolve().parents[2] / "examples" / "photos" / "cat.png"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("inverter-halo")
    save_checkpoint(folder / "tiny.safetensors", random_srflow(tiny_config()))
    export_checkpoint(folder / "tiny.safetensors", folder / "tiny.srflow", ExportOptions(halo=8))
    return Bundle.open(folder / "tiny.srflow")


def worst(bundle: Bundle, hr: np.ndarray, *, core: int, halo: int) -> tuple[float, float]:
    """Largest difference of a latent, and that of the log density in nats per value, of tiles from the whole."""
    scale, multiple = bundle.manifest.scale, bundle.manifest.size_multiple
    lr = round_to_8_bit(reduce_bicubic(torch.from_numpy(hr), scale)).numpy()
    largest, total = 0.0, 0.0
    with OnnxRuntimeBackend(bundle, device="cpu", threads=1) as backend:
        latents, density = backend.invert(backend.encode(lr), hr)
        for tile in plan_tiles(*lr.shape[2:], core=core, halo=halo, multiple=multiple):
            rows, columns = tile.window.slices
            hr_rows, hr_columns = tile.window.scaled(scale).slices
            part, nats = backend.invert(backend.encode(lr[:, :, rows, columns]), hr[:, :, hr_rows, hr_columns])
            inside, place = tile.core.within(tile.window), tile.core
            for level, whole in latents.items():
                (ys, xs), (own_ys, own_xs) = (
                    tuple(slice(scale * each.start >> level, scale * each.stop >> level) for each in window.slices)
                    for window in (place, inside)
                )
                difference = np.abs(part[level][..., own_ys, own_xs] - whole[..., ys, xs])
                largest = max(largest, float(difference.max()))
            ys, xs = inside.slices
            total += float(nats[..., ys, xs].sum(dtype=np.float64))
    return largest, abs(total - float(density.sum(dtype=np.float64))) / hr.size


def test_the_measured_halo_is_enough_and_the_next_smaller_one_is_not(bundle: Bundle) -> None:
    row, smaller = measured_inverter_halo(bundle)
    assert row.is_enough
    assert smaller is not None
    assert smaller.halo == row.halo - bundle.manifest.size_multiple
    assert not smaller.is_enough
    hr = collage(256)[..., ::-1, :].copy()  # another picture, on all tiles of another plan
    assert worst(bundle, hr, core=16, halo=row.halo)[0] <= 1e-3
    assert worst(bundle, hr, core=16, halo=smaller.halo - 2)[0] > 1e-3


@pytest.mark.slow
def test_graphs_of_half_precision_have_the_halo_of_the_network_not_of_their_rounding(
    bundle: Bundle, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "tiny.safetensors", random_srflow(tiny_config()))
    options = ExportOptions(halo=8, precision="fp16")
    export_checkpoint(tmp_path / "tiny.safetensors", tmp_path / "half.srflow", options)
    half = Bundle.open(tmp_path / "half.srflow")
    assert measured_inverter_halo(half)[0].halo == measured_inverter_halo(bundle)[0].halo
    assert measured_halo(half)[0] == measured_halo(bundle)[0]
    with in_float32(half) as exact:
        kept = exact.path
        assert exact.manifest.precision == "fp32"
    assert not kept.exists()


def test_halos_that_the_usual_ones_do_not_reach_are_found(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = measured_inverter_halo(bundle)
    monkeypatch.setattr(inverter_halo, "_USUAL", 2)
    assert measured_inverter_halo(bundle)[0].halo == expected.halo


def rows(*changes: tuple[float, float]) -> list[InverterHaloRow]:
    return [
        InverterHaloRow(halo=2 * number, max_latent=latent, mean_nats=nats)
        for number, (latent, nats) in enumerate(changes, start=1)
    ]


def test_where_rounding_is_above_the_bounds_the_halo_ends_where_a_wider_one_does_not_help() -> None:
    rounding = rows((0.1, 1e-2), (4e-3, 1e-4), (3e-3, 8e-5), (3e-3, 7e-5), (3e-3, 7e-5), (3e-3, 7e-5))
    assert inverter_halo._chosen(rounding) == 1
    still_falling = rows((0.1, 1e-2), (5e-2, 5e-3), (2e-2, 2e-3), (1e-2, 1e-3), (5e-3, 5e-4), (2e-3, 2e-4))
    assert inverter_halo._chosen(still_falling) is None
    good = rows((0.1, 1e-2), (4e-3, 1e-4), (9e-5, 1e-6), (1e-5, 9e-7), (1e-5, 9e-7), (1e-5, 9e-7))
    assert inverter_halo._chosen(good) == 2


def test_a_network_that_no_halo_is_enough_for_gets_the_largest_and_a_warning(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inverter_halo, "_MAX_LATENT", -1.0)
    monkeypatch.setattr(inverter_halo, "_SETTLED", 1.0)
    with caplog.at_level(logging.WARNING):
        manifest = _with_inverter_halo(bundle, None)
    assert manifest.inverter_halo > 16
    (record,) = caplog.records
    assert "a wider one does not help" in record.message
    assert "\n" not in record.message


def test_either_bound_alone_makes_a_halo_too_small() -> None:
    good = InverterHaloRow(halo=4, max_latent=inverter_halo._MAX_LATENT, mean_nats=inverter_halo._MEAN_NATS)
    assert good.is_enough
    assert not dataclasses.replace(good, max_latent=1.01 * inverter_halo._MAX_LATENT).is_enough
    assert not dataclasses.replace(good, mean_nats=1.01 * inverter_halo._MEAN_NATS).is_enough


def test_latents_that_are_no_numbers_are_no_proof(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    real = OnnxRuntimeBackend.invert

    def broken(self: OnnxRuntimeBackend, conditioning: object, hr: np.ndarray) -> object:
        latents, density = real(self, conditioning, hr)  # type: ignore[arg-type]
        return {level: np.full_like(latent, np.nan) for level, latent in latents.items()}, density

    monkeypatch.setattr(OnnxRuntimeBackend, "invert", broken)
    row, _ = measured_inverter_halo(bundle)
    assert not row.is_enough


def test_the_measurement_goes_into_the_manifest(bundle: Bundle) -> None:
    lines: list[str] = []
    manifest = _with_inverter_halo(bundle, None, say=lines.append)
    record = manifest.provenance["inverter_halo"]
    assert record["measured"]["halo"] == manifest.inverter_halo
    assert record["next_smaller"]["halo"] == manifest.inverter_halo - 2
    assert lines[-1].startswith(f"inverter's halo {manifest.inverter_halo}: ")


def test_a_halo_that_is_named_is_the_inverters_too_and_not_measured(bundle: Bundle) -> None:
    assert bundle.manifest.inverter_halo == 8
    assert "inverter_halo" not in bundle.manifest.provenance


def test_the_embedded_models_tiled_latents_keep_the_promise_on_a_photograph_it_was_not_measured_on() -> None:
    embedded = Bundle.embedded()
    with Image.open(CAT) as photo:
        pixels = np.asarray(photo.convert("RGB"), np.float32)[:144, :216] / 255
    hr = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    latent, nats = worst(embedded, hr, core=16, halo=embedded.manifest.inverter_halo)
    assert latent <= 1e-3
    assert nats <= 1e-4
