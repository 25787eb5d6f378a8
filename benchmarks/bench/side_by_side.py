"""The same network as its authors run it, compiled, exported as it stands, and as ours by runtime and precision.

Not the full product of sizes, samples and threads, which would take hours: `points` says what is measured. The authors'
ways compute everything for each sample, so N samples are N times one; that is measured at 2 and at 8.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benchmarks.bench.networks import Networks, prepared
from benchmarks.bench.page import table
from benchmarks.bench.settings import Settings
from benchmarks.bench.timing import Times, in_turn, paired_ratio
from benchmarks.bench.worker import MissingError, Worker

AUTHORS = "the authors' network, eager PyTorch"
COMPILED = "the same, torch.compile"
DIRECT = "its direct export, ONNX Runtime"
OURS = {
    "ours, ONNX Runtime": ("cpu", "bundle"),
    "ours, ONNX Runtime int8": ("cpu", "int8"),
    "ours, OpenVINO": ("openvino", "bundle"),
    "ours, OpenVINO bf16": ("openvino", "bf16"),
    "ours, OpenVINO int8": ("openvino", "int8"),
}
_COMPILE_LIMIT_S = 100
_TITLES = {"x4": "Full-size ×4 (23 blocks, K = 16)", "x8-faces": "Full-size ×8 for faces"}


@dataclass(frozen=True)
class Point:
    """size: LR pixels a side. ways: labels that are measured there; None: all."""

    size: int
    samples: int
    threads: int
    op: str = "upscale"
    ways: tuple[str, ...] | None = None

    @property
    def alone(self) -> bool:
        """Measured one way after the other: what runtimes keep for reuse would not fit in memory beside each other."""
        return self.size > 128

    def has(self, label: str) -> bool:
        """Whether a way is measured there."""
        return self.ways is None or label in self.ways

    @property
    def name(self) -> str:
        """The heading of its column."""
        if self.op == "again":
            return f"{self.size}×{self.size}, another τ"
        what = "1 sample" if self.samples == 1 else f"{self.samples} samples"
        return f"{self.size}×{self.size}, {what}" + ("" if self.threads == 2 else f", {self.threads} thread")


def points(network: str, *, quick: bool) -> list[Point]:
    """What is measured of a network; in a process, more memory after less: runtimes keep what they had."""
    ours = tuple(OURS)
    fast = (AUTHORS, *ours)
    if quick:
        return [Point(16, 1, 2), Point(16, 1, 2, "again", ours), Point(16, 2, 2, ways=fast)]
    eight = Point(64, 8, 2, ways=fast)
    first = [Point(64, 1, 2), Point(64, 1, 2, "again", ours)]
    if network == "x8-faces":
        return [*first, eight]
    large = (AUTHORS, DIRECT, *ours)  # torch.compile would compile again for another size
    larger = [Point(128, 1, 2, ways=large), Point(256, 1, 2, ways=large)]
    return [*first, Point(64, 2, 2, ways=fast), eight, *larger, Point(64, 1, 1)]


def run(settings: Settings) -> dict[str, Any]:
    """Measure the networks."""
    names = list(settings.networks[:1] if settings.quick else settings.networks)
    with settings.not_counted():
        networks = prepared(settings.work, names, settings.say, tiny=settings.quick)
    return {name: measured(name, networks, settings) for name in names}


def measured(network: str, networks: Networks, settings: Settings) -> dict[str, Any]:
    """Rows by label: loading, and times and peaks by the points' names; or why a row is missing."""
    rows: dict[str, dict[str, Any]] = {}
    chosen = points(network, quick=settings.quick)
    for threads in dict.fromkeys(point.threads for point in chosen):
        of_threads = [point for point in chosen if point.threads == threads]
        if settings.skips(f"{network}, {of_threads[0].name} and all with as many threads"):
            continue
        variants = _variants(network, networks, threads, of_threads[0].size)
        # Tracing alone shows that it works; compilers would take longer than all else of a quick run.
        variants[COMPILED]["backend"] = "eager" if settings.quick else "inductor"
        if threads != chosen[0].threads:
            del variants[COMPILED]  # it would compile again
        together = [point for point in of_threads if not point.alone]
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for label, variant in variants.items():
                if "missing" not in rows.get(label, {}):
                    settings.say(f"{network}: {label}, {threads} threads")
                    _load(label, variant, networks, rows, workers, stack)
            for point in (point for point in together if not settings.skips(f"{network}, {point.name}")):
                settings.say(f"{network}: {point.name}")
                _measure(point, workers, rows, settings.runs)
        for point in (point for point in of_threads if point.alone):
            for label in (label for label in variants if point.has(label) and "missing" not in rows[label]):
                if settings.skips(f"{network}, {point.name}, {label}"):
                    continue
                settings.say(f"{network}: {point.name}, {label}")
                with ExitStack() as stack:
                    alone: dict[str, Worker] = {}
                    _load(label, variants[label], networks, rows, alone, stack)
                    _measure(point, alone, rows, settings.runs)
    return {"points": [asdict(point) | {"name": point.name} for point in chosen], "rows": rows}


