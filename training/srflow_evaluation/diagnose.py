"""The protocol `diagnose`: what to know about a flow before trusting it.

Are the latents of photographs normal, does a photograph survive the round trip through its latents,
and how many bits does it take. Whether samples spread as much as they err is what `coverage`
measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_evaluation.bench import open_bench
from srflow_evaluation.models import ConditionedFlow
from srflow_evaluation.options import Options
from srflow_evaluation.output import Table
from srflow_evaluation.pictures import Picture, PictureFiles
from srflow_evaluation.results import Results, Row, mean_of
from srflow_sdk import Latents
from srflow_sdk.drawing.inverting import dequantised
from srflow_sdk.errors import NonFiniteError
from srflow_sdk.latents.picture_latents import bits_per_dimension
from srflow_training.resampling import enlarge_bicubic, round_to_8_bit

CONVENTION = (
    "8-bit RGB. Latents and the round trip: of the whole photograph, not rounded on the way. "
    "Differences of pixels: in "
    "8-bit levels. Bits per dimension: for 8-bit levels, each spread evenly over its interval "
    "(uniform dequantisation)"
)
"""How the figures are computed."""

MOMENTS = ("mean", "deviation", "skewness", "kurtosis")

_TEXT = {"part": "", "level": ""}  # in every row: the order of columns is then always the same


@torch.no_grad()
def diagnose(options: Options) -> Table:
    """Measure and write results.csv and summary.json; return the tables.

    Raises: SRFlowError; BundleError for a bundle without an inverter.
    """
    bench = open_bench(options)
    open_flow = bench.subject.both_ways()
    results = Results(options.out, {**bench.settings, "measured": "diagnose"})

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = bench.read(files)
        rows = _of_photograph(open_flow(picture.lr), picture)
        return [{"picture": picture.name, **_TEXT, **row} for row in rows]

    rows = results.measure(bench.pictures, rows_of, options.progress)
    found = findings(rows)
    count_of = "1 photograph" if len(bench.pictures) == 1 else f"{len(bench.pictures)} photographs"
    table = table_of(found, f"{bench.subject.name}, ×{bench.subject.scale}, {count_of}")
    notes = [note for part in table.parts for note in part.notes]
    summary = bench.summary("diagnose", [], [])
    results.write_summary({**summary, **found, "convention": CONVENTION, "notes": notes})
    return table


def _of_photograph(flow: ConditionedFlow, picture: Picture) -> list[Row]:
    """Latents, round trip and bits of the whole photograph: a row for it, and one for each
    level.
    """
    hr = picture.hr
    row: Row = {"part": "photograph", **_bicubic_errors(picture)}
    try:
        row["bits_per_dimension"] = _bits_of(flow.invert(_dequantised(hr)))
        there = flow.invert(hr)
        back = flow.decode(there)
        again = flow.invert(back)
    except NonFiniteError:
        return [{**row, "nonfinite": 1.0}]
    difference = (back - hr).double().abs() * 255
    row["round_trip_mean"], row["round_trip_max"] = (
        float(difference.mean()),
        float(difference.max()),
    )
    changed = (round_to_8_bit(back) - hr).abs() * 255 > 0.5
    row["round_trip_changed"] = float(changed.double().mean())
    rows = [row]
    for level, latents in there.levels.items():
        error = abs(again.levels[level].astype("float64") - latents)
        rows.append(
            {
                "part": "level",
                "level": str(level),
                **moments(latents),
                "round_trip_mean": float(error.mean()),
                "round_trip_max": float(error.max()),
            }
        )
    return rows


def _dequantised(hr: Tensor) -> Tensor:
    return torch.from_numpy(dequantised(hr[0].numpy()))[None]


def _bits_of(latents: Latents) -> float:
    found = latents.bits_per_dimension
    assert found is not None  # inverting always knows it
    return found


def _bicubic_errors(picture: Picture) -> Row:
    """How far the dequantised photograph is from bicubic's picture: mean absolute, of values in [0,
    1].
    """
    scale = picture.hr.shape[2] // picture.lr.shape[2]
    middle = (
        255 * enlarge_bicubic(picture.lr, scale).double() + 0.5
    ) / 256  # of the interval of each level
    error = _dequantised(picture.hr).double() - middle
    return {"values": float(error.numel()), "bicubic_mean_absolute": float(error.abs().mean())}


def moments(latents: npt.NDArray[np.float32]) -> dict[str, float]:
    """Mean, standard deviation, skewness and excess kurtosis; 0, 1, 0 and 0 if the latents are
    standard normal.

    Skewness and kurtosis are the third and fourth standardised moments (less 3), 0 for latents that
    are all equal.
    """
    values = latents.astype(np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    standard = (values - mean) / deviation if deviation > 0 else np.zeros_like(values)
    square = standard * standard
    skewness = float((square * standard).mean())
    kurtosis = float((square * square).mean()) - 3 if deviation > 0 else 0.0
    return {"mean": mean, "deviation": deviation, "skewness": skewness, "kurtosis": kurtosis}


_CLOSE = 0.1  # a deviation within 10 % of what it should be


def findings(rows: Sequence[Row]) -> dict[str, Any]:
    """Put together what was measured, as it stands in summary.json; `rows` are the levels of the
    latents.
    """
    photographs = [row for row in rows if row["part"] == "photograph"]
    of_levels = [row for row in rows if row["part"] == "level"]
    bits, bicubic = _bits(photographs)
    levels = []
    for level in dict.fromkeys(str(row["level"]) for row in of_levels):
        means = mean_of([row for row in of_levels if row["level"] == level], MOMENTS)
        levels.append({"level": int(level), **means})
    return {
        "rows": levels,
        "round_trip": _round_trips(photographs, of_levels),
        "bits_per_dimension": bits,
        "bicubic": bicubic,
        "photographs_not_finite": [row["picture"] for row in photographs if "nonfinite" in row],
    }


def _round_trips(photographs: Sequence[Row], of_levels: Sequence[Row]) -> dict[str, Any]:
    """For each photograph, encoded and decoded: errors of values, /255, and of latents after one
    more encoding.
    """
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


def _bits(photographs: Sequence[Row]) -> tuple[dict[str, Any], float]:
    """Bits by photograph, and bicubic's mean absolute error, /255, fitted to all of them."""
    weights = [float(row["values"]) for row in photographs]
    errors = [float(row["bicubic_mean_absolute"]) for row in photographs]
    mean = sum(map(math.prod, zip(weights, errors, strict=True))) / sum(weights)
    size = max(mean, 1 / 256 / 12**0.5)  # of one 8-bit level spread evenly, where bicubic is exact
    found = {}
    for row, error in zip(photographs, errors, strict=True):
        laplacian = math.log(2 * size) + error / size
        found[str(row["picture"])] = {
            "flow": row.get("bits_per_dimension"),
            "laplacian": bits_per_dimension(-3 * laplacian, height=1, width=1),
        }
    return found, 255 * size


