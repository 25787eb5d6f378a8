"""Checks of an engine or of our kernels, each of which gives rows; and their process.

That is `python -m benchmarks.gpu_report.checks`, see `report.py`.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.processes import MissingError, remove_paths, serve
from benchmarks.gpu_report.network import Setting, make_references, picture
from benchmarks.gpu_report.report import FURTHER, PICTURE, Row, Verdict
from srflow_sdk.backends.gate import psnr
from srflow_sdk.model.manifest import LEAST_DB
from srflow_sdk.system.hardware import gpu_free_memory

THREADS = 8
_ROUNDS = 20
_QUICK_ROUNDS = 2
_WARM_UP_S = 0.2  # until the GPU's clocks are up


class Checks(logging.Handler):
    """The process of an engine, which answers {"check": NAME} with that check's rows.

    said: what it warned of so far. free: bytes of GPU memory, before anything is opened.

    An engine has: about, what loading says; draw(pixels), float32 h×w×3 in [0, 1] → sh×sw×3, at TAU
    with the latents of SEED; calls(size), what is timed by name: PICTURE from pixels to pixels,
    FURTHER, or its stages.
    """

    disk_bytes = 0

    def __init__(self, variant: Mapping[str, Any]) -> None:
        super().__init__(logging.WARNING)
        self.runs_on: str = variant["engine"]
        self.setting = Setting(
            self.runs_on, Path(variant["work"]), quick=variant["quick"], size=variant["size"]
        )
        self.said: list[str] = []
        self.free = gpu_free_memory()
        self._reported: set[str] = set()
        logging.getLogger("srflow_sdk").handlers = [self]

    @cached_property
    def engine(self) -> Any:
        """The engine, opened when a check asks for it first. Raises: MissingError."""
        if self.setting.kind == "torch":
            from benchmarks.gpu_report.torch_engine import TorchEngine as Kind
        else:
            from benchmarks.gpu_report.sdk_engine import SdkEngine as Kind  # type: ignore[assignment]
        return Kind(self.setting)

    def row(self, name: str, value: str, limit: str, right: bool) -> Row:
        """A row of this engine that is fine or wrong."""
        return Row(name, self.runs_on, value, limit, "fine" if right else "wrong")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.said.append(record.getMessage())

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], Iterator[dict[str, Any]]]:
        """The work of a job."""
        return lambda: self.ask(job["check"])

    def ask(self, check: str) -> Iterator[dict[str, Any]]:
        """{"row": fields} as each row is known; {"absent": why} if no other check can run.

        What a check raises is a row, and so is each of the SDK's warnings, once.
        """
        for answer in self._answers(check):
            for line in self.said:
                if line not in self._reported:
                    self._reported.add(line)
                    yield self._row("warning", line)
            yield answer

    def _answers(self, check: str) -> Iterator[dict[str, Any]]:
        try:
            for row in CHECKS[check](self):
                yield {"row": asdict(row)}
        except MissingError as error:
            yield {"absent": str(error)}
        except Exception as error:
            if any(isinstance(each, ModuleNotFoundError) for each in (error, error.__cause__)):
                yield {"absent": str(error)}
                return
            # What the processor cannot do, or the memory is too small for, says nothing about the
            # GPU's arithmetic.
            full = check == "reference" or "OutOfMemory" in type(error).__name__
            yield self._row(
                check, f"{type(error).__name__}: {error}", "not run" if full else "wrong"
            )
            if check in ("reference", "loading"):  # the others would fail for the same reason
                yield {"absent": f"{check} failed"}
        else:
            yield {}  # for warnings after the last row

    def _row(self, name: str, words: str, verdict: Verdict = "") -> dict[str, Any]:
        value = " ".join(remove_paths(words).split())[:400]
        return {"row": asdict(Row(name, self.runs_on, value, verdict=verdict))}


def reference(of: Checks) -> Iterator[Row]:
    """Make the network, and what is expected of it."""
    make_references(of.setting)
    yield Row("reference", of.runs_on, f"float32 pictures of {len(of.setting.pictures())} sizes")


def kernels(of: Checks) -> Iterator[Row]:
    """Our kernels, built by nvcc for this GPU, agree with numpy to the bit and with float64."""
    from benchmarks.gpu_report.torch_engine import find_wrong_kernels

    for name, wrong in find_wrong_kernels(of.setting.folder):
        yield of.row(
            name, f"{len(wrong)} wrong cases{f': {wrong[0]}' if wrong else ''}", "0", not wrong
        )


def loading(of: Checks) -> Iterator[Row]:
    """Say what the engine took to be there; building, which the budget leaves out, is a row."""
    if (built := getattr(of.engine, "built", "")) != "":
        yield Row("building", of.runs_on, built, "not of the budget")
    yield Row("loading", of.runs_on, of.engine.about, verdict="fine")


def pictures(of: Checks) -> Iterator[Row]:
    """Pictures of several sizes are the CPU's."""
    for name, size in of.setting.pictures().items():
        yield judge(
            f"{name}, {size[1]}×{size[0]}",
            of,
            of.engine.draw(picture(*size)),
            of.setting.expected(name),
        )


