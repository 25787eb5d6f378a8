"""The measured halo: the smallest that is enough, proved on real photographs, and in the manifest."""

import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_export import halo
from srflow_export.cli import main
from srflow_export.exporter import _with_measured_halo
from srflow_export.halo import HaloRow, Whole, differences, measured_halo, whole
from srflow_export.parity._photos import photographs
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.drawing.tiles import Tile, Window, plan_tiles
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_training import save_checkpoint
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import REACH, tiny_manifest, write_tiny_bundle

CAT = Path(__file__).resolve().parents[2] / "examples" / "photos" / "cat.png"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("halo") / "tiny.srflow"))


@pytest.fixture(scope="module")
def measured(bundle):
    return measured_halo(bundle)


@pytest.fixture
def one_photograph(monkeypatch):
    """Measure on one photograph: what does not depend on them takes a quarter of the time with one."""
    monkeypatch.setattr(halo, "photographs", lambda multiple: photographs(multiple)[:1])


def worst(bundle, lr, *, core, reach, tau):
    """Largest and mean difference over all tiles of a picture."""
    with OnnxRuntimeBackend(bundle, device="cpu", threads=1) as backend:
        reference = whole(backend, bundle.manifest, lr, taus=(tau,), seed=9)
        tiles = plan_tiles(*lr.shape[2:], core=core, halo=reach, multiple=bundle.manifest.size_multiple)
        parts = [differences(backend, bundle.manifest, reference, tile)[tau] for tile in tiles]
    values = np.concatenate([part.ravel() for part in parts])
    assert values.size == reference.pictures[tau].size
    return values.max(), values.mean(dtype=np.float64)


def test_the_measured_halo_is_enough_and_the_next_smaller_one_is_not(bundle, measured):
    row, smaller = measured
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


@pytest.mark.slow
def test_a_halo_that_the_parts_of_the_photographs_are_too_small_for_is_found_on_all_of_them(
    bundle, measured, monkeypatch
):
    expected, _ = measured
    monkeypatch.setattr(halo, "_USUAL", expected.halo - 2)
    row, smaller = measured_halo(bundle)
    assert (row.is_enough, row.halo) == (True, expected.halo)
    assert smaller is not None
    assert smaller.halo == row.halo - 2


def test_a_network_that_no_halo_is_enough_for_gets_the_largest_and_a_warning(
    bundle, one_photograph, monkeypatch, caplog
):
    monkeypatch.setattr(halo, "_MAX_ABS", -1.0)
    with caplog.at_level(logging.WARNING):
        manifest = _with_measured_halo(bundle)
    assert manifest.halo == manifest.provenance["halo"]["measured"]["halo"] == 64
    (record,) = caplog.records
    assert "expect seams" in record.message
    assert "\n" not in record.message


@pytest.mark.parametrize(("multiple", "halo_of_network"), [(16, 16), (32, 32), (64, 64)])
def test_networks_of_large_multiples_get_a_halo_too(one_photograph, tmp_path, multiple, halo_of_network):
    coarse = write_tiny_bundle(tmp_path / "coarse.srflow", size_multiple=multiple)
    row, _ = measured_halo(Bundle.open(coarse))
    assert row.halo == halo_of_network
    assert row.is_enough is (multiple < 64)  # the photographs are too small for 64, and a warning says so


def test_the_mean_alone_can_make_a_halo_too_small():
    good = HaloRow(halo=4, max_abs=halo._MAX_ABS, mean_abs=halo._MEAN_ABS, compared=1)
    assert good.is_enough
    assert not HaloRow(halo=4, max_abs=0.0, mean_abs=1.01 * halo._MEAN_ABS, compared=1).is_enough


def test_photographs_on_which_the_network_diverges_prove_nothing(one_photograph, tmp_path):
    wild = Bundle.open(write_tiny_bundle(tmp_path / "wild.srflow", gain=1e38))
    row, smaller = measured_halo(wild)
    assert (row.halo, row.compared, row.is_enough) == (64, 0, False)
    assert smaller is None


class Constant(Backend):
    """Gives the same value everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def activate_impl(self):
        pass

    def deactivate_impl(self):
        pass

    def encode_impl(self, lr):
        return lr

    def sample_impl(self, conditioning, noise, tau):
        height, width = conditioning.shape[2:]
        return np.full((1, 3, 4 * height, 4 * width), self.value, np.float32)


@pytest.mark.parametrize(("value", "expected"), [(0.75, 0.25), (3.0, 0.5), (np.nan, 1.0), (np.inf, 0.5)])
def test_differences_are_of_clipped_pictures_and_count_what_is_no_number_fully(value, expected):
    square = Window(top=0, left=0, height=8, width=8)
    reference = Whole(
        lr=np.zeros((1, 3, 16, 16), np.float32), seed=0, pictures={0.8: np.full((3, 64, 64), 0.5, np.float32)}
    )
    with Constant(value) as backend:
        found = differences(backend, tiny_manifest(), reference, Tile(core=square, window=square))
    assert found[0.8].shape == (3, 32, 32)
    assert (found[0.8] == np.float32(expected)).all()


def test_the_measurement_goes_into_the_manifest(bundle):
    lines = []
    manifest = _with_measured_halo(bundle, say=lines.append)
    record = manifest.provenance["halo"]
    assert record["measured"]["halo"] == manifest.halo
    assert record["measured"]["max_abs"] <= halo._MAX_ABS
    assert record["measured"]["mean_abs"] <= halo._MEAN_ABS
    assert record["next_smaller"]["halo"] == manifest.halo - 2
    assert lines[0].startswith(f"halo {manifest.halo}: ")
    assert Manifest.from_json(manifest.to_json()).provenance == manifest.provenance


def test_a_halo_that_is_named_is_not_measured(tmp_path, monkeypatch):
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, random_srflow(tiny_config()))
    monkeypatch.setattr(halo, "photographs", lambda _multiple: pytest.fail("measured"))
    result = CliRunner().invoke(main, ["--ckpt", str(checkpoint), "-o", str(tmp_path / "m.srflow"), "--halo", "22"])
    assert result.exit_code == 0, result.output
    manifest = Bundle.open(tmp_path / "m.srflow").manifest
    assert manifest.halo == 22
    assert "halo" not in manifest.provenance


def test_the_embedded_model_keeps_the_promise_on_a_photograph_that_its_halo_was_not_measured_on():
    embedded = Bundle.embedded()
    with Image.open(CAT) as photo:
        pixels = np.asarray(photo.convert("RGB"), np.float32)[:80, :80] / 255
    lr = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    largest, mean = worst(embedded, lr, core=40, reach=embedded.manifest.halo, tau=1.0)
    assert largest <= 2 / 255
    assert mean <= 0.02 / 255