def table_of(found: Mapping[str, Any], title: str) -> Table:
    """The table of the latents' levels, and below it a titled one for each other question, with
    what it means here.
    """
    headings = ["latents of", "mean", "deviation", "skewness", "excess kurtosis"]
    rows = [
        [f"level {row['level']}", *(f"{row[name]:.3f}" for name in MOMENTS)]
        for row in found["rows"]
    ]
    normal = ["standard normal", "0.000", "1.000", "0.000", "0.000"]
    notes = [f"{title}."]
    if broken := found["photographs_not_finite"]:
        notes.append(
            f"The latents of {', '.join(broken)} are not finite (NaN or infinite): these "
            "photographs are missing "
            "below. Do not invert, restore or transfer with this model."
        )
    note = (
        "Latents of the whole photographs, as they are: means over photographs. Samples are "
        "drawn as if they were standard normal. Smaller ones mean that photographs have less "
        "detail than samples at "
        "τ = 1, so that a smaller τ looks truer; larger ones, that the model has not learned this "
        "kind of picture. "
        "Kurtosis is usually positive: flat areas have small latents, and textures large ones."
    )
    if found["rows"] and max(row["deviation"] for row in found["rows"]) < 1 - _CLOSE:
        note += (
            " Here they are smaller at every level. Training adds noise to photographs, of 4/√3 of "
            "255 levels unless "
            "it was set otherwise; clean ones have smaller latents."
        )
    more = [*_round_trip_table(found), _bits_table(found)]
    return Table(headings, [*rows, normal], [*notes, note], title="Latents", more=more)


def _round_trip_table(found: Mapping[str, Any]) -> list[Table]:
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
    verdict = (
        "every 8-bit value comes back"
        if not changed
        else f"8-bit values change in {', '.join(changed)}"
    )
    note = (
        "A photograph becomes latents, these a picture, and this latents again. A flow is "
        "invertible, so the differences are rounding in the network's arithmetic and, in a bundle, "
        "the edges of "
        "tiles. From half a level on, restoring and transferring change what they should leave "
        "alone: use a bundle "
        f"of higher precision. Here {verdict}."
    )
    return [Table(headings, rows, [note], title="Round trip")]


def _bits_table(found: Mapping[str, Any]) -> Table:
    columns = ("flow", "laplacian")
    all_bits = found["bits_per_dimension"]
    means = mean_of(
        [{k: v for k, v in bits.items() if v is not None} for bits in all_bits.values()], columns
    )
    rows = [
        [name, *(_number(bits[column]) for column in columns)] for name, bits in all_bits.items()
    ]
    rows.append(["mean", *(_number(means.get(column)) for column in columns)])
    note = (
        "Given the LR image, with uniform dequantisation: what a lossless code of the 8-bit "
        "photograph would spend on each value. Beside it a Laplacian of independent values around "
        "the "
        f"bicubic picture, of mean absolute deviation {found['bicubic']:.2f}/255; it is fitted to "
        "these "
        "photographs themselves, which favours it. A flow that does not need fewer bits has "
        "learned nothing "
        "about detail."
    )
    headings = ["photograph", "flow", "Laplacian around bicubic"]
    return Table(headings, rows, [note], title="Bits per dimension")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