def _load(
    label: str,
    variant: dict[str, Any],
    networks: Networks,
    rows: dict[str, dict[str, Any]],
    workers: dict[str, Worker],
    stack: ExitStack,
) -> None:
    """Start a worker, and note what loading took, or why it is missing."""
    try:
        if variant["precision"] == "int8" and (why := networks.why_no_int8(variant["network"])):
            raise MissingError(why)
        limit = 120 if label != COMPILED else _COMPILE_LIMIT_S
        workers[label] = stack.enter_context(Worker(variant, load_limit_s=limit))
        rows.setdefault(label, {**workers[label].loaded, "points": {}})
    except MissingError as error:
        if label in rows:
            rows[label].setdefault("failed", {})["loading again"] = str(error)
        else:
            rows[label] = {"missing": str(error)}


def _variants(network: str, networks: Networks, threads: int, size: int) -> dict[str, dict[str, Any]]:
    common = {"network": network, "folder": str(networks.folder), "threads": threads, "precision": "bundle"}
    found: dict[str, dict[str, Any]] = {AUTHORS: {**common, "way": "authors"}}
    found[COMPILED] = {**common, "way": "compiled", "size": size}
    found[DIRECT] = {**common, "way": "direct"}
    for label, (device, precision) in OURS.items():
        bundle = f"{network}-int8" if precision == "int8" else network
        found[label] = {**common, "way": "ours", "device": device, "precision": precision, "bundle": bundle}
    return found


def _measure(point: Point, workers: dict[str, Worker], rows: dict[str, dict[str, Any]], runs: int) -> None:
    peaks: dict[str, int] = {}
    job = {"size": point.size, "samples": point.samples, "op": point.op}

    def seconds(label: str) -> float:
        try:
            answer = workers[label].run(**job)
        except MissingError as error:
            rows[label].setdefault("failed", {})[point.name] = str(error)
            return float("nan")
        peaks[label] = max(peaks.get(label, 0), answer["peak_bytes"])
        return float(answer["seconds"])

    labels = [label for label in workers if point.has(label)]
    times = in_turn({label: partial(seconds, label) for label in labels}, runs=runs)
    for label in labels:
        if label in peaks and point.name not in rows[label].get("failed", {}):
            rows[label]["points"][point.name] = {"seconds": times[label].seconds, "peak_bytes": peaks[label]}


def speed(rows: dict[str, dict[str, Any]], label: str, point: dict[str, Any]) -> float | None:
    """How many times as fast as the authors' network at a point; None if it was not measured.

    Another τ is compared with a sample, which is what the authors' network computes for it.
    """
    own = rows.get(label, {}).get("points", {}).get(point["name"])
    beside = point["name"].replace(", another τ", ", 1 sample")
    authors = rows.get(AUTHORS, {}).get("points", {}).get(beside)
    if own is None or authors is None:
        return None
    return paired_ratio(Times(tuple(authors["seconds"])), Times(tuple(own["seconds"])))


def tables(result: dict[str, Any]) -> str:
    """For each network the times, and beside them what loading and memory take."""
    texts = []
    for network, of in result.items():
        rows = of["rows"]
        if not rows:  # no time was left for this network
            continue
        head = [_TITLES[network], *(point["name"] for point in of["points"])]
        lines = [[label, *(_cell(rows, label, point) for point in of["points"])] for label in rows]
        texts += [table(head, [line for line in lines if "missing" not in rows[line[0]]])]
        sizes = [point for point in of["points"] if point["op"] == "upscale" and point["threads"] == 2]
        head = [
            "Memory and files",
            "on disk",
            "loading",
            "loaded",
            *(f"peak, {point['name']}" for point in sizes),
        ]
        texts += [table(head, [_memory(label, row, sizes) for label, row in rows.items() if "missing" not in row])]
        texts += [f"- {label}: not measured: {row['missing']}" for label, row in rows.items() if "missing" in row]
        for label, row in rows.items():
            texts += [f"- {label}, {name}: failed: {why}" for name, why in row.get("failed", {}).items()]
    return "\n\n".join(texts).replace("\n\n- ", "\n- ")


def _cell(rows: dict[str, dict[str, Any]], label: str, point: dict[str, Any]) -> str:
    own = rows[label].get("points", {}).get(point["name"])
    if own is None:
        return "–"
    faster = speed(rows, label, point)
    beside = "" if faster is None or label == AUTHORS else f", **{faster:.2f}×**"
    return f"{Times(tuple(own['seconds']))}{beside}"


def _memory(label: str, row: dict[str, Any], sizes: list[dict[str, Any]]) -> list[str]:
    peaks = [row["points"].get(point["name"]) for point in sizes]
    return [
        label,
        f"{row['disk_bytes'] / 1e6:.1f} MB",
        f"{row['load_seconds']:.2f} s",
        f"{row['loaded_bytes'] / 1e9:.2f} GB",
        *("–" if peak is None else f"{peak['peak_bytes'] / 1e9:.2f} GB" for peak in peaks),
    ]
