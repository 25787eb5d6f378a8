"""The full-size ×4 network as its authors run it, and as ours by runtime and precision.

The authors' network computes everything for each sample, so N samples are N times one.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.bench.networks import prepare
from benchmarks.bench.parts import Settings, table
from benchmarks.bench.processes import MissingError, Worker
from benchmarks.bench.timing import Times, call_in_turn, paired_ratio

AUTHORS = "the authors' network, eager PyTorch"
OURS = {
    "ours, ONNX Runtime": ("cpu", "bundle"),
    "ours, ONNX Runtime int8": ("cpu", "int8"),
    "ours, OpenVINO": ("openvino", "bundle"),
    "ours, OpenVINO bf16": ("openvino", "bf16"),
    "ours, OpenVINO int8": ("openvino", "int8"),
}


def points(side: int) -> dict[str, dict[str, Any]]:
    """What is measured, by the headings of columns.

    More memory comes after less: runtimes keep what they had.
    """
    square = f"{side}×{side}"
    return {
        f"{square}, 1 sample": {"size": side},
        f"{square}, another τ": {"size": side, "op": "again"},
        f"{square}, 8 samples": {"size": side, "samples": 8},
        f"{2 * side}×{2 * side}, 1 sample": {"size": 2 * side},
    }


def run(settings: Settings) -> dict[str, Any]:
    """Rows by label: loading, and times and peaks by the points' names; or why a row is missing."""
    folder = prepare(settings.work, settings.say, tiny=settings.quick)
    variants: dict[str, dict[str, Any]] = {AUTHORS: {"way": "authors", "file": "network.pth"}}
    for label, (device, precision) in OURS.items():
        bundle = "int8.srflow" if precision == "int8" else "network.srflow"
        variants[label] = {"way": "ours", "file": bundle, "device": device, "precision": precision}
    rows: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for label, variant in variants.items():
            settings.say(f"loads {label}")
            file = str(folder / variant["file"])
            try:
                worker = stack.enter_context(
                    Worker({**variant, "file": file, "threads": settings.threads})
                )
                workers[label] = worker
                rows[label] = {**worker.loaded, "points": {}}
            except MissingError as error:
                rows[label] = {"missing": str(error)}
        for name, job in points(16 if settings.quick else 64).items():
            settings.say(name)
            _measure(name, job, workers, rows, settings.runs)
    return {"rows": rows}


def _measure(
    name: str,
    job: dict[str, Any],
    workers: dict[str, Worker],
    rows: dict[str, dict[str, Any]],
    runs: int,
) -> None:
    """Add a point to each row that has it: the authors' network has no further τ."""
    peaks: dict[str, int] = {}

    def seconds(label: str) -> float:
        try:
            answer = workers[label].run(**{"samples": 1, "op": "upscale", **job})
        except MissingError as error:
            rows[label].setdefault("failed", {}).setdefault(name, str(error))
            return float("nan")
        peaks[label] = max(peaks.get(label, 0), answer["peak_bytes"])
        return float(answer["seconds"])

    labels = [label for label in workers if label != AUTHORS or "op" not in job]
    times = call_in_turn({label: partial(seconds, label) for label in labels}, runs=runs)
    for label in labels:
        if name in rows[label].get("failed", {}):
            del workers[label]  # its process is gone
        else:
            rows[label]["points"][name] = {
                "seconds": times[label].seconds,
                "peak_bytes": peaks[label],
            }


def speed(rows: dict[str, dict[str, Any]], label: str, name: str) -> float | None:
    """How many times as fast as the authors' network at a point; None if it was not measured.

    Another τ is compared with a sample, which is what the authors' network computes for it.
    """
    own = rows[label]["points"].get(name)
    authors = rows[AUTHORS].get("points", {}).get(name.replace(", another τ", ", 1 sample"))
    if own is None or authors is None:
        return None
    return paired_ratio(Times(tuple(authors["seconds"])), Times(tuple(own["seconds"])))


def tables(result: dict[str, Any]) -> str:
    """The times, and beside them what loading and memory take."""
    rows = result["rows"]
    there = {label: row for label, row in rows.items() if "missing" not in row}
    names = list(dict.fromkeys(name for row in there.values() for name in row["points"]))
    times = [[label, *(_cell(rows, label, name) for name in names)] for label in there]
    peaks = [name for name in names if not name.endswith("τ")]
    memory = [[label, *_memory(row, peaks)] for label, row in there.items()]
    head = [
        "Memory and files",
        "on disk",
        "loading",
        "loaded",
        *(f"peak, {name}" for name in peaks),
    ]
    texts = [table(["Full-size ×4 (23 blocks, K = 16)", *names], times), table(head, memory)]
    lines = [
        f"- {label}: not measured: {row['missing']}"
        for label, row in rows.items()
        if "missing" in row
    ]
    for label, row in there.items():
        lines += [
            f"- {label}, {name}: failed: {why}" for name, why in row.get("failed", {}).items()
        ]
    return "\n\n".join([*texts, *(["\n".join(lines)] if lines else [])])


def _cell(rows: dict[str, dict[str, Any]], label: str, name: str) -> str:
    own = rows[label]["points"].get(name)
    faster = speed(rows, label, name)
    if own is None:
        return "–"
    ratio = "" if faster is None or label == AUTHORS else f", **{faster:.2f}×**"
    return f"{Times(tuple(own['seconds']))}{ratio}"


def _memory(row: dict[str, Any], peaks: list[str]) -> list[str]:
    """Cells of the files, of loading, and of each peak."""
    files = [
        f"{row['disk_bytes'] / 1e6:.1f} MB",
        f"{row['load_seconds']:.2f} s",
        f"{row['loaded_bytes'] / 1e9:.2f} GB",
    ]
    points = [row["points"].get(name) for name in peaks]
    return files + [
        "–" if each is None else f"{each['peak_bytes'] / 1e9:.2f} GB" for each in points
    ]
