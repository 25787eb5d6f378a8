"""The calibration in a manifest: what it says of a pixel, and that it changes neither the model nor older bundles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import Manifest, manifest_digest
from srflow_sdk.model.serving_config import described
from tests.sdk.calibrated import INTERVALS, calibrated


def test_a_calibration_comes_back_and_the_model_stays_the_same(tiny_bundle: Path, tmp_path: Path) -> None:
    before = Bundle.open(tiny_bundle)
    after = Bundle.open(calibrated(tiny_bundle, tmp_path / "calibrated.srflow"))
    assert before.manifest.intervals is None
    assert after.manifest.intervals == INTERVALS
    assert after.model_sha256 == before.model_sha256
    without = dataclasses.replace(after.manifest, intervals=None)
    assert without.to_json() == (tiny_bundle / "manifest.json").read_text(encoding="utf-8")
    content = json.loads((after.path / "manifest.json").read_text("utf-8"))  # as examples/web reads it
    assert content["digest"] == manifest_digest(content) == before.model_sha256
    assert Manifest.from_description(described(after)).intervals == INTERVALS, "as a server tells"


def test_each_class_has_its_factor() -> None:
    deviation = np.array([0.0, 0.5, 3.0, 9.0], np.float32) / 255
    wanted = [5.0 * 1, 5.0 * 1.5, 2.8 * 4, 2.4 * 10]
    np.testing.assert_allclose(INTERVALS.band(8, 0.9)(deviation) * 255, wanted, rtol=1e-6)


def test_factors_are_those_of_the_next_smaller_number_of_samples_and_between_two_coverages() -> None:
    assert INTERVALS.factors_of(7, 0.9) == INTERVALS.factors_of(4, 0.9) == [6.0, 3.0, 3.0, 2.5]
    assert INTERVALS.factors_of(100, 0.9) == INTERVALS.factors_of(8, 0.9)
    np.testing.assert_allclose(INTERVALS.factors_of(8, 0.85), [4.0, 2.3, 2.3, 1.9])


@pytest.mark.parametrize(("n", "coverage"), [(3, 0.9), (8, 0.4), (8, 0.95), (8, float("nan")), (8, 90)])
def test_what_was_not_calibrated_is_refused(n: int, coverage: float) -> None:
    with pytest.raises(ArgumentError, match=r"^(n|coverage) is .*; it must be"):
        INTERVALS.band(n, coverage)
