"""The findings of `diagnose`, from the rows of its results.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srflow_evaluation.calibration import BIN_EDGES, coverage
from srflow_evaluation.latent_statistics import NORMAL_QUANTILES
from srflow_evaluation.results import Row, mean_of
from srflow_sdk.latents.picture_latents import bits_per_dimension

PHOTOGRAPH = "photograph"
"""The input that is one."""

MOMENTS = ("mean", "deviation", "skewness", "kurtosis")


@dataclass(frozen=True, kw_only=True)
class LevelLatents:
    """The latents of one level. moments: means over photographs. quantiles: by photograph, at NORMAL_QUANTILES."""

    level: int
    moments: Mapping[str, float]
    quantiles: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The samples at one τ.

    ranks: share of values at rank 0 … n. coverage: probability promised, share held. bins: `deviation` and `error`, the
    roots of the mean squares, /255, and `share` of values. deviation, error: the same over all values.
    """

    tau: str
    ranks: Sequence[float]
    coverage: Sequence[tuple[float, float]]
    bins: Sequence[Mapping[str, float]]
    deviation: float
    error: float


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """A photograph encoded and decoded. mean, most: error of values, /255. changed: share of 8-bit values.

    levels: by level, mean and largest error of the latents after one more encoding.
    """

    mean: float
    most: float
    changed: float
    levels: Mapping[int, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Bits per dimension of one photograph: the flow's, and those of two densities around bicubic."""

    flow: float | None
    gaussian: float
    laplacian: float


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One kind of input, in the order of photographs. bits, deviations (by level): of those that are finite.

    outside_bits, outside_deviation: how many lie outside of the photographs' range; with broken, those not finite.
    """

    bits: Sequence[float]
    deviations: Mapping[int, Sequence[float]]
    broken: int
    outside_bits: int
    outside_deviation: int


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All of it. broken: photographs whose latents are not finite. nonfinite: values of samples that are not."""

    levels: Sequence[LevelLatents]
    calibration: Sequence[Calibration]
    round_trips: Mapping[str, RoundTrip]
    bits: Mapping[str, Bits]
    bicubic: Mapping[str, float]
    inputs: Mapping[str, Inputs]
    broken: Sequence[str]
    nonfinite: int

    def to_json(self) -> dict[str, Any]:
        """Its part of summary.json; `rows` are the levels."""
        return {
            "rows": [{"level": level.level, **level.moments} for level in self.levels],
            "calibration": [
                {
                    "tau": found.tau,
                    "deviation": found.deviation,
                    "error": found.error,
                    "coverage": [{"promised": promised, "held": held} for promised, held in found.coverage],
                    "ranks": list(found.ranks),
                    "bins": [dict(bin_) for bin_ in found.bins],
                }
                for found in self.calibration
            ],
            "round_trip": {
                name: {
                    "mean": trip.mean,
                    "max": trip.most,
                    "changed": trip.changed,
                    "latents": {str(level): {"mean": pair[0], "max": pair[1]} for level, pair in trip.levels.items()},
                }
                for name, trip in self.round_trips.items()
            },
            "bits_per_dimension": {
                name: {"flow": bits.flow, "gaussian": bits.gaussian, "laplacian": bits.laplacian}
                for name, bits in self.bits.items()
            },
            "bicubic": dict(self.bicubic),
            "inputs": {
                name: {
                    "bits_per_dimension": _mean(kind.bits),
                    "deviation": {str(level): _mean(values) for level, values in kind.deviations.items()},
                    "not_finite": kind.broken,
                    "outside_bits": kind.outside_bits,
                    "outside_deviation": kind.outside_deviation,
                }
                for name, kind in self.inputs.items()
            },
            "photographs_not_finite": list(self.broken),
            "values_not_finite": self.nonfinite,
        }


def diagnosis_of(rows: Sequence[Row]) -> Diagnosis:
    """Put together what was measured of all photographs."""
    photographs = [row for row in rows if row["part"] == "photograph"]
    of_levels = [row for row in rows if row["part"] == "level"]
    of_ranks = [row for row in rows if row["part"] == "ranks"]
    bits, fitted = _bits(photographs)
    return Diagnosis(
        levels=[_level(of_levels, level) for level in _in_order(of_levels, "level")],
        calibration=[_calibration(rows, tau) for tau in _in_order(of_ranks, "tau")],
        round_trips=_round_trips(photographs, of_levels),
        bits=bits,
        bicubic=fitted,
        inputs=_inputs([row for row in rows if row["part"] == "input"]),
        broken=[str(row["picture"]) for row in photographs if "nonfinite" in row],
        nonfinite=int(sum(float(row["nonfinite"]) for row in of_ranks)),
    )


def _in_order(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))


def _level(rows: Sequence[Row], level: str) -> LevelLatents:
    of_level = [row for row in rows if row["level"] == level]
    quantiles = {
        str(row["picture"]): [float(row[f"quantile_{normal:g}"]) for normal in NORMAL_QUANTILES] for row in of_level
    }
    return LevelLatents(level=int(level), moments=mean_of(of_level, MOMENTS), quantiles=quantiles)


