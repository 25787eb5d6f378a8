"""The checks: functions of a setting and of the engine that is open, which return rows."""

from __future__ import annotations

import contextlib
import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.gpu_report import network
from benchmarks.gpu_report.engines import Call, Engine, Setting, Warnings, check_present
from benchmarks.gpu_report.network import MANY, TAU, Case
from benchmarks.gpu_report.rows import FURTHER, PICTURE, Row, Verdict

LEAST_DB = {"fp32": 60.0, "fp16": 38.0, "bf16": 38.0}
"""PSNR that a picture must have against the CPU's from float32."""

MOST_OFF = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 8e-2}
"""Error that a conditioning tensor may have, as a share of its norm; rounded on a CPU, it is a fifth of this."""

_ROUNDS, _QUICK_ROUNDS = 20, 2
_WARM_UP_S = 0.2  # until the GPU's clocks are up


class Opened(contextlib.ExitStack):
    """What a process has open: the engine, once a check asked for it."""

    engine: Engine | None = None

    def engine_of(self, setting: Setting) -> Engine:
        """The engine of the setting. Raises: AbsentError."""
        if self.engine is None:
            if setting.kind == "torch":
                from benchmarks.gpu_report.torch_engine import TorchEngine

                self.engine = self.enter_context(TorchEngine.opened(setting))
            else:
                check_present(setting.kind)
                from benchmarks.gpu_report.sdk_engine import SdkEngine

                self.engine = self.enter_context(SdkEngine.opened(setting))
        return self.engine


_Check = Callable[[Setting, Opened], Iterable[Row]]


def _on_engine(check: Callable[[Setting, Engine], Iterator[Row]]) -> _Check:
    return lambda setting, parts: check(setting, parts.engine_of(setting))


def _of(module: str, name: str, *more: str) -> _Check:
    """A check of a module that is imported when it runs."""

    def check(setting: Setting, _: Opened) -> Iterable[Row]:
        function = getattr(importlib.import_module(f"benchmarks.gpu_report.{module}"), name)
        rows: Iterable[Row] = function(setting, *more)
        return rows

    return check


def reference(setting: Setting, _: Opened) -> Iterator[Row]:
    """Make the network, and what is expected of it."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    network.make_references(setting.work, quick=setting.quick)
    counts = {part: f"{count / 1e6:.1f} M" for part, count in setting.work.counts().items()}
    value = f"{counts['encoder']} multiply-adds for an LR pixel in the encoder, {counts['sampler']} in the sampler"
    yield Row("reference", setting.engine, value)


def largest_reference(setting: Setting, _: Opened) -> Iterator[Row]:
    """What is expected of the largest picture, which takes the CPU a while."""
    network.make_largest(setting.work, quick=setting.quick)
    return iter(())


def loading(setting: Setting, engine: Engine) -> Iterator[Row]:
    """What the engine took to be there."""
    if setting.kind == "torch":
        own = getattr(engine, "own", None)
        how = "with our kernels in the sampler" if own else "without our kernels, in torch's operators"
        yield Row("loading", setting.engine, how, verdict="fine")
        return
    made, loaded = getattr(engine, "export_seconds", 0.0), getattr(engine, "load_seconds", 0.0)
    export = f"export {made:.0f} s, " if made else "exported before, "
    yield Row("loading", setting.engine, f"{export}opening {loaded:.1f} s", verdict="fine")


def picture(setting: Setting, engine: Engine) -> Iterator[Row]:
    """A picture is the CPU's."""
    case = setting.work.case("square")
    yield _compared(f"picture, {_size(case)}", setting, engine, case)


