"""The protocol `diagnose`: what to know about a flow before trusting it.

Are the latents of photographs normal, do samples spread as much as they err, does a photograph survive the round trip
through its latents, how many bits does it take, and what happens to pictures that are no photographs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srflow_evaluation import intervals
from srflow_evaluation.bench import Bench, open_bench
from srflow_evaluation.diagnosis import PHOTOGRAPH, findings, table_of
from srflow_evaluation.models import ConditionedFlow
from srflow_evaluation.options import LevelTaus, Options, check_samples_differ
from srflow_evaluation.output import Table, shown_place, write_sheet
from srflow_evaluation.pictures import LEAST_SIDE, Cut, Picture, PictureFiles
from srflow_evaluation.results import Results, Row
from srflow_evaluation.statistics import (
    LEAST_SAMPLES,
    NORMAL_QUANTILES,
    error_and_variance,
    moments,
    quantiles,
    rank_shares,
)
from srflow_sdk import Latents
from srflow_sdk.errors import NonFiniteError
from srflow_sdk.flow.inverting import dequantised
from srflow_sdk.model.manifest import Reduction
from srflow_training import figures
from srflow_training.resampling import REDUCTIONS, enlarge_bicubic, round_to_8_bit

TAUS = (LevelTaus((0.8,)), LevelTaus((1.0,)))
"""Temperatures of the samples if none is given: the usual one, and the one that the model was trained for."""

SAMPLES = 10
"""Samples of each photograph if `--samples` is not given."""

CONVENTION = (
    "8-bit RGB. Latents and the round trip: of the whole photograph, not rounded on the way. Calibration: of samples "
    "rounded to 8 bits. Differences, errors and deviations of pixels: in 8-bit levels. Bits per dimension: for 8-bit "
    "levels, each spread evenly over its interval (uniform dequantisation)"
)
"""How the figures are computed."""

_TEXT = {"part": "", "tau": "", "level": "", "input": ""}  # in every row: the order of columns is then always the same
_TRAINING_NOISE = 4 / 3**0.5 / 255  # what training adds by default
_INPUT_SIDE = 256  # pixels of the pictures that are no photographs, and of the photographs beside them


@torch.no_grad()
def diagnose(options: Options) -> Table:
    """Measure and write results.csv, summary.json and a sheet of the inputs; return the tables.

    Raises: SRFlowError; BundleError for a bundle without an inverter.
    """
    count = options.sample_count(SAMPLES, "diagnose measures how samples spread", least=LEAST_SAMPLES)
    taus = list(options.taus) or list(TAUS)
    for tau in taus:
        check_samples_differ(tau)
    bench = open_bench(options)
    open_flow = bench.subject.both_ways()
    settings = {**bench.settings, "measured": "diagnose", "taus": [str(tau) for tau in taus], "samples": count}
    results = Results(options.out, settings, shard=options.shard)
    sheet = options.out / "sheet.png"

    def rows_of(files: PictureFiles) -> list[Row]:
        picture = bench.read(files)
        if files is bench.pictures[0]:
            _draw_sheet(bench, picture, sheet)
        flow = open_flow(picture.lr)
        rows = [*_of_photograph(flow, picture), *_of_samples(flow, picture, taus, count)]
        rows += _of_inputs(bench, open_flow, picture)
        return [{"picture": picture.name, **_TEXT, **row} for row in rows]

    if not sheet.is_file():
        results.forget(bench.pictures[0].name)
    rows = results.measure(bench.pictures, rows_of, options.progress)
    found = findings(rows)
    photographs = "1 photograph" if len(bench.pictures) == 1 else f"{len(bench.pictures)} photographs"
    title = f"{bench.subject.name}, ×{bench.subject.scale}, {photographs}"
    table = table_of(found, title)
    if (upscaler := bench.subject.upscaler) is not None and options.shard is None:
        measured = intervals.measure(upscaler, bench.pictures, options.progress)
        more = intervals.table_of(measured, upscaler.bundle.manifest.intervals)
        table = replace(table, more=[*table.more, more])
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


def _of_inputs(bench: Bench, open_flow: Callable[[Tensor], ConditionedFlow], picture: Picture) -> list[Row]:
    """Bits and deviations of latents: a row for the photograph's centre, and one for each unlike picture made of it."""
    hr, lr = _centre(bench, picture)
    made = _inputs(bench, hr, picture.name)
    pairs = {
        PHOTOGRAPH: (hr, lr),
        **{name: (image, bench.cut.reduced(image, bench.subject.reduction)) for name, image in made.items()},
    }
    rows: list[Row] = []
    for name, (image, small) in pairs.items():
        row: Row = {"part": "input", "input": name}
        try:
            found = open_flow(small).invert(_dequantised(image))
        except NonFiniteError:
            rows.append({**row, "nonfinite": 1.0})
            continue
        row["bits_per_dimension"] = _bits_of(found)
        deviations = {f"deviation_{level}": float(z.astype("float64").std()) for level, z in found.levels.items()}
        rows.append({**row, **deviations})
    return rows