def repeats(of: Checks) -> Iterator[Row]:
    """The same call gives the same bits, in eight threads too; so does a sample among others."""
    pixels = picture(*of.setting.pictures()["square"])
    first = of.engine.draw(pixels)
    with ThreadPoolExecutor(THREADS) as pool:
        threads = list(pool.map(lambda _: of.engine.draw(pixels), range(2 * THREADS)))
    pairs = {
        "repeated": [(of.engine.draw(pixels), first) for _ in range(3)],
        f"{THREADS} threads": [(drawn, first) for drawn in threads],
    }
    if of.setting.kind != "torch":
        pairs["samples at once and alone"] = list(of.engine.samples(pixels))
    for name, results in pairs.items():
        differ = sum(not np.array_equal(*pair) for pair in results)
        yield of.row(name, f"{differ} of {len(results)} differ", "0", not differ)


def plugins(of: Checks) -> Iterator[Row]:
    """The plan of TensorRT has a plugin layer for each of the flow's operations."""
    from benchmarks.gpu_report.sdk_engine import plugin_layers

    layers, nodes = plugin_layers(of.engine.bundle)
    yield of.row("plugin layers", str(layers), f"= {nodes}", layers == nodes > 0)


def times(of: Checks) -> Iterator[Row]:
    """What a picture or its stages take: at first, and then."""
    setting = of.setting
    engine = of.engine
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS

    calls = engine.calls(setting.size)
    kept = getattr(engine, "encoding", None)
    whole = True
    if kept is not None:
        whole = kept.kept_tiles == kept.tiles
        share = f"{kept.kept_tiles} of {kept.tiles} tiles, {kept.nbytes:,} bytes"
        yield Row(
            "kept between samples",
            of.runs_on,
            share if whole else f"{share}: {FURTHER} encodes again",
        )

    def make_row(name: str, how: str, taken: float) -> Row:
        counts = (name == PICTURE or (name == FURTHER and whole)) and how != "cold"
        return Row(
            f"{name}, {how}", of.runs_on, f"{taken:.2f} ms", figure=taken if counts else None
        )

    for name, call in calls.items():
        yield make_row(name, "cold", milliseconds(call, 1))
        until = time.monotonic() + (0 if setting.quick else _WARM_UP_S)
        while time.monotonic() < until:
            call()
        yield make_row(name, "warm", milliseconds(call, rounds))
    if of.free is not None and (left := gpu_free_memory()) is not None:
        yield Row("GPU memory", of.runs_on, f"{(of.free - left) / 1e9:.2f} GB")


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    """The median by the host's clock."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def judge(name: str, of: Checks, drawn: np.ndarray, expected: np.ndarray) -> Row:
    """A row about a picture."""
    limit = f"≥ {LEAST_DB:.0f} dB"
    if drawn.shape != expected.shape:
        return of.row(name, f"shape {drawn.shape}, not {expected.shape}", limit, False)
    decibels = min(100.0, psnr(drawn, expected))  # -inf where a value is not finite
    return of.row(name, f"{decibels:.1f} dB", limit, decibels >= LEAST_DB)


CHECKS: dict[str, Callable[[Checks], Iterator[Row]]] = {
    check.__name__: check
    for check in (reference, kernels, loading, pictures, times, repeats, plugins)
}
"""By the name in `report.py`."""


if __name__ == "__main__":
    serve(Checks, lambda _: None)
