"""How the embedded model's time and memory grow: with the picture, samples and threads; inverting and restoring too.

Straight lines are fitted; the table says how far the farthest point is from its line.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.bench.page import table
from benchmarks.bench.parts import Settings
from benchmarks.bench.processes import MissingError, Worker
from benchmarks.bench.timing import Line, Times, fit, geometric_steps, in_turn

WAYS = {
    "ONNX Runtime": ("cpu", "bundle"),
    "OpenVINO": ("openvino", "bundle"),
    "OpenVINO bf16": ("openvino", "bf16"),
}
PHOTO = 12.0  # megapixels
_ABOUT = {"samples": "samples of one picture", "invert": "inverting", "restore": "restoring"}


def run(settings: Settings) -> dict[str, Any]:
    """Sizes for every way; samples, inverting, restoring and threads on ONNX Runtime."""
    sides = [16, 32, 64] if settings.quick else [64, 128, 256, 512, 1024]
    small, counts = (16, [1, 2, 4]) if settings.quick else (64, [1, 2, 4, 8])
    found: dict[str, Any] = {"sizes": {}, "missing": {}, "threads": []}
    for name, (device, precision) in WAYS.items():
        settings.say(f"{name}, {sides[0]} to {sides[-1]} pixels a side")
        try:
            with _worker(device, precision, settings.threads) as worker:
                jobs = [(side * side, {"size": side}) for side in sides]
                found["sizes"][name] = _series(worker, jobs, settings)
        except MissingError as error:
            found["missing"][name] = str(error)
    series = {
        "samples": [(n, {"size": small, "samples": n}) for n in counts],
        "invert": [(side * side, {"size": side, "op": "invert"}) for side in sides[:3]],
        "restore": [(16 * side * side, {"size": 4 * side, "op": "restore"}) for side in sides[:3]],
    }
    for name, jobs in series.items():
        settings.say(_ABOUT[name])
        with _worker("cpu", "bundle", settings.threads) as worker:  # its own: runtimes keep the memory that they had
            found[name] = _series(worker, jobs, settings)
    for threads in geometric_steps(1, os.cpu_count() or 1):
        with _worker("cpu", "bundle", threads) as worker:
            found["threads"] += _series(worker, [(threads, {"size": small})], settings)
    return found


def _worker(device: str, precision: str, threads: int) -> Worker:
    variant = {"way": "ours", "file": None, "tile": "auto", "device": device, "precision": precision}
    return Worker({**variant, "threads": threads})


def _series(worker: Worker, jobs: list[tuple[int, dict[str, Any]]], settings: Settings) -> list[dict[str, Any]]:
    points = []
    for x, job in jobs:
        answers: list[dict[str, Any]] = []

        def seconds(job: dict[str, Any] = job, answers: list[dict[str, Any]] = answers) -> float:
            answers.append(worker.run(limit_s=3600, **job))
            return float(answers[-1]["seconds"])

        times = in_turn({x: seconds}, runs=settings.runs)[x]
        points.append({"x": x, "seconds": times.seconds, "peak_bytes": max(each["peak_bytes"] for each in answers)})
    return points


def _line(series: list[dict[str, Any]]) -> Line:
    return fit([point["x"] for point in series], [Times(tuple(point["seconds"])).median for point in series])


def tables(result: dict[str, Any]) -> str:
    """One row for each line, then the threads, then a photograph by its line."""
    pictures = {f"pictures, {name}": points for name, points in result["sizes"].items()}
    rows = [_row(name, points, 1e6, "megapixel") for name, points in pictures.items()]
    for key, name in _ABOUT.items():
        rows.append(_row(name, result[key], *((1, "sample") if key == "samples" else (1e6, "megapixel"))))
    head = ["Embedded model", "from … to", "line", "R²", "farthest point", "peak memory of the process"]
    threads = []
    for point in result["threads"]:
        first, times = (Times(tuple(each["seconds"])) for each in (result["threads"][0], point))
        threads.append([str(point["x"]), str(times), f"{first.median / times.median:.2f}"])
    photo = [[name, f"{_line(points).at(PHOTO * 1e6) / 60:.1f} minutes"] for name, points in result["sizes"].items()]
    texts = [table(head, rows), table(["Threads, ONNX Runtime", "one tile", "times one thread's speed"], threads)]
    texts += [table([f"A {PHOTO:g}-megapixel photograph", "time, from the line"], photo)]
    texts += [f"- {name}: not measured: {why}" for name, why in result["missing"].items()]
    return "\n\n".join(texts)


def _row(name: str, points: list[dict[str, Any]], unit: float, per: str) -> list[str]:
    line, peaks = _line(points), [point["peak_bytes"] / 1e9 for point in points]
    first, last = (points[end]["x"] / unit for end in (0, -1))
    span = f"{first:.3f} to {last:.3f} {per}s" if unit > 1 else f"{first:g} to {last:g}"
    grows = f"{line.start:.3f} s + {line.slope * unit:.3g} s a {per}"
    return [name, span, grows, f"{line.r2:.4f}", f"{line.residual:.0%}", f"{min(peaks):.2f} to {max(peaks):.2f} GB"]
