"""Checks: each gives rows, of one engine or of our kernels; and the process in which those of one engine run.

That is `python -m benchmarks.gpu_report.checks`, see `order.py`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.processes import serve, without_paths
from benchmarks.gpu_report.card import NoGpuError, memory_in_use
from benchmarks.gpu_report.network import AbsentError, LackingError, Setting, make_references, picture
from benchmarks.gpu_report.rows import FURTHER, PICTURE, Row, Verdict

LEAST_DB = 38.0
"""PSNR that a picture in fp16 must have against the CPU's from float32."""

THREADS = 8
_ROUNDS, _QUICK_ROUNDS = 20, 2
_WARM_UP_S = 0.2  # until the GPU's clocks are up


class Opened(contextlib.ExitStack):
    """What the process of an engine has open. said: what the SDK warned of so far.

    An engine has: about, what loading says; draw(pixels), float32 h×w×3 in [0, 1] → sh×sw×3, at TAU with the latents of
    SEED; calls(size), what is timed by name: PICTURE from pixels to pixels, FURTHER, or its stages;
    milliseconds(call, rounds), the median.
    """

    def __init__(self, setting: Setting, said: list[str]) -> None:
        super().__init__()
        self.setting, self.said = setting, said
        self._engine: Any = None

    @property
    def engine(self) -> Any:
        """The engine, opened when a check asks for it first. Raises: AbsentError."""
        if self._engine is None:
            if self.setting.kind == "torch":
                from benchmarks.gpu_report.torch_engine import TorchEngine as Kind
            else:
                from benchmarks.gpu_report.sdk_engine import SdkEngine as Kind  # type: ignore[assignment]
            self._engine = self.enter_context(Kind.opened(self.setting))
        return self._engine


def reference(of: Opened) -> Iterator[Row]:
    """Make the network, and what is expected of it."""
    make_references(of.setting)
    yield Row("reference", of.setting.engine, f"float32 pictures of {len(of.setting.pictures())} sizes")


def kernels(of: Opened) -> Iterator[Row]:
    """Our kernels, built by nvcc for this GPU, agree with numpy to the bit and with float64."""
    from benchmarks.gpu_report import kernels, torch_engine

    library = torch_engine.kernels(of.setting.folder)
    yield Row("kernels", of.setting.engine, f"nvcc builds them: {library.bytes / 1e6:.1f} MB", verdict="fine")
    for name, wrong in {
        "latents": kernels.wrong_latents,
        "FlowStepTail": kernels.wrong_steps,
        "UnsqueezeSplit": kernels.wrong_splits,
    }.items():
        lines = wrong(library)
        value = f"{len(lines)} wrong cases{f': {lines[0]}' if lines else ''}"
        yield Row(name, of.setting.engine, value, "0", "wrong" if lines else "fine")


def loading(of: Opened) -> Iterator[Row]:
    """Say what the engine took to be there: building, which the budget leaves out, has a row of its own."""
    if (built := getattr(of.engine, "built", "")) != "":
        yield Row("building", of.setting.engine, built, "not of the budget")
    yield Row("loading", of.setting.engine, of.engine.about, verdict="fine")


def pictures(of: Opened) -> Iterator[Row]:
    """Pictures of several sizes are the CPU's."""
    for name, size in of.setting.pictures().items():
        yield judged(f"{name}, {size[1]}×{size[0]}", of, of.engine.draw(picture(*size)), of.setting.expected(name))


def repeats(of: Opened) -> Iterator[Row]:
    """The same call gives the same bits, in eight threads too."""
    pixels = picture(*of.setting.pictures()["square"])
    first = of.engine.draw(pixels)
    yield equal("repeated", of, [of.engine.draw(pixels) for _ in range(3)], first)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: of.engine.draw(pixels), range(2 * THREADS)))
    yield equal(f"{THREADS} threads", of, found, first)
    if (alone := getattr(of.engine, "samples", None)) is not None:
        differ = sum(not np.array_equal(*pair) for pair in alone(pixels))
        verdict: Verdict = "wrong" if differ else "fine"
        yield Row("samples at once and alone", of.setting.engine, f"{differ} of 4 differ", "0", verdict)


def plugins(of: Opened) -> Iterator[Row]:
    """The plan has a plugin layer for each of the flow's operations."""
    if of.setting.kind == "tensorrt":
        from benchmarks.gpu_report.sdk_engine import plugin_layers

        found, wanted = plugin_layers(of.engine.bundle)
        advice = "" if found else ": python -m srflow_export.native tensorrt"
        verdict: Verdict = "fine" if found == wanted > 0 else "wrong"
        yield Row("plugin layers", of.setting.engine, f"{found}{advice}", f"= {wanted}", verdict)


