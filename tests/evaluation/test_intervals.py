"""srflow-eval calibrate and coverage: the rule keeps its promise, and the bundle gets what it
chose."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation import intervals as protocol
from srflow_evaluation.cli import evaluate
from srflow_evaluation.default_tau import Choice, write
from srflow_evaluation.intervals import CLASSES, COVERAGE, SAMPLES, choose, least_factor, scores_of
from srflow_sdk import Bundle, Upscaler
from tests.sdk.calibrated import calibrated
from tests.sdk.tiny_bundle import write_tiny_bundle

GRID = np.linspace(0, 8, 161)


def missed_of(rng, photographs):
    """Draw photographs whose errors differ in size, and the shares that they miss at each
    factor."""
    sizes = np.exp(0.4 * rng.standard_normal(photographs))[:, None]
    errors = np.abs(rng.standard_normal((photographs, 150))) * sizes
    return np.stack([(errors > factor).mean(axis=1) for factor in GRID], axis=1)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_the_rule_holds_the_promise_for_exchangeable_photographs(coverage):
    """On average over calibrations of forty and one photograph more, in float64.

    And wastes little.
    """
    rng = np.random.default_rng(1)
    held = []
    for _ in range(150):
        missed = missed_of(rng, 41)
        held.append(1 - missed[40, least_factor(missed[:40], np.ones(40), coverage)])
    error = np.std(held) / np.sqrt(len(held))
    assert coverage - 2 * error <= np.mean(held) <= coverage + (1 - coverage + 1) / 41 + 2 * error


def photographs(rng, count, *, flat=0.5):
    """Scores of samples that are too sure, by a factor of their class.

    For each number of samples.
    """
    found = [[] for _ in SAMPLES]
    for number in range(count):
        spread = np.where(rng.random((12, 12, 3)) < flat, 0.5, 5.0) / 255
        middle = 0.5 + 0.1 * rng.standard_normal((12, 12, 3))
        size = np.exp(0.2 * rng.standard_normal())
        truth = middle + np.where(spread < 2 / 255, 6.0, 2.0) * size * spread * rng.standard_normal(
            spread.shape
        )
        samples = (middle + spread * rng.standard_normal((max(SAMPLES), *spread.shape))).astype(
            np.float32
        )
        for scores, n in zip(found, SAMPLES, strict=True):
            scores.append(
                scores_of(f"{'ab'[number % 2]}/{number}", samples[:n], truth.astype(np.float32)),
            )
    return found


@pytest.fixture(scope="module")
def found():
    return photographs(np.random.default_rng(0), 80)


@pytest.fixture(scope="module")
def chosen(found):
    return choose(found)


def test_a_calibration_covers_photographs_that_it_has_not_seen(chosen):
    """Of each number of samples, at the coverage that tables show."""
    for scores in photographs(np.random.default_rng(9), 80):
        held = [each.measure_held(chosen).sum() for each in scores]
        assert 0.88 <= np.mean(held) <= 0.95
        assert np.mean([each.plain.sum() for each in scores]) < 0.6


def test_factors_rise_with_coverage_and_fall_with_samples(chosen):
    factors = np.array(chosen.factors)
    assert factors.shape == (len(SAMPLES), len(CLASSES) + 1, len(COVERAGE))
    assert (np.diff(factors, axis=2) >= 0).all()
    assert (factors[0, 0] >= factors[2, 0])[4:].all()
    assert factors[1, 0, 5] > factors[1, 3, 5]  # of flat areas, which are the surest


def test_few_photographs_show_no_large_coverage():
    found = photographs(np.random.default_rng(0), 50)
    assert [max(choose([s[:count] for s in found]).coverage) for count in (40, 49, 50)] == [
        0.95,
        0.95,
        0.98,
    ]


def test_scores_are_the_distances_in_deviations():
    rng = np.random.default_rng(0)
    samples = rng.uniform(0.4, 0.6, (8, 5, 4, 3)).astype(np.float32)
    truth = rng.uniform(0.3, 0.7, (5, 4, 3)).astype(np.float32)
    scores = scores_of("a", samples, truth)
    score = np.abs(truth - samples.mean(0)) * 255 / (samples.std(0, ddof=1) * 255 + 1)
    assert scores.shares.sum() == 1
    for factor in (0.5, 1.0, 2.5):
        at = np.searchsorted(protocol._GRID, factor)
        assert scores.missed[:, at].sum() == pytest.approx((score > protocol._GRID[at]).mean())


@pytest.fixture
def folder(tmp_path):
    """Photographs of two kinds."""
    rng = np.random.default_rng(0)
    for number in range(3):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "photos"


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_the_command_writes_the_calibration_alone_into_the_bundle(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(protocol, "LEAST", 3)
    monkeypatch.setattr(protocol, "_SHOWN", 0.6)  # what three photographs can show
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    before = json.loads((bundle / "manifest.json").read_text())
    del before["round_trip_db"]  # as of a bundle that is older than a field
    result = run("coverage", "--model", bundle, "--hr", folder)
    assert result.exit_code == 0, result.output
    assert Bundle.open(bundle).manifest.intervals is None
    result = run("calibrate", "--model", bundle, "--hr", folder, "--degradation", "jpeg:50")
    assert result.exit_code == 0, result.output
    assert "3 of 3, jpeg:50" in result.stderr
    after = json.loads((bundle / "manifest.json").read_text())
    assert {name for name in after if after[name] != before.get(name)} <= {
        "intervals",
        "digest",
        "round_trip_db",
    }
    opened = Bundle.open(bundle)
    assert opened.model_sha256 == before["digest"]
    assert opened.manifest.intervals.photographs == 3
    with Upscaler(opened, device="cpu", threads=1) as upscaler:
        low, high = upscaler.encode(np.full((16, 16, 3), 90, np.uint8)).interval(8, coverage=0.5)
    assert (low < high).any()
    again = run("coverage", "--model", bundle, "--hr", folder, "--degradation", "jpeg:50")
    assert again.stdout == result.stdout


def test_another_default_temperature_forgets_the_calibration(tmp_path):
    bundle = calibrated(write_tiny_bundle(tmp_path / "m.srflow"), tmp_path / "calibrated.srflow")
    choice = Choice(tau=0.5, auto=False, reason="", points=())
    assert write(Bundle.open(bundle), choice, bundle).manifest.intervals is None


def test_a_bundle_whose_default_is_0_has_no_intervals(tmp_path, folder):
    source = Bundle.open(write_tiny_bundle(tmp_path / "tiny.srflow"))
    choice = Choice(tau=0.0, auto=False, reason="", points=())
    write(source, choice, tmp_path / "still.srflow")
    result = run("coverage", "--model", tmp_path / "still.srflow", "--hr", folder)
    assert result.exit_code == 1
    assert "default temperature is 0, where all samples are the same" in result.output
    assert result.output.count("\n") == 1, "nothing was measured"


def test_too_few_photographs_are_refused_before_one_is_measured(tmp_path, folder):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    result = run("calibrate", "--model", bundle, "--hr", folder)
    assert result.output == "error: --hr has 3 photographs; a calibration needs at least 40\n"


def test_centres_are_as_large_as_asked_for(tmp_path, folder, monkeypatch):
    seen = []
    scores = protocol.scores_of
    monkeypatch.setattr(
        protocol,
        "scores_of",
        lambda name, samples, truth: seen.append(truth.shape) or scores(name, samples, truth),
    )
    for path in folder.rglob("*.png"):
        Image.open(path).resize((96, 80)).save(path)
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    for size, shape in (([], (80, 96, 3)), (["--crop", 64], (64, 64, 3))):
        seen.clear()
        assert run("coverage", "--model", bundle, "--hr", folder, *size).exit_code == 0
        assert set(seen) == {shape}
