"""The comparison of networks at equal cost: what it trains for, that it continues, and what its table holds."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = [
    "network.nf=4",
    "network.growth=4",
    "network.blocks=1",
    "data.crop=32",
    "data.batch=1",
    "data.workers=0",
    "data.cache=off",
    "data.narrowest=0",
    "hardware.precision=fp32",
    "hardware.threads=1",
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


def test_a_killed_run_continues_and_then_is_done(curve, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(curve, "relative_cost", lambda *_: 3.0)
    monkeypatch.setitem(curve.STEPS_A_SECOND, "rrdb-x4-small", 6.0)
    arguments = {"budget": 30.0, "photos": photos, "folder": tmp_path / "run"}
    real, lines = print, []

    def stop_at_the_fifth(*values, **options):
        lines.append(values)
        if len(lines) == 5:
            raise KeyboardInterrupt
        real(*values, **options)

    monkeypatch.setattr("builtins.print", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        curve.train("rrdb-x4-small", TINY, **arguments)
    log = curve.train("rrdb-x4-small", TINY, **arguments)
    assert log["iterations"] == 60
    assert [values[0].split(",")[0] for values in lines[:5]] == [f"run: rrdb-x4-small {i} of 60" for i in range(1, 6)]
    assert lines[5][0].startswith("run: rrdb-x4-small 5 of 60")  # the fifth was not saved
    spent = [seconds for _, seconds in sorted(log["spent"].items(), key=lambda item: int(item[0]))]
    assert len(spent) == 61
    assert spent == sorted(spent)
    count = len(lines)
    assert curve.train("rrdb-x4-small", TINY, **arguments) == log
    assert len(lines) == count
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "states").exists()


def test_a_costly_network_gets_fewer_steps(curve, photos):
    assert curve.relative_cost("rrdb-x4-small", TINY, photos) < 0.5  # the preset itself is much larger


def test_a_run_with_another_budget_is_refused(curve, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(curve, "relative_cost", lambda *_: 1.0)
    curve.train("rrdb-x4-small", TINY, budget=1.0, photos=photos, folder=tmp_path / "run")
    with pytest.raises(SystemExit, match="another budget"):
        curve.train("rrdb-x4-small", TINY, budget=2.0, photos=photos, folder=tmp_path / "run")


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
        encoder = curve.load_settings("rrdb-x4-small", [*curve.BASE["rrdb-x4-small"], *candidate.network])
        flow = curve.load_settings("x4-small", [*curve.BASE["x4-small"], *candidate.network, *candidate.flow])
        for field in ("nf", "growth", "blocks", "unshuffle"):
            assert getattr(encoder.config(), field) == getattr(flow.config(), field)


def test_the_table_has_what_was_measured_and_what_failed(curve, tmp_path):
    for name, row in (
        ("baseline", {"name": "baseline", "differs": "base", "psnr": 25.125, "nonfinite": 0}),
        ("6-steps", {"name": "6-steps", "differs": "network.steps=6", "failed": "it diverged"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(row))
    lines = curve.table(tmp_path).splitlines()
    assert lines[0] == "| name | differs in | PSNR, τ=0 | not finite |"
    assert lines[2] == "| baseline | base | 25.12 | 0 |"
    assert lines[3] == "| 6-steps | failed: it diverged |  |  |"
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2