def sizes(setting: Setting, engine: Engine) -> Iterator[Row]:
    """So are those of other shapes, and one whose sides are no multiple of what the network takes."""
    for name in ("odd", "rectangular", "upright"):
        case = setting.work.case(name)
        yield _compared(f"{name}, {_size(case)}", setting, engine, case)
    if setting.kind == "torch":
        return
    side = setting.work.smallest
    pixels = network.picture(side + 1, side + 3)[0].transpose(1, 2, 0)
    drawn = []
    for device in (None, "cpu"):
        with engine.upscaler(device) as upscaler:  # type: ignore[attr-defined]
            drawn.append(upscaler.upscale(pixels, tau=TAU))
    yield _judged(f"odd sides, {side + 3}×{side + 1}, Upscaler", setting, drawn[0], drawn[1])


def largest(setting: Setting, engine: Engine) -> Iterator[Row]:
    """So is the largest that engines are built for."""
    case = setting.work.case("largest")
    yield _compared(f"largest, {_size(case)}", setting, engine, case)


def conditioning(setting: Setting, engine: Engine) -> Iterator[Row]:
    """Each tensor between encoder and sampler is float32's, within what its precision rounds."""
    expected = setting.work.conditioning()
    found = engine.tensors(engine.encode(setting.work.case("square").lr))
    most = MOST_OFF[setting.precision]
    groups: dict[str, dict[str, float]] = {}
    for name, right in expected.items():
        groups.setdefault(re.sub(r"_step\d+", "", name), {})[name] = _off(found.get(name), right)
    for group, errors in groups.items():
        worst = max(errors, key=lambda name: (np.isnan(errors[name]), errors[name]))
        value = f"{errors[worst]:.1e} of {worst}, the worst of {len(errors)}"
        verdict: Verdict = "fine" if errors[worst] <= most else "wrong"
        yield Row(f"conditioning, {group.replace('_', ' ')}", setting.engine, value, f"≤ {most:.0e}", verdict)


def tau_0(setting: Setting, engine: Engine) -> Iterator[Row]:
    """Without noise the picture is the CPU's, and does not depend on the seed."""
    case = setting.work.case("tau 0")
    encoded = engine.encode(case.lr)
    first = engine.sample(encoded, case.noise, 0.0)
    yield _judged("τ = 0", setting, first, case.expected)
    other = engine.sample(encoded, {level: -array for level, array in case.noise.items()}, 0.0)
    yield _equal("τ = 0, another seed", setting, [other], first)


def batch(setting: Setting, engine: Engine) -> Iterator[Row]:
    """A batch of samples has the CPU's pictures."""
    case = setting.work.case("batch")
    yield _compared(f"batch of {MANY}", setting, engine, case)


def repeats(setting: Setting, engine: Engine) -> Iterator[Row]:
    """The same call gives the same bits."""
    case = setting.work.case("square")
    first, *others = (engine.sample(engine.encode(case.lr), case.noise, case.tau) for _ in range(4))
    yield _equal("repeated", setting, others, first)


def threads(setting: Setting, engine: Engine) -> Iterator[Row]:
    """So do eight threads at once."""
    case = setting.work.case("square")

    def draw(_: int) -> np.ndarray:
        return engine.sample(engine.encode(case.lr), case.noise, case.tau)

    alone = draw(0)
    with ThreadPoolExecutor(MANY) as pool:
        yield _equal(f"{MANY} threads", setting, list(pool.map(draw, range(2 * MANY))), alone)


def drawn(setting: Setting, engine: Any) -> Iterator[Row]:
    """The SDK's way to a picture, which draws noise and rounds, gives what `sample` gives: again, and in threads."""
    from benchmarks.gpu_report.sdk_engine import quantised

    case = setting.work.case("square")
    encoded, size = engine.encode(case.lr), case.lr.shape[3]
    plain, rounding = engine.drawing(size, rounded=False), engine.drawing(size)
    sampled = engine.sample(encoded, plain.noise(), TAU)
    yield _equal("drawn", setting, [engine.backend.draw(encoded, plain) for _ in range(4)], sampled[0])
    [expected] = quantised(sampled)

    def draw(_: int) -> np.ndarray:
        picture = engine.backend.draw(encoded, rounding)
        levels: np.ndarray = picture if picture.dtype == np.uint8 else quantised(picture[None])[0]
        return levels

    yield _equal("drawn and rounded", setting, [draw(turn) for turn in range(4)], expected)
    with ThreadPoolExecutor(MANY) as pool:
        yield _equal(f"drawn and rounded, {MANY} threads", setting, list(pool.map(draw, range(2 * MANY))), expected)


