"""The tables of `diagnose`, and what each of them means to who deploys the model."""

from __future__ import annotations

from collections.abc import Sequence

from srflow_evaluation.diagnosis import PHOTOGRAPH, Calibration, Diagnosis
from srflow_evaluation.latent_statistics import NORMAL_QUANTILES
from srflow_evaluation.tables import Table

_CLOSE = 0.1  # a deviation or a ratio within 10 % of what it should be


def table_of(found: Diagnosis, title: str) -> Table:
    """The table of the latents' levels, and below it a titled one for each other question, with what it means here."""
    headings = ["latents of", "mean", "deviation", "skewness", "excess kurtosis", "3.5 σ lies at"]
    rows = [
        [f"level {level.level}", *(f"{level.moments[name]:.3f}" for name in level.moments), _tails(level.quantiles)]
        for level in found.levels
    ]
    normal = ["standard normal", "0.000", "1.000", "0.000", "0.000", "±3.50"]
    return Table(
        headings,
        [*rows, normal] if rows else [normal],
        [f"{title}.", *_warnings(found), _on_latents(found)],
        title="Latents",
        more=[_calibration(found), *_round_trips(found), _bits(found), _inputs(found)],
        figure="latents",
    )


def _tails(quantiles: object) -> str:
    assert isinstance(quantiles, dict)
    lists = list(quantiles.values())
    low, high = (sum(values[end] for values in lists) / len(lists) for end in (0, -1))
    return f"{low:.2f} / {high:+.2f}"


def _warnings(found: Diagnosis) -> list[str]:
    notes = []
    if found.broken:
        notes.append(
            f"The latents of {', '.join(found.broken)} are not finite (NaN or infinite): these photographs are missing "
            "below. Do not invert, restore or transfer with this model."
        )
    if found.nonfinite:
        notes.append(f"{found.nonfinite} values of samples are not finite (NaN or infinite): they count as black.")
    return notes


def _on_latents(found: Diagnosis) -> str:
    deviations = [level.moments["deviation"] for level in found.levels]
    text = (
        "Latents of the whole photographs, as they are: means over photographs; latents.png has each. Samples are "
        "drawn as if they were standard normal. Smaller ones mean that photographs have less detail than samples at "
        "τ = 1, so that a smaller τ looks truer; larger ones, that the model has not learned this kind of picture. "
        "Kurtosis is usually positive: flat areas have small latents, and textures large ones."
    )
    if deviations and max(deviations) < 1 - _CLOSE:
        text += (
            " Here they are smaller at every level. Training adds noise to photographs, of 4/√3 of 255 levels unless "
            "it was set otherwise; clean ones have smaller latents: compare “with training's noise” below."
        )
    return text


def _calibration(found: Diagnosis) -> Table:
    promised = [f"{100 * probability:.0f} %" for probability, _ in found.calibration[0].coverage]
    headings = ["τ", "deviation, /255", "error, /255", "error / deviation", *(f"in {name}" for name in promised)]
    rows = [
        [
            tau.tau,
            f"{tau.deviation:.2f}",
            f"{tau.error:.2f}",
            f"{_ratio(tau):.2f}",
            *(f"{100 * held:.0f} %" for _, held in tau.coverage),
        ]
        for tau in found.calibration
    ]
    verdicts = [f"at τ {tau.tau} {_verdict(_ratio(tau))}" for tau in found.calibration]
    samples = len(found.calibration[0].ranks) - 1
    note = (
        f"Of {samples} samples: their deviation (root of the mean variance); how far the photograph "
        "is from their mean (root mean square, less what a finite number of samples adds); and the share of values "
        "inside of the central intervals that promise to hold so many. Error / deviation is 1 for a model that knows "
        "how wrong it is. Where it is larger, a deviation map (Encoding.std) promises too much; calibration.png "
        f"says by how much at each deviation. Here {'; '.join(verdicts)}."
    )
    return Table(headings, rows, [note], title="Calibration", figure="calibration")


def _ratio(found: Calibration) -> float:
    return found.error / found.deviation if found.deviation else float("inf")


