"""The protocol `diagnose`: what to know about a flow before trusting it.

Are the latents of photographs normal, do samples spread as much as they err, does a photograph survive the round trip
through its latents, and how many bits does it take.

Ranks and errors are of 8-bit values, pixel by pixel and channel by channel. If the photograph were one more sample, its
rank among n samples would be 0 … n with the same probability, and its squared distance from their mean would be
(1 + 1/n) times their variance. That holds exactly for any distribution, whatever n, so nothing here is approximate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_evaluation.bench import open_bench
from srflow_evaluation.models import ConditionedFlow
from srflow_evaluation.options import LevelTaus, Options, check_samples_differ
from srflow_evaluation.output import Table
from srflow_evaluation.pictures import Picture, PictureFiles
from srflow_evaluation.results import Results, Row, mean_of
from srflow_sdk import Latents
from srflow_sdk.errors import NonFiniteError
from srflow_sdk.flow.inverting import dequantised
from srflow_sdk.latents.picture_latents import bits_per_dimension
from srflow_training import figures
from srflow_training.resampling import enlarge_bicubic, round_to_8_bit

TAUS = (LevelTaus((0.8,)), LevelTaus((1.0,)))
"""Temperatures of the samples if none is given: the usual one, and the one that the model was trained for."""

SAMPLES, LEAST_SAMPLES = 10, 4
"""Samples of each photograph if `--samples` is not given, and the fewest: even fewer have hardly a deviation."""

CONVENTION = (
    "8-bit RGB. Latents and the round trip: of the whole photograph, not rounded on the way. Calibration: of samples "
    "rounded to 8 bits. Differences, errors and deviations of pixels: in 8-bit levels. Bits per dimension: for 8-bit "
    "levels, each spread evenly over its interval (uniform dequantisation)"
)
"""How the figures are computed."""

NORMAL_QUANTILES = (-3.5, 3.5)
"""Standard normal values: what of normal latents is beyond them is two in ten thousand."""

MOMENTS = ("mean", "deviation", "skewness", "kurtosis")

_TEXT = {"part": "", "tau": "", "level": ""}  # in every row: the order of columns is then always the same


@torch.no_grad()
def diagnose(options: Options) -> Table:
    """Measure and write results.csv and summary.json; return the tables.

    Raises: SRFlowError; BundleError for a bundle without an inverter.
    """
    count = options.sample_count(SAMPLES, "diagnose measures how samples spread", least=LEAST_SAMPLES)
    taus = list(options.taus) or list(TAUS)
    for tau in taus:
        check_samples_differ(tau)
    bench = open_bench(options)
    open_flow = bench.subject.both_ways()
    settings = {**bench.settings, "measured": "diagnose", "taus": [str(tau) for tau in taus], "samples": count}
    results = Results(options.out, settings)

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = bench.read(files)
        flow = open_flow(picture.lr)
        rows = [*_of_photograph(flow, picture), *_of_samples(flow, picture, taus, count)]
        return [{"picture": picture.name, **_TEXT, **row} for row in rows]

    rows = results.measure(bench.pictures, rows_of, options.progress)
    found = findings(rows)
    count_of = "1 photograph" if len(bench.pictures) == 1 else f"{len(bench.pictures)} photographs"
    table = table_of(found, f"{bench.subject.name}, ×{bench.subject.scale}, {count_of}")
    notes = [note for part in table.parts for note in part.notes]
    summary = bench.summary("diagnose", [], [], samples=count)
    results.write_summary({**summary, **found, "convention": CONVENTION, "notes": notes})
    return table


def _of_photograph(flow: ConditionedFlow, picture: Picture) -> list[Row]:
    """Latents, round trip and bits of the whole photograph: a row for it, and one for each level."""
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
    row["round_trip_mean"], row["round_trip_max"] = float(difference.mean()), float(difference.max())
    changed = (round_to_8_bit(back) - hr).abs() * 255 > 0.5
    row["round_trip_changed"] = float(changed.double().mean())
    rows = [row]
    for level, latents in there.levels.items():
        error = abs(again.levels[level].astype("float64") - latents)
        of_quantiles = zip(NORMAL_QUANTILES, quantiles(latents), strict=True)
        rows.append(
            {
                "part": "level",
                "level": str(level),
                **moments(latents),
                "round_trip_mean": float(error.mean()),
                "round_trip_max": float(error.max()),
                **{f"quantile_{normal:g}": value for normal, value in of_quantiles},
            }
        )
    return rows


def _of_samples(flow: ConditionedFlow, picture: Picture, taus: Sequence[LevelTaus], count: int) -> list[Row]:
    """Calibration: for each τ a row, of ranks, error and variance."""
    rows: list[Row] = []
    for tau in taus:
        samples = [flow.sample(tau, seed) for seed in range(count)]
        broken = sum(figures.nonfinite(sample) for sample in samples)
        shares = rank_shares(samples, picture.hr)
        error, variance = error_and_variance(samples, picture.hr)
        row: Row = {"part": "ranks", "tau": str(tau), "nonfinite": float(broken), "values": float(picture.hr.numel())}
        ranks = {f"rank_{rank}": share for rank, share in enumerate(shares)}
        rows.append({**row, "squared_error": error, "variance": variance, **ranks})
    return rows


def _dequantised(hr: Tensor) -> Tensor:
    return torch.from_numpy(dequantised(hr[0].numpy()))[None]


def _bits_of(latents: Latents) -> float:
    found = latents.bits_per_dimension
    assert found is not None  # inverting always knows it
    return found


def _bicubic_errors(picture: Picture) -> Row:
    """How far the dequantised photograph is from bicubic's picture: mean absolute, of values in [0, 1]."""
    scale = picture.hr.shape[2] // picture.lr.shape[2]
    middle = (255 * enlarge_bicubic(picture.lr, scale).double() + 0.5) / 256  # of the interval of each level
    error = _dequantised(picture.hr).double() - middle
    return {"values": float(error.numel()), "bicubic_mean_absolute": float(error.abs().mean())}