def plugins(setting: Setting, engine: Any) -> Iterator[Row]:
    """The plan has a plugin layer for each of the flow's operations."""
    if setting.kind != "tensorrt":
        return
    from benchmarks.gpu_report.sdk_engine import plugin_layers

    found, wanted = plugin_layers(engine)
    yield Row("plugin layers", setting.engine, str(found), f"= {wanted}", "fine" if found == wanted > 0 else "wrong")


def memory_runs_out(setting: Setting, engine: Any) -> Iterator[Row]:
    """Where the memory is not enough for a tile, it is split, and the picture stays the same."""
    from benchmarks.gpu_report import sdk_engine

    name, size = "memory runs out", setting.size
    pixels = network.picture(size, size)[0].transpose(1, 2, 0)
    with engine.upscaler() as upscaler:
        whole = upscaler.upscale(pixels, tau=TAU)
    with engine.upscaler() as upscaler:
        between = engine.bundle.manifest.conditioning_bytes_per_pixel * size**2  # what lies between the graphs
        with sdk_engine.nearly_full(between * 3 // 5), Warnings() as warnings:
            split = upscaler.upscale(pixels, tau=TAU)
    said = [line for line in warnings.said if line.startswith("memory ran out")]
    verdict: Verdict = "fine" if said else "wrong"
    yield Row(name, setting.engine, said[0] if said else "no tile was split", "a tile is split", verdict)
    yield _judged(f"{name}, the picture", setting, split, whole)


def times(setting: Setting, engine: Engine) -> Iterator[Row]:
    """What the stages take: at first, and then; as graphs, and not."""
    stages, size, rounds = engine.stages(setting.size), setting.size, _QUICK_ROUNDS if setting.quick else _ROUNDS
    peak = setting.work.peaks().get(setting.precision)
    counts = setting.work.counts()
    for name, why in stages.lacking.items():
        yield Row(name, setting.engine, why, verdict="not run")

    def row(name: str, how: str, taken: float) -> Row:
        share = ""
        if peak and name in counts:
            share = f", {counts[name] * size**2 / (1e-3 * taken * peak):.0%} of the peak"
        whole = setting.precision == "fp16" and "latents" not in stages.lacking
        judged = whole and name in (PICTURE, FURTHER) and how != "cold"
        return Row(f"{name}, {how}", setting.engine, f"{taken:.2f} ms{share}", figure=taken if judged else None)

    def warm_up(call: Call) -> None:
        until = time.monotonic() + (0 if setting.quick else _WARM_UP_S)
        stages.milliseconds([call], 2)
        while time.monotonic() < until:
            stages.milliseconds([call], 1)

    for name, call in stages.calls.items():
        cold = stages.milliseconds([call], 1)
        if name != FURTHER:  # which may have to encode first
            yield row(name, "cold", cold)
        warm_up(call)
        yield row(name, f"warm, {stages.clock}", stages.milliseconds([call], rounds))
        if stages.captured is not None:
            try:
                replay = stages.captured(call)
            except RuntimeError as error:
                yield Row(f"{name}, CUDA graph", setting.engine, str(error), verdict="not run")
                continue
            yield row(name, f"CUDA graph, {stages.clock}", stages.milliseconds([replay], rounds))
        elif name in stages.without_graphs:
            call = stages.without_graphs[name]
            warm_up(call)
            yield row(name, f"without CUDA graphs, {stages.clock}", stages.milliseconds([call], rounds))
    memory = engine.memory()
    if memory is None:
        yield Row("GPU memory", setting.engine, "nobody says how much is in use", verdict="not run")
    else:
        yield Row("GPU memory", setting.engine, f"{memory[0] / 1e9:.2f} GB ({memory[1]} figure)")


def _compared(name: str, setting: Setting, engine: Engine, case: Case) -> Row:
    drawn = engine.sample(engine.encode(case.lr), case.noise, case.tau)
    return _judged(name, setting, drawn, case.expected)


def _judged(name: str, setting: Setting, drawn: np.ndarray, expected: np.ndarray) -> Row:
    """A row about the worst picture of a batch."""
    least = LEAST_DB[setting.precision]
    limit = f"≥ {least:.0f} dB"
    if drawn.shape != expected.shape:
        return Row(name, setting.engine, f"shape {drawn.shape}, not {expected.shape}", limit, "wrong")
    if bad := int(np.sum(~np.isfinite(drawn))):
        return Row(name, setting.engine, f"{bad} values are not finite", limit, "wrong")
    pairs = zip(drawn, expected, strict=True) if drawn.ndim == 4 else [(drawn, expected)]
    psnr = min(decibels(one, right) for one, right in pairs)
    largest = float(np.abs(drawn - expected).max())
    verdict: Verdict = "fine" if psnr >= least else "wrong"
    return Row(name, setting.engine, f"{psnr:.1f} dB, at most {largest:.1e} apart", limit, verdict)


def _equal(name: str, setting: Setting, pictures: list[np.ndarray], first: np.ndarray) -> Row:
    """A row about pictures that must have the bits of the first."""
    differ = sum(not np.array_equal(each, first) for each in pictures)
    apart = max(float(np.abs(each.astype(np.float64) - first).max()) for each in pictures)
    value = f"{differ} of {len(pictures)} differ{f', by {apart:.1e}' if differ else ''}"
    return Row(name, setting.engine, value, "0", "wrong" if differ else "fine")


def decibels(picture: np.ndarray, expected: np.ndarray) -> float:
    """PSNR, at most 100."""
    error = np.mean((picture.astype(np.float64) - expected) ** 2)
    return min(100.0, -10 * float(np.log10(max(error, 1e-10))))


def _off(found: np.ndarray | None, right: np.ndarray) -> float:
    """The norm of the difference, as a share of the norm; NaN if it is missing or of another shape."""
    if found is None or found.shape != right.shape:
        return float("nan")
    return float(np.linalg.norm((found - right).astype(np.float64)) / np.linalg.norm(right.astype(np.float64)))


def _size(case: Case) -> str:
    return f"{case.lr.shape[3]}×{case.lr.shape[2]}"


CHECKS: dict[str, _Check] = {
    "reference": reference,
    "largest reference": largest_reference,
    "drawing kernels": _of("drawing_checks", "drawing_kernels"),
    "peaks": _of("kernel_checks", "peaks"),
    "kernels": _of("kernel_checks", "built"),
    "latents": _of("kernel_checks", "latents"),
    "flow ops": _of("kernel_checks", "flow_ops_right"),
    "kernel times": _of("kernel_checks", "times"),
    "training fp32": _of("training", "trained", "fp32"),
    "training bf16": _of("training", "trained", "bf16"),
    "loading": _on_engine(loading),
    "picture": _on_engine(picture),
    "times": _on_engine(times),
    "conditioning": _on_engine(conditioning),
    "sizes": _on_engine(sizes),
    "tau 0": _on_engine(tau_0),
    "batch": _on_engine(batch),
    "repeats": _on_engine(repeats),
    "threads": _on_engine(threads),
    "drawn": _on_engine(drawn),
    "plugins": _on_engine(plugins),
    "memory runs out": _on_engine(memory_runs_out),
    "largest": _on_engine(largest),
}
"""By the name in `order.py`."""
