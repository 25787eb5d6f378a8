"""The comparison of networks at equal cost: what it trains for, and what its table holds."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = [
    "network.nf=4",
    "network.blocks=1",
    "data.crop=32",
    "data.batch=1",
    "data.narrowest=0",
    "hardware.precision=fp32",
]


@pytest.fixture
def curve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("network_curve")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    return folder


@pytest.mark.slow
def test_a_costly_network_gets_fewer_steps(curve, photos, tmp_path, monkeypatch):
    folders = {"photos": photos, "cache": tmp_path / "cache"}
    cost = curve.relative_cost(curve.ENCODER, TINY, curve.Candidate(), **folders)
    assert cost < 0.5  # the preset itself is much larger
    monkeypatch.setattr(curve, "relative_cost", lambda *_, **__: 3.0)
    monkeypatch.setitem(curve.STEPS_A_SECOND, curve.ENCODER, 6.0)
    run = {"budget": 15.0, "out": tmp_path / "run"}
    assert curve.trained(curve.ENCODER, TINY, curve.Candidate(), **run, **folders) == 30
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_the_gate_changes_the_blocks_within_its_context_alone(curve):
    block, x = curve.PlainBlock(4), torch.ones(1, 4, 5, 5)
    plain = block(x)
    with curve.Candidate(gate=True).blocks():
        assert not torch.equal(block(x), plain)
    assert torch.equal(block(x), plain)


def test_the_most_detailed_crops_of_a_photograph_are_held_out(curve, tmp_path):
    network_photos = importlib.import_module("network_photos")
    pixels = np.full((512, 1024, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    busy = [(0, 256), (0, 768), (256, 0), (256, 512)]
    for y, x in busy:
        pixels[y : y + 256, x : x + 256] = noise
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "crops").mkdir()
    network_photos.write_crops(tmp_path / "photo.png", tmp_path / "crops")
    crops = sorted((tmp_path / "crops").iterdir())
    assert len(crops) == 4
    assert all(np.array_equal(np.asarray(Image.open(crop)), noise) for crop in crops)


def test_the_settings_of_every_candidate_are_valid(curve):
    for candidate in curve.CANDIDATES.values():
        encoder = curve.load_settings(curve.ENCODER, list(candidate.network))
        flow = curve.load_settings(curve.FLOW, [*candidate.network, *candidate.flow])
        for field in ("nf", "blocks"):
            assert getattr(encoder.config(), field) == getattr(flow.config(), field)


def test_the_table_is_in_the_order_of_the_candidates(curve):
    rows = [
        {"candidate": name, "differs in": name, "PSNR, τ = 0": psnr} for name, psnr in (("deep", 25.5), ("base", 25))
    ]
    assert curve.table(rows).splitlines() == [
        "| candidate | differs in | PSNR, τ = 0 |",
        "| --- | --- | --- |",
        "| base | base | 25 |",
        "| deep | deep | 25.5 |",
    ]
