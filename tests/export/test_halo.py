"""The measured halos of pictures and of latents: the smallest that is enough, on real photographs,
in the manifest."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_export import ExportOptions, export_checkpoint, halo
from srflow_export.halo import (
    HaloRow,
    InverterHaloRow,
    difference,
    draw_window,
    measure_halo,
    measure_inverter_halo,
)
from srflow_export.parity.gate import float32_backend
from srflow_export.parity.photographs import collage, photographs
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.geometry.tiles import plan_tiles
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_training.resampling import reduce_bicubic, round_to_8_bit
from tests.export.running import run, save_tiny
from tests.sdk.tiny_bundle import REACH, write_tiny_bundle

CAT = Path(__file__).resolve().parents[2] / "examples" / "photos" / "cat.png"


def measure(bundle):
    with float32_backend(bundle) as backend:
        return measure_halo(backend, bundle.manifest)


def measure_inverter(bundle):
    with float32_backend(bundle) as backend:
        return measure_inverter_halo(backend, bundle.manifest)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("halo") / "tiny.srflow"))


@pytest.fixture(scope="module")
def found(bundle):
    return measure(bundle)


@pytest.fixture
def one_photograph(monkeypatch):
    """Measure on one photograph: what does not depend on them takes a quarter of the time with
    one."""
    monkeypatch.setattr(halo, "photographs", lambda multiple: photographs(multiple)[:1])


def worst(bundle, lr, *, core, reach, tau):
    """Largest and mean difference over all tiles of a picture."""
    with OnnxRuntimeBackend(bundle, device="cpu", threads=1) as backend:
        multiple = bundle.manifest.size_multiple
        scale = bundle.manifest.scale
        parts = []
        (everything,) = plan_tiles(*lr.shape[2:], core=None, halo=0, multiple=multiple)
        whole = draw_window(backend, bundle.manifest, lr, everything.window, taus=(tau,), seed=9)[
            tau
        ]
        for tile in plan_tiles(*lr.shape[2:], core=core, halo=reach, multiple=multiple):
            rows, columns = tile.core.within(tile.window).scaled(scale).slices
            place = tile.core.scaled(scale).slices
            picture = draw_window(backend, bundle.manifest, lr, tile.window, taus=(tau,), seed=9)[
                tau
            ][:, rows, columns]
            parts.append(difference(picture, whole[(slice(None), *place)]))
    values = np.concatenate([part.ravel() for part in parts])
    assert values.size == whole.size
    return values.max(), values.mean(dtype=np.float64)


def test_the_measured_halo_is_enough_and_the_next_smaller_one_is_not(bundle, found):
    row, smaller = found
    assert row.is_enough
    assert row.halo <= REACH  # nothing reaches further
    assert smaller is not None
    assert smaller.halo == row.halo - bundle.manifest.size_multiple
    assert not smaller.is_enough
    assert smaller.max_abs > halo._MAX_ABS
    assert row.compared == len(photographs(2)) * 3
    # and elsewhere: on all tiles of another plan
    lr = photographs(2)[0].lr[..., :64, :48]
    assert worst(bundle, lr, core=16, reach=row.halo, tau=0.8)[0] <= 2 * halo._MAX_ABS
    assert worst(bundle, lr, core=16, reach=smaller.halo, tau=0.8)[0] > 2 * halo._MAX_ABS


def test_a_photograph_that_needs_a_larger_halo_is_measured_again_and_later_ones_no_larger(
    bundle, found, monkeypatch
):
    largest = []
    real = halo._measure_photo
    monkeypatch.setattr(halo, "_LARGEST", (found[0].halo - 2, 64))
    monkeypatch.setattr(
        halo,
        "_measure_photo",
        lambda *args, **size: largest.append(size["largest"]) or real(*args, **size),
    )
    row, smaller = measure(bundle)
    assert (row.is_enough, row.halo, smaller.halo) == (True, found[0].halo, found[0].halo - 2)
    assert largest.count(64) == 1
    assert largest[-1] == row.halo


def test_a_network_that_no_halo_is_enough_for_gets_the_largest_and_a_warning(
    bundle, one_photograph, monkeypatch, caplog
):
    monkeypatch.setattr(halo, "_MAX_ABS", -1.0)
    with caplog.at_level(logging.WARNING), float32_backend(bundle) as backend:
        manifest = halo.add_halo(bundle.manifest, backend, say=print)
    assert manifest.halo == manifest.provenance["halo"]["measured"]["halo"] == 64
    (record,) = caplog.records
    assert "expect seams" in record.message
    assert "\n" not in record.message


@pytest.mark.parametrize(("multiple", "halo_of_network"), [(16, 16), (64, 64)])
def test_networks_of_large_multiples_get_a_halo_too(
    one_photograph, tmp_path, multiple, halo_of_network
):
    coarse = write_tiny_bundle(tmp_path / "coarse.srflow", size_multiple=multiple)
    row, _ = measure(Bundle.open(coarse))
    assert row.halo == halo_of_network
    # the photographs are too small for 64, and a warning says so
    assert row.is_enough is (multiple < 64)


def test_photographs_on_which_the_network_diverges_prove_nothing(one_photograph, tmp_path):
    wild = Bundle.open(write_tiny_bundle(tmp_path / "wild.srflow", gain=1e38))
    row, smaller = measure(wild)
    assert (row.halo, row.compared, row.is_enough) == (64, 0, False)
    assert smaller is None


def test_the_measurement_goes_into_the_manifest(bundle):
    lines = []
    with float32_backend(bundle) as backend:
        manifest = halo.add_halo(bundle.manifest, backend, say=lines.append)
    record = manifest.provenance["halo"]
    assert record["measured"]["halo"] == manifest.halo
    assert record["measured"]["max_abs"] <= halo._MAX_ABS
    assert record["measured"]["mean_abs"] <= halo._MEAN_ABS
    assert record["next_smaller"]["halo"] == manifest.halo - 2
    assert lines[-1].startswith(f"halo {manifest.halo}: ")
    assert Manifest.from_json(manifest.to_json()).provenance == manifest.provenance


def test_a_halo_that_is_named_is_not_measured(tmp_path, monkeypatch):
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    monkeypatch.setattr(halo, "photographs", lambda _multiple: pytest.fail("measured"))
    result = run(checkpoint, "-o", tmp_path / "m.srflow", "--halo", 22)
    assert result.exit_code == 0, result.output
    manifest = Bundle.open(tmp_path / "m.srflow").manifest
    assert manifest.halo == manifest.inverter_halo == 22
    assert not {"halo", "inverter_halo"} & manifest.provenance.keys()


@pytest.fixture(scope="module")
def inverting(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("inverter-halo")
    checkpoint = save_tiny(folder / "tiny.safetensors")
    export_checkpoint(checkpoint, folder / "tiny.srflow", ExportOptions(halo=8))
    return Bundle.open(folder / "tiny.srflow")


def worst_latents(
    inverting: Bundle, hr: np.ndarray, *, core: int, reach: int
) -> tuple[float, float]:
    """Largest difference of a latent, and that of the log density in nats per value, of tiles from
    the whole."""
    scale = inverting.manifest.scale
    multiple = inverting.manifest.size_multiple
    lr = round_to_8_bit(reduce_bicubic(torch.from_numpy(hr), scale)).numpy()
    largest = 0.0
    total = 0.0
    with OnnxRuntimeBackend(inverting, device="cpu", threads=1) as backend:
        latents, density = backend.invert(backend.encode(lr), hr)
        for tile in plan_tiles(*lr.shape[2:], core=core, halo=reach, multiple=multiple):
            rows, columns = tile.window.slices
            hr_rows, hr_columns = tile.window.scaled(scale).slices
            part, nats = backend.invert(
                backend.encode(lr[:, :, rows, columns]), hr[:, :, hr_rows, hr_columns]
            )
            inside = tile.core.within(tile.window)
            place = tile.core
            for level, whole in latents.items():
                (ys, xs), (own_ys, own_xs) = (
                    tuple(
                        slice(scale * each.start >> level, scale * each.stop >> level)
                        for each in window.slices
                    )
                    for window in (place, inside)
                )
                difference = np.abs(part[level][..., own_ys, own_xs] - whole[..., ys, xs])
                largest = max(largest, float(difference.max()))
            ys, xs = inside.slices
            total += float(nats[..., ys, xs].sum(dtype=np.float64))
    return largest, abs(total - float(density.sum(dtype=np.float64))) / hr.size


def test_the_measured_halo_of_latents_is_enough_and_the_next_smaller_one_is_not(
    inverting: Bundle,
) -> None:
    row, smaller = measure_inverter(inverting)
    with float32_backend(inverting) as backend:
        manifest = halo.add_inverter_halo(inverting.manifest, backend, say=print)
    assert manifest.provenance["inverter_halo"]["measured"]["halo"] == row.halo
    assert row.is_enough
    assert smaller is not None
    assert smaller.halo == row.halo - inverting.manifest.size_multiple
    assert not smaller.is_enough
    hr = collage(256)[..., ::-1, :].copy()  # another picture, on all tiles of another plan
    assert worst_latents(inverting, hr, core=16, reach=row.halo)[0] <= 1e-3
    assert worst_latents(inverting, hr, core=16, reach=smaller.halo - 2)[0] > 1e-3


@pytest.mark.slow
def test_graphs_of_half_precision_have_the_halo_of_the_network_not_of_their_rounding(
    inverting: Bundle, tmp_path: Path
) -> None:
    checkpoint = save_tiny(tmp_path / "tiny.safetensors")
    options = ExportOptions(halo=8, precision="fp16")
    export_checkpoint(checkpoint, tmp_path / "half.srflow", options)
    half = Bundle.open(tmp_path / "half.srflow")
    assert measure_inverter(half)[0].halo == measure_inverter(inverting)[0].halo
    assert measure(half)[0] == measure(inverting)[0]


def test_halos_that_the_usual_ones_do_not_reach_are_found(
    inverting: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = measure_inverter(inverting)
    monkeypatch.setattr(halo, "_LARGEST_OF_INVERTERS", (2, 64))
    assert measure_inverter(inverting)[0].halo == expected.halo


def rows(*changes: tuple[float, float]) -> list[InverterHaloRow]:
    return [
        InverterHaloRow(halo=2 * number, max_latent=latent, mean_nats=nats)
        for number, (latent, nats) in enumerate(changes, start=1)
    ]


def test_where_rounding_is_above_the_bounds_the_halo_ends_where_a_wider_one_does_not_help() -> None:
    rounding = rows(
        (0.1, 1e-2), (4e-3, 1e-4), (3e-3, 8e-5), (3e-3, 7e-5), (3e-3, 7e-5), (3e-3, 7e-5)
    )
    assert halo._choose_row(rounding) == 1
    still_falling = rows(
        (0.1, 1e-2), (5e-2, 5e-3), (2e-2, 2e-3), (1e-2, 1e-3), (5e-3, 5e-4), (2e-3, 2e-4)
    )
    assert halo._choose_row(still_falling) is None
    good = rows((0.1, 1e-2), (4e-3, 1e-4), (9e-5, 1e-6), (1e-5, 9e-7), (1e-5, 9e-7), (1e-5, 9e-7))
    assert halo._choose_row(good) == 2


@pytest.mark.parametrize(
    "good",
    [
        HaloRow(halo=4, max_abs=halo._MAX_ABS, mean_abs=halo._MEAN_ABS, compared=1),
        InverterHaloRow(halo=4, max_latent=halo._MAX_LATENT, mean_nats=halo._MEAN_NATS),
    ],
)
def test_either_bound_alone_makes_a_halo_too_small(good: HaloRow | InverterHaloRow) -> None:
    assert good.is_enough
    for name, value in list(dataclasses.asdict(good).items())[1:3]:
        assert not dataclasses.replace(good, **{name: 1.01 * value}).is_enough


def test_the_embedded_models_tiled_latents_keep_the_promise_on_another_photograph() -> None:
    embedded = Bundle.embedded()
    with Image.open(CAT) as photo:
        pixels = np.asarray(photo.convert("RGB"), np.float32)[:144, :216] / 255
    hr = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    latent, nats = worst_latents(embedded, hr, core=16, reach=embedded.manifest.inverter_halo)
    assert latent <= 1e-3
    assert nats <= 1e-4
