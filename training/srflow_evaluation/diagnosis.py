"""The findings of `diagnose`, from the rows of its results.csv: its part of summary.json, and the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from srflow_evaluation.output import Table
from srflow_evaluation.results import Row, mean_of
from srflow_evaluation.statistics import NORMAL_QUANTILES, coverage
from srflow_sdk.latents.picture_latents import bits_per_dimension

PHOTOGRAPH = "photograph"
"""The input that is one."""

MOMENTS = ("mean", "deviation", "skewness", "kurtosis")

Findings = dict[str, Any]
"""As they stand in summary.json; `rows` are the levels of the latents."""

_CLOSE = 0.1  # a deviation or a ratio within 10 % of what it should be
_QUANTILES = [f"quantile_{normal:g}" for normal in NORMAL_QUANTILES]


def findings(rows: Sequence[Row]) -> Findings:
    """Put together what was measured of all photographs."""
    photographs = [row for row in rows if row["part"] == "photograph"]
    of_levels = [row for row in rows if row["part"] == "level"]
    of_ranks = [row for row in rows if row["part"] == "ranks"]
    bits, bicubic = _bits(photographs)
    levels = []
    for level in _in_order(of_levels, "level"):
        means = mean_of([row for row in of_levels if row["level"] == level], [*MOMENTS, *_QUANTILES])
        ends = [means.pop(name) for name in _QUANTILES]
        levels.append({"level": int(level), **means, "ends": ends})
    return {
        "rows": levels,
        "calibration": [_calibration(rows, tau) for tau in _in_order(of_ranks, "tau")],
        "round_trip": _round_trips(photographs, of_levels),
        "bits_per_dimension": bits,
        "bicubic": bicubic,
        "inputs": _inputs([row for row in rows if row["part"] == "input"]),
        "photographs_not_finite": [row["picture"] for row in photographs if "nonfinite" in row],
        "values_not_finite": int(sum(float(row["nonfinite"]) for row in of_ranks)),
    }


def _in_order(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))


def _calibration(rows: Sequence[Row], tau: str) -> dict[str, Any]:
    """The samples at one τ: the share of values at each rank; error and deviation, roots of mean squares, /255."""
    of_tau = [row for row in rows if row["tau"] == tau]
    shares = list(mean_of(of_tau, [name for name in of_tau[0] if name.startswith("rank_")]).values())
    total = sum(float(row["values"]) for row in of_tau)
    error, deviation = (
        math.sqrt(sum(float(row["values"]) * float(row[name]) for row in of_tau) / total)
        for name in ("squared_error", "variance")
    )
    held = [{"promised": promised, "held": share} for promised, share in coverage(shares)]
    return {"tau": tau, "deviation": deviation, "error": error, "coverage": held, "ranks": shares}


def _round_trips(photographs: Sequence[Row], of_levels: Sequence[Row]) -> dict[str, Any]:
    """For each photograph, encoded and decoded: errors of values, /255, and of latents after one more encoding."""
    return {
        str(row["picture"]): {
            "mean": row["round_trip_mean"],
            "max": row["round_trip_max"],
            "changed": row["round_trip_changed"],
            "latents": {
                level["level"]: {"mean": level["round_trip_mean"], "max": level["round_trip_max"]}
                for level in of_levels
                if level["picture"] == row["picture"]
            },
        }
        for row in photographs
        if "round_trip_mean" in row
    }


def _bits(photographs: Sequence[Row]) -> tuple[dict[str, Any], dict[str, float]]:
    """Bits by photograph, and the deviation and mean absolute error, /255, that were fitted to all of them."""
    weights = [float(row["values"]) for row in photographs]
    square, absolute = (
        sum(weight * float(row[name]) for weight, row in zip(weights, photographs, strict=True)) / sum(weights)
        for name in ("bicubic_mean_square", "bicubic_mean_absolute")
    )
    least = (1 / 256) ** 2 / 12  # of one 8-bit level spread evenly: pictures that bicubic gets exactly
    variance, size = max(square, least), max(absolute, math.sqrt(least))
    found = {}
    for row in photographs:
        gaussian = 0.5 * math.log(2 * math.pi * variance) + 0.5 * float(row["bicubic_mean_square"]) / variance
        laplacian = math.log(2 * size) + float(row["bicubic_mean_absolute"]) / size
        found[str(row["picture"])] = {
            "flow": row.get("bits_per_dimension"),
            "gaussian": bits_per_dimension(-3 * gaussian, height=1, width=1),
            "laplacian": bits_per_dimension(-3 * laplacian, height=1, width=1),
        }
    return found, {"deviation": 255 * math.sqrt(variance), "mean_absolute_error": 255 * size}


def _inputs(rows: Sequence[Row]) -> dict[str, Any]:
    """Kinds of input: means over those that are finite, and how many lie outside of the photographs' range.

    Those that are not finite lie outside, too.
    """
    bits, deviations = "bits_per_dimension", sorted({name for row in rows for name in row if "deviation_" in name})
    photographs = [row for row in rows if row["input"] == PHOTOGRAPH and bits in row]
    ranges = {
        name: (min(float(row[name]) for row in photographs), max(float(row[name]) for row in photographs))
        for name in (bits, *deviations)
        if photographs
    }

    def outside(row: Row, names: Sequence[str]) -> bool:
        return bits not in row or any(
            not ranges[name][0] <= float(row[name]) <= ranges[name][1] for name in names if name in ranges
        )

    found = {}
    for name in _in_order(rows, "input"):
        of_kind = [row for row in rows if row["input"] == name]
        finite = [row for row in of_kind if bits in row]
        means, all_bits = mean_of(finite, [bits, *deviations]), [float(row[bits]) for row in finite]
        found[name] = {
            bits: means.get(bits),
            "bits_range": [min(all_bits), max(all_bits)] if finite else None,
            "deviation": {column.removeprefix("deviation_"): means.get(column) for column in deviations},
            "not_finite": len(of_kind) - len(finite),
            "outside_bits": sum(outside(row, [bits]) for row in of_kind),
            "outside_deviation": sum(outside(row, deviations) for row in of_kind),
        }
    return found


def table_of(found: Findings, title: str) -> Table:
    """The table of the latents' levels, and below it a titled one for each other question, with what it means here."""
    headings = ["latents of", "mean", "deviation", "skewness", "excess kurtosis", "3.5 σ lies at"]
    rows = [
        [f"level {row['level']}", *(f"{row[name]:.3f}" for name in MOMENTS), "{:.2f} / {:+.2f}".format(*row["ends"])]
        for row in found["rows"]
    ]
    normal = ["standard normal", "0.000", "1.000", "0.000", "0.000", "±3.50"]
    notes = [f"{title}."]
    if broken := found["photographs_not_finite"]:
        notes.append(
            f"The latents of {', '.join(broken)} are not finite (NaN or infinite): these photographs are missing "
            "below. Do not invert, restore or transfer with this model."
        )
    if values := found["values_not_finite"]:
        notes.append(f"{values} values of samples are not finite (NaN or infinite): they count as black.")
    note = (
        "Latents of the whole photographs, as they are: means over photographs. Samples are "
        "drawn as if they were standard normal. Smaller ones mean that photographs have less detail than samples at "
        "τ = 1, so that a smaller τ looks truer; larger ones, that the model has not learned this kind of picture. "
        "Kurtosis is usually positive: flat areas have small latents, and textures large ones."
    )
    if found["rows"] and max(row["deviation"] for row in found["rows"]) < 1 - _CLOSE:
        note += (
            " Here they are smaller at every level. Training adds noise to photographs, of 4/√3 of 255 levels unless "
            "it was set otherwise; clean ones have smaller latents: compare “with training's noise” below."
        )
    more = [
        _calibration_table(found["calibration"]),
        *_round_trip_table(found),
        _bits_table(found),
        _inputs_table(found),
    ]
    return Table(headings, [*rows, normal], [*notes, note], title="Latents", more=more)