def moments(latents: npt.NDArray[np.float32]) -> dict[str, float]:
    """Mean, standard deviation, skewness and excess kurtosis; 0, 1, 0 and 0 if the latents are standard normal.

    Skewness and kurtosis are the third and fourth standardised moments (less 3), 0 for latents that are all equal.
    """
    values = latents.astype(np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    standard = (values - mean) / deviation if deviation > 0 else np.zeros_like(values)
    square = standard * standard
    skewness = float((square * standard).mean())
    kurtosis = float((square * square).mean()) - 3 if deviation > 0 else 0.0
    return {"mean": mean, "deviation": deviation, "skewness": skewness, "kurtosis": kurtosis}


def quantiles(latents: npt.NDArray[np.float32]) -> list[float]:
    """The latents' quantiles at the probabilities of :data:`NORMAL_QUANTILES`, interpolated linearly."""
    probabilities = [NormalDist().cdf(value) for value in NORMAL_QUANTILES]
    return [float(value) for value in np.quantile(latents.astype(np.float64), probabilities)]


def rank_shares(samples: Sequence[Tensor], hr: Tensor) -> list[float]:
    """The share of values whose rank among the n samples is 0, 1 … n: n + 1 numbers whose sum is 1.

    A value that equals t samples has t + 1 possible ranks, and counts for each with weight 1/(t + 1).
    samples, hr: 1×3×H×W in [0, 1].
    """
    shown, truth = _levels(samples), _levels([hr])[0]
    below = (shown < truth).sum(axis=0)
    ties = (shown == truth).sum(axis=0)
    weight = 1.0 / (ties + 1)
    return [
        float(np.where((below <= rank) & (rank <= below + ties), weight, 0.0).mean())
        for rank in range(len(samples) + 1)
    ]


def coverage(shares: Sequence[float]) -> list[tuple[float, float]]:
    """For each central interval between samples, the probability that it promises and the share that it holds.

    The interval between the k-th smallest and the k-th largest of n samples holds a further one with probability
    (n + 1 − 2k)/(n + 1). Widest first.
    """
    n = len(shares) - 1
    return [((n + 1 - 2 * k) / (n + 1), sum(shares[k : n + 1 - k])) for k in range(1, n // 2 + 1)]


def error_and_variance(samples: Sequence[Tensor], hr: Tensor) -> tuple[float, float]:
    """The mean squared distance of the photograph from the samples' mean, and their mean variance, /255².

    Of the second half of the samples. The squared distance is divided by 1 + 1/n, so that it equals the variance if the
    photograph is one more sample. samples: at least 4, and hr: 1×3×H×W in [0, 1].
    """
    shown, truth = _levels(samples[len(samples) // 2 :]), _levels([hr])[0]
    square = (truth - shown.mean(axis=0)) ** 2 / (1 + 1 / len(shown))
    return float(square.mean()), float(shown.var(axis=0, ddof=1).mean())


def _levels(images: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    """N×3×H×W whole numbers, 0 … 255."""
    levels: npt.NDArray[np.float64] = (
        (torch.cat([figures.as_shown(image) for image in images]).double() * 255).round().numpy()
    )
    return levels


_CLOSE = 0.1  # a deviation or a ratio within 10 % of what it should be
_QUANTILES = [f"quantile_{normal:g}" for normal in NORMAL_QUANTILES]


def findings(rows: Sequence[Row]) -> dict[str, Any]:
    """Put together what was measured, as it stands in summary.json; `rows` are the levels of the latents."""
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
            "it was set otherwise; clean ones have smaller latents."
        )
    more = [
        _calibration_table(found["calibration"]),
        *_round_trip_table(found),
        _bits_table(found),
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
    verdict = "every 8-bit value comes back" if not changed else f"8-bit values change in {', '.join(changed)}"
    note = (
        "A photograph becomes latents, these a picture, and this latents again. A flow is "
        "invertible, so the differences are rounding in the network's arithmetic and, in a bundle, the edges of "
        "tiles. From half a level on, restoring and transferring change what they should leave alone: use a bundle "
        f"of higher precision. Here {verdict}."
    )
    return [Table(headings, rows, [note], title="Round trip")]


def _bits_table(found: Mapping[str, Any]) -> Table:
    columns = ("flow", "laplacian")
    all_bits = found["bits_per_dimension"]
    means = mean_of([{k: v for k, v in bits.items() if v is not None} for bits in all_bits.values()], columns)
    rows = [[name, *(_number(bits[column]) for column in columns)] for name, bits in all_bits.items()]
    rows.append(["mean", *(_number(means.get(column)) for column in columns)])
    note = (
        "Given the LR image, with uniform dequantisation: what a lossless code of the 8-bit "
        "photograph would spend on each value. Beside it a Laplacian of independent values around the "
        f"bicubic picture, of mean absolute deviation {found['bicubic']:.2f}/255; it is fitted to these "
        "photographs themselves, which favours it. A flow that does not need fewer bits has learned nothing "
        "about detail."
    )
    headings = ["photograph", "flow", "Laplacian around bicubic"]
    return Table(headings, rows, [note], title="Bits per dimension")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