def _inputs(bench: Bench, hr: Tensor, name: str) -> dict[str, Tensor]:
    makers = odd_inputs(bench.subject.scale, bench.subject.reduction)
    return {kind: make(hr, name) for kind, make in makers.items()}


def _centre(bench: Bench, picture: Picture) -> tuple[Tensor, Tensor]:
    multiple, scale = bench.cut.multiple, bench.subject.scale
    side = max(_INPUT_SIDE, LEAST_SIDE, multiple) // multiple * multiple
    rows, columns = Cut(scale=scale, multiple=multiple, centre=side).window(*picture.hr.shape[2:])
    small = [slice(part.start // scale, part.stop // scale) for part in (rows, columns)]
    return picture.hr[..., rows, columns].contiguous(), picture.lr[..., small[0], small[1]].contiguous()


def _dequantised(hr: Tensor) -> Tensor:
    return torch.from_numpy(dequantised(hr[0].numpy()))[None]


def _bits_of(latents: Latents) -> float:
    found = latents.bits_per_dimension
    assert found is not None  # inverting always knows it
    return found


def _bicubic_errors(picture: Picture) -> Row:
    """How far the dequantised photograph is from bicubic's picture: mean absolute and squared, of values in [0, 1]."""
    scale = picture.hr.shape[2] // picture.lr.shape[2]
    middle = (255 * enlarge_bicubic(picture.lr, scale).double() + 0.5) / 256  # of the interval of each level
    error = _dequantised(picture.hr).double() - middle
    return {
        "values": float(error.numel()),
        "bicubic_mean_absolute": float(error.abs().sum() / error.numel()),
        "bicubic_mean_square": float(error.square().mean()),
    }


def _draw_sheet(bench: Bench, picture: Picture, path: Path) -> None:
    hr = _centre(bench, picture)[0]
    cells = [(PHOTOGRAPH, hr), *_inputs(bench, hr, picture.name).items()]
    write_sheet(path, f"inputs made of {picture.name}", cells, [shown_place(hr)], columns=4)


def odd_inputs(scale: int, reduction: Reduction) -> Mapping[str, Callable[[Tensor, str], Tensor]]:
    """By name, what makes a picture from a photograph and its name: 1×3×H×W, 8-bit levels in [0, 1].

    The same for every call. scale, reduction: of the model.
    """
    return {
        "with training's noise": _with_noise,
        "upside down": lambda hr, _: hr.flip(2),
        "blurred": lambda hr, _: round_to_8_bit(enlarge_bicubic(REDUCTIONS[reduction](hr, scale), scale)),
        "constant": lambda hr, _: round_to_8_bit(hr.mean(dim=(2, 3), keepdim=True)).expand_as(hr).contiguous(),
        "shuffled pixels": _shuffled,
    }


def _generator(name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _with_noise(hr: Tensor, name: str) -> Tensor:
    noise = _generator(name).standard_normal(hr.shape, np.float32)
    return round_to_8_bit(hr + _TRAINING_NOISE * torch.from_numpy(noise))


def _shuffled(hr: Tensor, name: str) -> Tensor:
    """The photograph's pixels in random order: noise with its colours."""
    order = torch.from_numpy(_generator(name).permutation(hr.shape[2] * hr.shape[3]))
    return hr.flatten(2)[..., order].reshape(hr.shape)