def memory_runs_out(of: Opened) -> Iterator[Row]:
    """Where the memory is not enough for a tile, it is split, and the picture stays the same."""
    from benchmarks.gpu_report import sdk_engine

    name, pixels = "memory runs out", picture(of.setting.size, of.setting.size)
    whole, before = of.engine.draw(pixels), len(of.said)
    between = of.engine.bundle.manifest.conditioning_bytes_per_pixel * of.setting.size**2  # what lies between graphs
    with sdk_engine.nearly_full(between * 3 // 5):
        split = of.engine.draw(pixels)
    said = [line for line in of.said[before:] if line.startswith("memory ran out")]
    verdict: Verdict = "fine" if said else "wrong"
    yield Row(name, of.setting.engine, said[0] if said else "no tile was split", "a tile is split", verdict)
    yield judged(f"{name}, the picture", of, split, whole)


def times(of: Opened) -> Iterator[Row]:
    """What a picture or its stages take: at first, and then."""
    setting, engine = of.setting, of.engine
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS

    calls, kept, whole = engine.calls(setting.size), getattr(engine, "encoding", None), True
    if kept is not None:
        whole, said = kept.kept_tiles == kept.tiles, f"{kept.kept_tiles} of {kept.tiles} tiles, {kept.nbytes:,} bytes"
        yield Row("kept between samples", setting.engine, said if whole else f"{said}: {FURTHER} encodes again")

    def row(name: str, how: str, taken: float) -> Row:
        counts = (name == PICTURE or (name == FURTHER and whole)) and how != "cold"
        return Row(f"{name}, {how}", setting.engine, f"{taken:.2f} ms", figure=taken if counts else None)

    for name, call in calls.items():
        yield row(name, "cold", engine.milliseconds(call, 1))
        until = time.monotonic() + (0 if setting.quick else _WARM_UP_S)
        while time.monotonic() < until:
            engine.milliseconds(call, 1)
        yield row(name, "warm", engine.milliseconds(call, rounds))
    with contextlib.suppress(NoGpuError):
        yield Row("GPU memory of all programs", setting.engine, f"{memory_in_use() / 1e9:.2f} GB")


def judged(name: str, of: Opened, drawn: np.ndarray, expected: np.ndarray) -> Row:
    """A row about a picture."""
    limit = f"≥ {LEAST_DB:.0f} dB"
    if drawn.shape != expected.shape:
        return Row(name, of.setting.engine, f"shape {drawn.shape}, not {expected.shape}", limit, "wrong")
    if bad := int(np.sum(~np.isfinite(drawn))):
        return Row(name, of.setting.engine, f"{bad} values are not finite", limit, "wrong")
    difference = np.clip(drawn, 0, 1).astype(np.float64) - np.clip(expected, 0, 1)
    psnr = min(100.0, -10 * float(np.log10(max(np.mean(difference**2), 1e-10))))
    value = f"{psnr:.1f} dB, at most {np.abs(difference).max():.1e} apart"
    return Row(name, of.setting.engine, value, limit, "fine" if psnr >= LEAST_DB else "wrong")


def equal(name: str, of: Opened, pictures: list[np.ndarray], first: np.ndarray) -> Row:
    """A row about pictures that must have the bits of the first."""
    differ = sum(not np.array_equal(each, first) for each in pictures)
    return Row(name, of.setting.engine, f"{differ} of {len(pictures)} differ", "0", "wrong" if differ else "fine")


CHECKS: dict[str, Callable[[Opened], Iterator[Row]]] = {
    "reference": reference,
    "kernels": kernels,
    "loading": loading,
    "pictures": pictures,
    "times": times,
    "repeats": repeats,
    "plugins": plugins,
    "memory runs out": memory_runs_out,
}
"""By the name in `order.py`."""


class Checks(logging.Handler):
    """Answers {"check": NAME} with the rows of that check, and takes what the SDK warns of meanwhile."""

    disk_bytes = 0

    def __init__(self, variant: Mapping[str, Any]) -> None:
        super().__init__(logging.WARNING)
        self.runs_on: str = variant["engine"]
        self._said: list[str] = []
        self._reported: set[str] = set()
        setting = Setting(self.runs_on, Path(variant["work"]), quick=variant["quick"], size=variant["size"])
        self._open = Opened(setting, self._said)
        logging.getLogger("srflow_sdk").handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self._said.append(record.getMessage())

    def prepare(self, job: Mapping[str, Any]) -> Callable[[], Iterator[dict[str, Any]]]:
        """The work of a job."""
        return lambda: self.answers(job["check"])

    def answers(self, check: str) -> Iterator[dict[str, Any]]:
        """{"row": fields} as each row is known, and {"absent": why} if no other check of the engine can run.

        What a check raises is a row, and so is each of the SDK's warnings, once.
        """
        for answer in self._answers(check):
            for line in self._said:
                if line not in self._reported and not line.startswith("memory ran out"):
                    self._reported.add(line)
                    yield self._row("warning", line)
            yield answer

    def _answers(self, check: str) -> Iterator[dict[str, Any]]:
        try:
            for row in CHECKS[check](self._open):
                yield {"row": asdict(row)}
        except AbsentError as error:
            yield {"absent": str(error)}
        except LackingError as error:
            yield self._row(check, str(error), "not run")
        except Exception as error:
            if any(isinstance(each, ModuleNotFoundError) for each in (error, error.__cause__)):
                yield {"absent": str(error)}
                return
            # What the processor cannot do, or the memory is too small for, says nothing about the GPU's arithmetic.
            full = check == "reference" or "OutOfMemory" in type(error).__name__
            yield self._row(check, f"{type(error).__name__}: {error}", "not run" if full else "wrong")
            if check in ("reference", "loading"):  # the others would fail for the same reason
                yield {"absent": f"{check} failed"}
        else:
            yield {}  # for warnings after the last row

    def _row(self, name: str, words: str, verdict: Verdict = "") -> dict[str, Any]:
        value = " ".join(without_paths(words).split())[:400]
        return {"row": asdict(Row(name, self.runs_on, value, verdict=verdict))}


if __name__ == "__main__":
    serve(Checks, lambda _: None)
