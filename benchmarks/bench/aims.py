"""The aims for speed and memory, beside what the other parts measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.bench import growth, side_by_side, startup
from benchmarks.bench.page import table
from benchmarks.bench.timing import Times

Results = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """value: what was measured; of: which row; sure: whether it decides if the aim is reached."""

    value: float
    of: str = ""
    sure: bool = True


_LINE_OFF = 0.1  # a line that misses its check by more predicts nothing


@dataclass(frozen=True)
class Aim:
    """at_least: the aim is a lower bound; otherwise it is an upper one. unit: follows the number.

    ideal: the figure if a run were nothing but convolutions, at the rate of a large one.
    """

    name: str
    bound: float
    unit: str
    at_least: bool
    measured: Callable[[Results], Figure | None]
    ideal: Callable[[Results], float] | None = None

    def row(self, results: Results) -> list[str]:
        """Name, aim, measured, reached, ideal."""
        try:
            found = self.measured(results)
        except KeyError:  # a part, a way or a size that was not measured
            found = None
        aim = f"{'≥' if self.at_least else '≤'} {self.bound:g}{self.unit}"
        try:
            ideal = "" if self.ideal is None else f"{self.ideal(results):.3g}{self.unit}"
        except KeyError:
            ideal = "not measured"
        if found is None:
            return [self.name, aim, "not measured", "", ideal]
        reached = found.value >= self.bound if self.at_least else found.value <= self.bound
        by = f" ({found.of})" if found.of else ""
        value = f"{found.value:.3g}{self.unit}" if found.value > 0 else "less than runs vary by"
        return [self.name, aim, value + by, ("yes" if reached else "**no**") if found.sure else "unsure", ideal]


def _ideal_seconds(results: Results, network: str, *, samples: int, pixels: float) -> float:
    """Of an encoding and its samples at the measured rates: the encoder's fastest, and float32's for the sampler."""
    of, rates = results["limit"], results["limit"]["rates"]
    a_pixel = {part: macs / of["size"] ** 2 for part, macs in of["networks"][network]["multiply_adds"].items()}
    encoder, sampler = a_pixel["encoder"] / max(rates.values()), a_pixel["sampler"] / rates["ONNX Runtime, fp32"]
    return float(pixels * (encoder + samples * sampler))


def _ideal_speed(results: Results, samples: int) -> float:
    points = results["side-by-side"]["x4"]["rows"][side_by_side.AUTHORS]["points"]
    seconds = Times(tuple(points[f"64×64, {_samples(samples)}"]["seconds"])).median
    return seconds / _ideal_seconds(results, "full-size ×4", samples=samples, pixels=64**2)


def _ideal_tile(results: Results) -> float:
    return _ideal_seconds(results, "embedded model", samples=1, pixels=64**2)


def _ideal_photo(results: Results) -> float:
    seconds = _ideal_seconds(results, "embedded model", samples=1, pixels=12e6)
    return seconds * float(results["growth"]["cores"]) / 60


def _samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"


def _fastest(results: Results, samples: int) -> Figure | None:
    of = results["side-by-side"]["x4"]
    point = {each["name"]: each for each in of["points"]}[f"64×64, {_samples(samples)}"]
    found = {label: side_by_side.speed(of["rows"], label, point) for label in side_by_side.OURS}
    known = {label: speed for label, speed in found.items() if speed is not None}
    if not known:
        return None
    best = max(known, key=lambda label: known[label])
    return Figure(known[best], best.removeprefix("ours, "))


def _tile(results: Results) -> Figure | None:
    if results["limit"]["size"] != 64:
        return None
    seconds = results["limit"]["networks"]["embedded model"]["seconds"]
    whole = {name: sum(Times(tuple(part)).median for part in parts.values()) for name, parts in seconds.items()}
    if not whole:
        return None
    best = min(whole, key=lambda name: whole[name])
    return Figure(whole[best], best)


def _process(name: str) -> Callable[[Results], Figure]:
    return lambda results: Figure(startup.beyond_python(results["startup"], name))


def _whole_process(name: str) -> Callable[[Results], Figure]:
    return lambda results: Figure(Times(tuple(results["startup"]["seconds"][name])).median)


def _photo(results: Results) -> Figure | None:
    result = results["growth"]
    found = {name: growth.seconds_of_photo(result, name) for name in growth.WAYS}
    minutes = {name: seconds[0] * result["cores"] / 60 for name, seconds in found.items() if seconds is not None}
    if not minutes:
        return None
    best = min(minutes, key=lambda name: minutes[name])
    measured = found[best]
    if measured and measured[1]:
        return Figure(minutes[best], f"{best}, measured")
    check = result.get("check")
    if not check or check["way"] != best:
        return Figure(minutes[best], f"{best}, from a line that was not checked", sure=False)
    off = abs(Times(tuple(check["seconds"])).median / check["predicted"] - 1)
    return Figure(minutes[best], f"{best}, from the line", sure=off <= _LINE_OFF)


def _memory(results: Results) -> Figure | None:
    rows = results["side-by-side"]["x4"]["rows"]
    peaks = {label: row["points"]["256×256, 1 sample"]["peak_bytes"] for label, row in rows.items() if _big(row)}
    ours = {label: peak for label, peak in peaks.items() if label in side_by_side.OURS}
    if not ours:
        return None
    best = min(ours, key=lambda label: ours[label])
    return Figure(ours[best] / peaks[side_by_side.AUTHORS], best.removeprefix("ours, "))


def _big(row: dict[str, Any]) -> bool:
    return "256×256, 1 sample" in row.get("points", {})


def _speed(name: str, at_least: float, samples: int) -> Aim:
    measured, ideal = partial(_fastest, samples=samples), partial(_ideal_speed, samples=samples)
    return Aim(name, at_least, "× the authors' speed", True, measured, ideal)


AIMS = (
    _speed("full-size ×4, 64×64, one sample", 3.2, samples=1),
    _speed("full-size ×4, 64×64, eight samples", 14, samples=8),
    Aim("embedded model, one 64×64 tile", 0.10, " s", False, _tile, _ideal_tile),
    Aim("import srflow_sdk, beyond Python itself", 0.015, " s", False, _process("import srflow_sdk")),
    Aim("srflow-upscale --help, whole process", 0.07, " s", False, _whole_process("srflow-upscale --help")),
    Aim("first picture of a new process, embedded model", 0.8, " s", False, _whole_process("first picture, 64×64")),
    Aim("12-megapixel photograph, embedded model", 10, " core-minutes", False, _photo, _ideal_photo),
    Aim("peak memory of 256×256 without tiles, full-size ×4", 0.5, " of the authors'", False, _memory),
)


def tables(results: Results) -> str:
    """One row for each aim; the fastest of ours is named."""
    return table(
        ["Aim", "aimed at", "measured", "reached", "at the convolution rate"], [aim.row(results) for aim in AIMS]
    )
