"""How the embedded model's time and memory grow: with the picture, samples and threads; inverting and restoring too.

Straight lines are fitted; the table says how far the farthest point is from its line. What tiles bound is flat instead.
A 12-megapixel photograph takes ten core-minutes or more: it is predicted from the line, or measured with
`--megapixels 12`.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.bench.fits import Line, fit
from benchmarks.bench.page import table
from benchmarks.bench.settings import Settings
from benchmarks.bench.timing import Times, geometric_steps, in_turn
from benchmarks.bench.worker import MissingError, Worker

WAYS = {
    "ONNX Runtime": ("cpu", "bundle"),
    "OpenVINO": ("openvino", "bundle"),
    "OpenVINO bf16": ("openvino", "bf16"),
}
PHOTO = 12.0  # megapixels
_ABOUT = {"sizes": "pictures", "samples": "samples of one picture", "invert": "inverting", "restore": "restoring"}


def run(settings: Settings) -> dict[str, Any]:
    """Sizes for every way; samples, inverting, restoring and threads on ONNX Runtime."""
    sides = [16, 32, 64] if settings.quick else [64, 128, 256, 512]
    largest = 2 * sides[-1] if settings.quick else 2 * round((settings.megapixels * 1e6) ** 0.5 / 2)
    found: dict[str, Any] = {"cores": settings.threads, "sizes": {}, "missing": {}}
    for name, (device, precision) in WAYS.items():
        if settings.skips(f"pictures, {name}"):
            continue
        settings.say(f"growth: {name}, {sides[0]} to {sides[-1]} pixels a side")
        try:
            with _worker(device, precision, settings.threads) as worker:
                jobs = [(side * side, {"size": side}) for side in sides]
                found["sizes"][name] = _series(worker, jobs, settings)
        except MissingError as error:
            found["missing"][name] = str(error)
    small, counts = (16, [1, 2, 4]) if settings.quick else (64, [1, 2, 4, 8])
    few = sides[:3]
    series = {
        "samples": [(n, {"size": small, "samples": n}) for n in counts],
        "invert": [(side * side, {"size": side, "op": "invert"}) for side in few],
        "restore": [(16 * side * side, {"size": 4 * side, "op": "restore"}) for side in few],
    }
    for name, jobs in series.items():
        if settings.skips(_ABOUT[name]):
            continue
        settings.say(f"growth: {_ABOUT[name]}")
        with _worker("cpu", "bundle", settings.threads) as worker:  # its own: runtimes keep the memory that they had
            found[name] = _series(worker, jobs, settings)
    found["threads"] = []
    for threads in geometric_steps(1, os.cpu_count() or 1):
        if settings.skips(f"{threads} threads"):
            continue
        with _worker("cpu", "bundle", threads) as worker:
            series = _series(worker, [(threads, {"size": small})], settings)
            found["threads"] += series
    # Last, as it takes longest with --megapixels 12; whoever asked for that wants it however late it is.
    asked = settings.megapixels != Settings.megapixels
    if asked or not settings.skips(f"the check of a line, {largest} pixels a side"):
        _check_a_line(found, largest, settings)
    return found


def _check_a_line(found: dict[str, Any], side: int, settings: Settings) -> None:
    """Measure a larger size on the way that decides the aim for a photograph: the one whose line is lowest there.

    `check` says what its line predicted, and the point joins the line.
    """
    lines = {name: _line(points) for name, points in found["sizes"].items()}
    if not lines:
        return
    fastest = min(lines, key=lambda name: lines[name].at(PHOTO * 1e6))
    series, line, (device, precision) = found["sizes"][fastest], lines[fastest], WAYS[fastest]
    settings.say(f"growth: {fastest}, {side} pixels a side, to check its line")
    with _worker(device, precision, settings.threads) as worker:
        point = _series(worker, [(side * side, {"size": side})], settings)[0]
    found["check"] = {"way": fastest, "x": point["x"], "predicted": line.at(point["x"]), "seconds": point["seconds"]}
    series.append(point)


def _worker(device: str, precision: str, threads: int) -> Worker:
    variant = {"way": "ours", "network": "embedded", "folder": "", "tile": "auto"}
    return Worker({**variant, "device": device, "precision": precision, "threads": threads})


def _series(worker: Worker, jobs: list[tuple[int, dict[str, Any]]], settings: Settings) -> list[dict[str, Any]]:
    points = []
    for x, job in jobs:
        peaks: list[int] = []

        def seconds(job: dict[str, Any] = job, peaks: list[int] = peaks) -> float:
            answer = worker.run(limit_s=3600, **job)
            peaks.append(answer["peak_bytes"])
            return float(answer["seconds"])

        times = in_turn({x: seconds}, runs=settings.runs)[x]
        points.append({"x": x, "seconds": times.seconds, "peak_bytes": max(peaks)})
    return points


def seconds_of_photo(result: dict[str, Any], name: str) -> tuple[float, bool] | None:
    """Wall seconds of a 12-megapixel photograph, and whether that was measured; None without figures of this way."""
    series = result.get("sizes", {}).get(name)
    if series is None:
        return None
    last = series[-1]
    if last["x"] >= 0.99 * PHOTO * 1e6:
        return Times(tuple(last["seconds"])).median * PHOTO * 1e6 / last["x"], True
    return _line(series).at(PHOTO * 1e6), False


def _line(series: list[dict[str, Any]]) -> Line:
    return fit([point["x"] for point in series], _medians(series))


def _medians(series: list[dict[str, Any]]) -> list[float]:
    return [Times(tuple(point["seconds"])).median for point in series]


def tables(result: dict[str, Any]) -> str:
    """One row for each line, then the threads."""
    rows = []
    series = {f"pictures, {name}": points for name, points in result["sizes"].items()}
    series |= {_ABOUT[key]: result[key] for key in ("samples", "invert", "restore") if key in result}
    for name, points in series.items():
        of_pixels = points[-1]["x"] > 1000
        line = _line(points)
        unit, per = (1e6, "megapixel") if of_pixels else (1, "sample")
        span = (
            f"{points[0]['x'] / 1e6:.3f} to {points[-1]['x'] / 1e6:.3f} megapixels"
            if of_pixels
            else "1 to " + str(points[-1]["x"])
        )
        peaks = [point["peak_bytes"] for point in points]
        cells = [f"{line.start:.3f} s + {line.slope * unit:.3g} s a {per}", f"{line.r2:.4f}", f"{line.residual:.0%}"]
        rows.append([name, span, *cells, f"{min(peaks) / 1e9:.2f} to {max(peaks) / 1e9:.2f} GB"])
    head = ["Embedded model", "from … to", "line", "R²", "farthest point", "peak memory of the process"]
    threads = []
    for point in result["threads"]:
        first, times = (Times(tuple(each["seconds"])) for each in (result["threads"][0], point))
        threads.append([str(point["x"]), str(times), f"{first.median / times.median:.2f}"])
    photo = []
    for name in result["sizes"]:
        found = seconds_of_photo(result, name)
        if found is not None:
            photo.append([name, f"{found[0] / 60:.1f} minutes", "measured" if found[1] else "from the line"])
    texts = [table(head, rows), table(["Threads, ONNX Runtime", "one tile", "times one thread's speed"], threads)]
    texts += [table([f"A {PHOTO:g}-megapixel photograph", "time", "how it was found"], photo)]
    if check := result.get("check"):
        took = Times(tuple(check["seconds"])).median
        off = f"{took / check['predicted'] - 1:+.0%}"
        what = f"{check['x'] / 1e6:.3f} megapixels, {check['way']}"
        texts.append(f"A line was checked: {what}: {check['predicted']:.3g} s predicted, {took:.3g} s taken ({off}).")
    texts += [f"- {name}: not measured: {why}" for name, why in result["missing"].items()]
    return "\n\n".join(texts)
