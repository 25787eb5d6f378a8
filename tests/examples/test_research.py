"""examples/research.py, run as its users run it: its table and its figure."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments):
    command = [sys.executable, EXAMPLES / "research.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_noise_is_unlikely_and_samples_are_as_likely_as_their_temperature_says(tmp_path):
    with Image.open(EXAMPLES / "photos" / "cat.png") as cat:
        cat.convert("RGB").crop((60, 20, 165, 120)).save(tmp_path / "cat.png")
    (tmp_path / "text.png").write_text("no picture")
    done = run(
        tmp_path / "cat.png", tmp_path / "text.png", "-o", tmp_path / "out", "--model", "x4-small"
    )
    assert done.returncode == 1  # one photo is left out, and what was measured is kept
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "text.png" in error
    with (tmp_path / "out" / "likelihoods.csv").open(newline="") as file:
        rows = {row["picture"]: row for row in csv.DictReader(file)}
    assert {row["photo"] for row in rows.values()} == {"cat.png"}
    bits = {name: float(row["bits_per_dimension"]) for name, row in rows.items()}
    assert bits["photo"] < bits["noise 2"] < bits["noise 8"]
    assert bits["blur"] < bits["photo"]
    assert bits["sample τ 0.5"] < bits["sample τ 0.8"] < bits["sample τ 1"]
    for level in (1, 2, 3):
        deviation = {name: float(row[f"deviation_level{level}"]) for name, row in rows.items()}
        for tau in (0.5, 0.8, 1):
            # values below 0 are clipped, which moves a few latents far
            assert deviation[f"sample τ {tau}"] == pytest.approx(tau, abs=0.15)
        assert deviation["noise 8"] > deviation["photo"]
    assert float(rows["sample τ 1"]["kurtosis_level1"]) == pytest.approx(3, abs=0.5)
    assert done.stdout.count("bits per dimension") == len(rows) == 9
    with Image.open(tmp_path / "out" / "likelihoods.png") as figure:
        assert figure.width > 1000
        assert len(figure.convert("RGB").getcolors(1 << 24)) > 50


def test_a_photo_that_cannot_be_used_is_one_line(tmp_path):
    Image.new("RGB", (15, 40)).save(tmp_path / "tiny.png")
    done = run(tmp_path / "tiny.png", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "has 15×40 pixels: choose photos of at least 16 pixels a side" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
