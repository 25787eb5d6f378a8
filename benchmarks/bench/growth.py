"""How the embedded model's time and memory grow with the picture, samples and threads."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.bench.parts import Settings, table
from benchmarks.bench.processes import MissingError, Worker
from benchmarks.bench.timing import Times, call_in_turn

WAYS = {
    "ONNX Runtime": ("cpu", "bundle"),
    "OpenVINO": ("openvino", "bundle"),
    "OpenVINO bf16": ("openvino", "bf16"),
}
PHOTO = 12.0  # megapixels


def run(settings: Settings) -> dict[str, Any]:
    """Sizes for every way; samples, inverting, restoring and threads on ONNX Runtime."""
    sides = [16, 32, 64] if settings.quick else [64, 128, 256, 512, 1024]
    small, counts = (16, [1, 2, 4]) if settings.quick else (64, [1, 2, 4, 8])
    result: dict[str, Any] = {"sizes": {}, "missing": {}, "threads": []}
    for name, (device, precision) in WAYS.items():
        settings.say(f"{name}, {sides[0]} to {sides[-1]} pixels a side")
        try:
            with _worker(device, precision, settings.threads) as worker:
                jobs = [(side * side, {"size": side}) for side in sides]
                result["sizes"][name] = _series(worker, jobs, settings)
        except MissingError as error:
            result["missing"][name] = str(error)
    series = {
        "samples": [(n, {"size": small, "samples": n}) for n in counts],
        "invert": [(side * side, {"size": side, "op": "invert"}) for side in sides[:3]],
        "restore": [(16 * side * side, {"size": 4 * side, "op": "restore"}) for side in sides[:3]],
    }
    for name, jobs in series.items():
        settings.say(name)
        with _worker(
            "cpu", "bundle", settings.threads
        ) as worker:  # its own: runtimes keep the memory that they had
            result[name] = _series(worker, jobs, settings)
    cores = os.cpu_count() or 1
    for threads in sorted({*(count for count in (1, 2, 4, 8, 16, 32, 64) if count < cores), cores}):
        with _worker("cpu", "bundle", threads) as worker:
            result["threads"] += _series(worker, [(threads, {"size": small})], settings)
    return result


def _worker(device: str, precision: str, threads: int) -> Worker:
    variant = {
        "way": "ours",
        "file": None,
        "tile": "auto",
        "device": device,
        "precision": precision,
    }
    return Worker({**variant, "threads": threads})


def _series(
    worker: Worker, jobs: list[tuple[int, dict[str, Any]]], settings: Settings
) -> list[dict[str, Any]]:
    points = []
    for x, job in jobs:
        answers: list[dict[str, Any]] = []

        def seconds(job: dict[str, Any] = job, answers: list[dict[str, Any]] = answers) -> float:
            answers.append(worker.run(limit_s=3600, **job))
            return float(answers[-1]["seconds"])

        times = call_in_turn({x: seconds}, runs=settings.runs)[x]
        points.append(
            {
                "x": x,
                "seconds": times.seconds,
                "peak_bytes": max(each["peak_bytes"] for each in answers),
            }
        )
    return points


def tables(result: dict[str, Any]) -> str:
    """Times by the sides of the input, then by samples and threads, then for a photograph."""
    series = {f"pictures, {name}": points for name, points in result["sizes"].items()}
    series |= {"inverting": result["invert"], "restoring": result["restore"]}
    sizes = sorted({point["x"] for points in series.values() for point in points})
    rows = []
    for name, points in series.items():
        times = {point["x"]: str(Times(tuple(point["seconds"]))) for point in points}
        rows.append([name, *(times.get(size, "–") for size in sizes), _memory(points)])
    sides = [f"{round(size**0.5)}×{round(size**0.5)}" for size in sizes]
    texts = [table(["Embedded model", *sides, "peak memory of the process"], rows)]
    for what, points in {"Samples": result["samples"], "Threads": result["threads"]}.items():
        head = [
            f"{what}, ONNX Runtime, {sides[0]}",
            *(str(point["x"]) for point in points),
            "peak memory",
        ]
        texts.append(
            table(
                head,
                [
                    [
                        "time",
                        *(str(Times(tuple(point["seconds"]))) for point in points),
                        _memory(points),
                    ]
                ],
            )
        )
    rates = {
        name: Times(tuple(points[-1]["seconds"])).median / points[-1]["x"]
        for name, points in result["sizes"].items()
    }
    photo = ", ".join(
        f"{rate * PHOTO * 1e6 / 60:.1f} minutes with {name}" for name, rate in rates.items()
    )
    texts.append(
        f"At the rate of the largest picture, a photograph of {PHOTO:g} megapixels takes {photo}."
    )
    return "\n\n".join(
        [*texts, *(f"- {name}: not measured: {why}" for name, why in result["missing"].items())]
    )


def _memory(points: list[dict[str, Any]]) -> str:
    peaks = [point["peak_bytes"] / 1e9 for point in points]
    return f"{min(peaks):.2f} to {max(peaks):.2f} GB"