def _calibration_table(found: Sequence[Mapping[str, Any]]) -> Table:
    promised = [f"in {100 * interval['promised']:.0f} %" for interval in found[0]["coverage"]]
    rows, verdicts = [], []
    for tau in found:
        ratio = tau["error"] / tau["deviation"] if tau["deviation"] else float("inf")
        held = [f"{100 * interval['held']:.0f} %" for interval in tau["coverage"]]
        rows.append([tau["tau"], f"{tau['deviation']:.2f}", f"{tau['error']:.2f}", f"{ratio:.2f}", *held])
        verdict = "samples spread as much as they err"
        if ratio > 1 + _CLOSE:
            verdict = f"samples are too sure ({ratio:.2f} times more error than spread)"
        elif ratio < 1 - _CLOSE:
            verdict = f"samples are too varied ({ratio:.2f} times as much error as spread)"
        verdicts.append(f"at τ {tau['tau']} {verdict}")
    note = (
        f"Of {len(found[0]['ranks']) - 1} samples: their deviation (root of the mean variance); how far the photograph "
        "is from their mean (root mean square, less what a finite number of samples adds); and the share of values "
        "inside of the central intervals that promise to hold so many. Error / deviation is 1 for a model that knows "
        "how wrong it is. Where it is larger, a deviation map (Encoding.std) promises too much. "
        f"Here {'; '.join(verdicts)}."
    )
    headings = ["τ", "deviation, /255", "error, /255", "error / deviation", *promised]
    return Table(headings, rows, [note], title="Calibration")