def _calibration(rows: Sequence[Row], tau: str) -> Calibration:
    of_tau = [row for row in rows if row["tau"] == tau]
    ranks = [row for row in of_tau if row["part"] == "ranks"]
    names = [name for name in ranks[0] if name.startswith("rank_")]
    shares = list(mean_of(ranks, names).values())
    measured = [row for row in of_tau if row["part"] == "deviation"]
    bins = [found for lower in BIN_EDGES if (found := _pooled(measured, lower))]
    total = sum(found["count"] for found in bins)
    return Calibration(
        tau=tau,
        ranks=shares,
        coverage=coverage(shares),
        bins=[
            {
                "lower": found["lower"],
                "share": found["count"] / total,
                "deviation": math.sqrt(found["variance"]),
                "error": math.sqrt(found["squared_error"]),
            }
            for found in bins
        ],
        deviation=math.sqrt(sum(found["count"] * found["variance"] for found in bins) / total),
        error=math.sqrt(sum(found["count"] * found["squared_error"] for found in bins) / total),
    )


def _pooled(rows: Sequence[Row], lower: float) -> dict[str, float]:
    """The values of all photographs in one bin, or nothing."""
    inside = [row for row in rows if float(row["bin"]) == lower]
    count = sum(float(row["count"]) for row in inside)
    if not count:
        return {}
    sums = {
        name: sum(float(row["count"]) * float(row[name]) for row in inside) for name in ("variance", "squared_error")
    }
    return {"lower": lower, "count": count, **{name: value / count for name, value in sums.items()}}


def _round_trips(photographs: Sequence[Row], of_levels: Sequence[Row]) -> dict[str, RoundTrip]:
    return {
        str(row["picture"]): RoundTrip(
            mean=float(row["round_trip_mean"]),
            most=float(row["round_trip_max"]),
            changed=float(row["round_trip_changed"]),
            levels={
                int(level["level"]): (float(level["round_trip_mean"]), float(level["round_trip_max"]))
                for level in of_levels
                if level["picture"] == row["picture"]
            },
        )
        for row in photographs
        if "round_trip_mean" in row
    }


def _bits(photographs: Sequence[Row]) -> tuple[dict[str, Bits], dict[str, float]]:
    """Bits by photograph, and the deviation and mean absolute error, /255, that were fitted to all of them."""
    values = sum(float(row["values"]) for row in photographs)
    square = sum(float(row["values"]) * float(row["bicubic_mean_square"]) for row in photographs) / values
    absolute = sum(float(row["values"]) * float(row["bicubic_mean_absolute"]) for row in photographs) / values
    least = (1 / 256) ** 2 / 12  # of one 8-bit level spread evenly: pictures that bicubic gets exactly
    variance, size = max(square, least), max(absolute, math.sqrt(least))
    found = {}
    for row in photographs:
        gaussian = 0.5 * math.log(2 * math.pi * variance) + 0.5 * float(row["bicubic_mean_square"]) / variance
        laplacian = math.log(2 * size) + float(row["bicubic_mean_absolute"]) / size
        found[str(row["picture"])] = Bits(
            flow=float(row["bits_per_dimension"]) if "bits_per_dimension" in row else None,
            gaussian=_bits_of_value(-gaussian),
            laplacian=_bits_of_value(-laplacian),
        )
    return found, {"deviation": 255 * math.sqrt(variance), "mean_absolute_error": 255 * size}


def _bits_of_value(nats: float) -> float:
    return bits_per_dimension(3 * nats, height=1, width=1)


def _inputs(rows: Sequence[Row]) -> dict[str, Inputs]:
    names = _in_order(rows, "input")
    columns = ["bits_per_dimension", *sorted({name for row in rows for name in row if name.startswith("deviation_")})]
    photographs = [row for row in rows if row["input"] == PHOTOGRAPH and "bits_per_dimension" in row]
    ranges = {
        name: (min(float(row[name]) for row in photographs), max(float(row[name]) for row in photographs))
        for name in columns
        if photographs
    }

    def outside(row: Row, names: Sequence[str]) -> bool:
        if "bits_per_dimension" not in row:
            return True
        return any(not ranges[name][0] <= float(row[name]) <= ranges[name][1] for name in names if name in ranges)

    found = {}
    for name in names:
        of_kind = [row for row in rows if row["input"] == name]
        finite = [row for row in of_kind if "bits_per_dimension" in row]
        found[name] = Inputs(
            bits=[float(row["bits_per_dimension"]) for row in finite],
            deviations={
                int(column.removeprefix("deviation_")): [float(row[column]) for row in finite] for column in columns[1:]
            },
            broken=len(of_kind) - len(finite),
            outside_bits=sum(outside(row, columns[:1]) for row in of_kind),
            outside_deviation=sum(outside(row, columns[1:]) for row in of_kind),
        )
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