def _verdict(ratio: float) -> str:
    if ratio > 1 + _CLOSE:
        return f"samples are too sure ({ratio:.2f} times more error than spread)"
    if ratio < 1 - _CLOSE:
        return f"samples are too varied ({ratio:.2f} times as much error as spread)"
    return "samples spread as much as they err"


def _round_trips(found: Diagnosis) -> list[Table]:
    if not found.round_trips:
        return []
    levels = [level.level for level in found.levels]
    headings = ["photograph", "mean error, /255", "largest, /255", "8-bit values changed"]
    headings += [f"latents {level}, mean / largest" for level in levels]
    rows = [
        [
            name,
            f"{trip.mean:.5f}",
            f"{trip.most:.4f}",
            f"{100 * trip.changed:.3g} %",
            *(f"{trip.levels[level][0]:.1e} / {trip.levels[level][1]:.1e}" for level in levels),
        ]
        for name, trip in found.round_trips.items()
    ]
    changed = [name for name, trip in found.round_trips.items() if trip.changed]
    verdict = "every 8-bit value comes back" if not changed else f"8-bit values change in {', '.join(changed)}"
    note = (
        "A photograph becomes latents, these a picture, and this latents again. A flow is "
        "invertible, so the differences are rounding in the network's arithmetic and, in a bundle, the edges of "
        "tiles. From half a level on, restoring and transferring change what they should leave alone: use a bundle "
        f"of higher precision. Here {verdict}."
    )
    return [Table(headings, rows, [note], title="Round trip")]


def _bits(found: Diagnosis) -> Table:
    rows = [
        [name, "" if bits.flow is None else f"{bits.flow:.3f}", f"{bits.gaussian:.3f}", f"{bits.laplacian:.3f}"]
        for name, bits in found.bits.items()
    ]
    flows = [bits.flow for bits in found.bits.values() if bits.flow is not None]
    columns = [flows, *([getattr(bits, name) for bits in found.bits.values()] for name in ("gaussian", "laplacian"))]
    rows.append(["mean", *(f"{sum(values) / len(values):.3f}" if values else "" for values in columns)])
    headings = ["photograph", "flow", "Gaussian around bicubic", "Laplacian around bicubic"]
    note = (
        "Given the LR image, with uniform dequantisation: what a lossless code of the 8-bit "
        "photograph would spend on each value. Beside it two densities of independent values around the bicubic "
        f"picture, a Gaussian of deviation {found.bicubic['deviation']:.2f}/255 and a Laplacian of mean absolute "
        f"deviation {found.bicubic['mean_absolute_error']:.2f}/255; both are fitted to these photographs themselves, "
        "which favours them. A flow that does not need fewer bits has learned nothing about detail."
    )
    return Table(headings, rows, [note], title="Bits per dimension")


def _inputs(found: Diagnosis) -> Table:
    levels = [level.level for level in found.levels] or sorted(next(iter(found.inputs.values())).deviations)
    headings = ["input", "bits per dimension", *(f"deviation, level {level}" for level in levels)]
    headings += ["outside by bits", "outside by deviation"]
    count = len(found.inputs[PHOTOGRAPH].bits) + found.inputs[PHOTOGRAPH].broken
    rows = [
        [
            name + (f" ({kind.broken} not finite)" if kind.broken else ""),
            _mean(kind.bits),
            *(_mean(kind.deviations.get(level, [])) for level in levels),
            *(
                "" if name == PHOTOGRAPH else f"{outside} of {count}"
                for outside in (kind.outside_bits, kind.outside_deviation)
            ),
        ]
        for name, kind in found.inputs.items()
    ]
    photographs = found.inputs[PHOTOGRAPH].bits
    likelier = [
        name
        for name, kind in found.inputs.items()
        if name != PHOTOGRAPH and kind.bits and photographs and max(kind.bits) < min(photographs)
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
    return Table(headings, rows, [note], title="Other inputs", figure="sheet")


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else ""


assert NORMAL_QUANTILES[-1] == 3.5  # the heading says so