def _round_trip_table(found: Findings) -> list[Table]:
    trips = found["round_trip"]
    if not trips:
        return []
    headings = ["photograph", "mean error, /255", "largest, /255", "8-bit values changed"]
    headings += [f"latents {row['level']}, mean / largest" for row in found["rows"]]
    rows = [
        [
            name,
            f"{trip['mean']:.5f}",
            f"{trip['max']:.4f}",
            f"{100 * trip['changed']:.3g} %",
            *(f"{error['mean']:.1e} / {error['max']:.1e}" for error in trip["latents"].values()),
        ]
        for name, trip in trips.items()
    ]
    changed = [name for name, trip in trips.items() if trip["changed"]]
    verdict = "every 8-bit value comes back" if not changed else f"8-bit values change in {', '.join(changed)}"
    note = (
        "A photograph becomes latents, these a picture, and this latents again. A flow is "
        "invertible, so the differences are rounding in the network's arithmetic and, in a bundle, the edges of "
        "tiles. From half a level on, restoring and transferring change what they should leave alone: use a bundle "
        f"of higher precision. Here {verdict}."
    )
    return [Table(headings, rows, [note], title="Round trip")]


def _bits_table(found: Findings) -> Table:
    columns = ("flow", "gaussian", "laplacian")
    all_bits, bicubic = found["bits_per_dimension"], found["bicubic"]
    means = mean_of([{k: v for k, v in bits.items() if v is not None} for bits in all_bits.values()], columns)
    rows = [[name, *(_number(bits[column]) for column in columns)] for name, bits in all_bits.items()]
    rows.append(["mean", *(_number(means.get(column)) for column in columns)])
    note = (
        "Given the LR image, with uniform dequantisation: what a lossless code of the 8-bit "
        "photograph would spend on each value. Beside it two densities of independent values around the bicubic "
        f"picture, a Gaussian of deviation {bicubic['deviation']:.2f}/255 and a Laplacian of mean absolute "
        f"deviation {bicubic['mean_absolute_error']:.2f}/255; both are fitted to these photographs themselves, "
        "which favours them. A flow that does not need fewer bits has learned nothing about detail."
    )
    headings = ["photograph", "flow", "Gaussian around bicubic", "Laplacian around bicubic"]
    return Table(headings, rows, [note], title="Bits per dimension")


def _inputs_table(found: Findings) -> Table:
    inputs, count = found["inputs"], len(found["bits_per_dimension"])
    levels, photographs = list(inputs[PHOTOGRAPH]["deviation"]), inputs[PHOTOGRAPH]["bits_range"]
    rows = []
    for name, kind in inputs.items():
        outside = [f"{kind[key]} of {count}" for key in ("outside_bits", "outside_deviation")]
        rows.append(
            [
                name + (f" ({kind['not_finite']} not finite)" if kind["not_finite"] else ""),
                _number(kind["bits_per_dimension"]),
                *(_number(kind["deviation"][level]) for level in levels),
                *(["", ""] if name == PHOTOGRAPH else outside),
            ]
        )
    likelier = [
        name for name, kind in inputs.items() if kind["bits_range"] and kind["bits_range"][1] < (photographs or [0])[0]
    ]
    verdict = (
        f" Here the model finds all of “{'”, “'.join(likelier)}” likelier than any photograph." if likelier else ""
    )
    note = (
        "Made of each photograph's centre (sheet.png), given their own reductions: bits, the "
        "latents' deviations, and how many lie outside of the photographs' range, in bits or in the deviation of any "
        "level. Few bits are no sign of a good picture: a flow finds likely what is simpler than photographs, "
        f"too.{verdict} To recognise inputs that a model was not made for, compare the deviation of their latents, "
        "level by level, with the range of many photographs of your own: too small is as telling as too large."
    )
    headings = ["input", "bits per dimension", *(f"deviation, level {level}" for level in levels)]
    headings += ["outside by bits", "outside by deviation"]
    return Table(headings, rows, [note], title="Other inputs", figure="sheet")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
