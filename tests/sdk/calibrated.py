"""A calibration as `srflow-eval calibrate` writes it, with round numbers."""

from __future__ import annotations

from pathlib import Path

from srflow_sdk.model.manifest import Intervals

from .tiny_bundle import with_manifest

INTERVALS = Intervals(
    floor=1.0,
    classes=(1.0, 2.0, 4.0),
    samples=(4, 8),
    coverage=(0.5, 0.8, 0.9),
    factors=(
        ((2.0, 4.0, 6.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (0.5, 1.5, 2.5)),
        ((1.0, 3.0, 5.0), (0.8, 1.8, 2.8), (0.8, 1.8, 2.8), (0.4, 1.4, 2.4)),
    ),
    photographs=40,
)


def calibrated(bundle: Path, target: Path) -> Path:
    """A copy of a bundle with it."""
    return with_manifest(bundle, target, intervals=INTERVALS)
