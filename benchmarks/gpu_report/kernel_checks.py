"""Our kernels alone: right, and how near the speed of memory; and what this card can do at most."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_report.engines import Call, LackingError, Setting
from benchmarks.gpu_report.kernels import Kernels, StepInputs, precision, wrong_latents, wrong_splits, wrong_steps
from benchmarks.gpu_report.network import new_network
from benchmarks.gpu_report.rows import Row
from benchmarks.gpu_report.torch_engine import gpu, kernels, milliseconds
from srflow_export import flow_ops
from srflow_training import SRFlow
from srflow_training.model.config import LevelShape

BEYOND_CACHES = 256 << 20  # bytes that the repetitions of an op walk through, so that no GPU's L2 cache holds them
ROUNDS = 10
_SIDE, _COPIED = 8192, 1 << 30


def peaks(setting: Setting) -> Iterator[Row]:
    """Measure, once, the rate of a large matrix product in fp16, and the bytes that a copy reads and writes."""
    device = gpu()
    side, copied = (256, 1 << 20) if setting.quick else (_SIDE, _COPIED)
    found = {}
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))  # zeros would be faster
        out = torch.empty_like(a)
        call = partial(torch.mm, a, b, out=out)
        milliseconds([call], device, 2)
        found[name] = side**3 / (1e-3 * milliseconds([call], device, ROUNDS))
        yield Row(f"peak of matrix products, {name}", setting.engine, f"{2e-12 * found[name]:.0f} TFLOP/s")
    source = torch.randint(255, (copied,), dtype=torch.uint8, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    milliseconds([copy], device, 2)
    found["bytes"] = 2 * copied / (1e-3 * milliseconds([copy], device, ROUNDS))
    yield Row("peak of memory, a copy", setting.engine, f"{1e-9 * found['bytes']:.0f} GB/s")
    setting.work.keep_peaks(found)


def built(setting: Setting) -> Iterator[Row]:
    """Build the kernels for this GPU."""
    name = "kernels"
    try:
        library = kernels(setting)
    except LackingError as error:
        yield Row(name, setting.engine, str(error), verdict="not run")
        return
    yield Row(name, setting.engine, f"nvcc builds them, and they load: {library.bytes / 1e6:.1f} MB", verdict="fine")


def latents(setting: Setting) -> Iterator[Row]:
    """The kernel's latents are numpy's, bit for bit."""
    yield from _judged("latents", "bits that are not numpy's", setting, wrong_latents)


def flow_ops_right(setting: Setting) -> Iterator[Row]:
    """The kernels of the flow's operations agree with torch in float64."""
    yield from _judged("FlowStepTail", "cases that differ from float64", setting, wrong_steps)
    yield from _judged("UnsqueezeSplit", "cases that differ from float64", setting, wrong_splits)


def _judged(name: str, of: str, setting: Setting, wrong: Callable[[Kernels], list[str]]) -> Iterator[Row]:
    try:
        library = kernels(setting)
    except LackingError as error:
        yield Row(name, setting.engine, str(error), verdict="not run")
        return
    lines = wrong(library)
    value = f"{len(lines)} {of}{f': {lines[0]}' if lines else ''}"
    yield Row(name, setting.engine, value, "0", "wrong" if lines else "fine")


@torch.inference_mode()
def times(setting: Setting) -> Iterator[Row]:
    """Our kernels beside the unfused torch operators, on the shapes of the network."""
    try:
        library = kernels(setting)
    except LackingError as error:
        yield Row("kernel times", setting.engine, str(error), verdict="not run")
        return
    model, peak = new_network(quick=setting.quick), setting.work.peaks().get("bytes")
    shapes = model.config.level_shapes
    splits = [shape for shape in shapes[:-1] if shape.latent_channels]
    cases: list[tuple[str, Callable[..., Any], list[LevelShape]]] = [
        ("FlowStepTail", _step_calls, list(shapes)),
        ("UnsqueezeSplit", _split_calls, splits),
    ]
    for (op, make, of_op), half in itertools.product(cases, (True, False)):
        for shape in of_op:
            side = round(setting.size * 2.0**shape.lr_exponent)
            moved, unfused, fused = make(library, model, shape, side=side, half=half)
            slow, fast = (_warm(calls, library.device) for calls in (unfused, fused))
            rate = moved / (1e-3 * fast)
            share = f", {rate / peak:.0%} of a copy's" if peak else ""
            yield Row(
                f"{op}, {shape.channels} channels, {side}×{side}, {precision(half)}",
                setting.engine,
                f"{fast:.3f} ms, {slow / fast:.1f}× torch's speed; {rate / 1e9:.0f} GB/s{share}",
            )


def _warm(calls: list[Call], device: torch.device) -> float:
    milliseconds(calls, device, 1)
    return milliseconds(calls, device, ROUNDS)


def _step_calls(
    library: Kernels, model: SRFlow, shape: LevelShape, *, side: int, half: bool
) -> tuple[int, list[Call], list[Call]]:
    """Bytes that one step of a level moves, and repeated calls of the level's steps: in torch, and by our kernel."""
    config, steps = model.config, model.config.steps_at(shape.level)
    inputs = StepInputs.random(shape.channels, side, steps=steps, half=half, batch=1, device=library.device)
    named = {"scale_map": config.scale_map, "order": config.affine_order, "clamp": config.clamp_at(shape.level)}
    # As in a network, each call reads another step's conditioning and another h.
    count = max(steps, -(-BEYOND_CACHES // inputs.bytes_moved))
    states = [(inputs.h.clone(), inputs.head.clone()) for _ in range(-(-BEYOND_CACHES // (2 * inputs.h.nbytes)))]

    def calls(op: Callable[..., object]) -> list[Call]:
        return [
            partial(op, *states[turn % len(states)], *inputs.tensors[2:], step=turn % steps, **named)
            for turn in range(count)
        ]

    return inputs.bytes_moved, calls(flow_ops.decoded_tail), calls(library.flow_step_tail)


def _split_calls(
    library: Kernels, model: SRFlow, shape: LevelShape, *, side: int, half: bool
) -> tuple[int, list[Call], list[Call]]:
    """The same for the unsqueeze and split above a level."""
    drawn = shape.latent_channels
    kept = shape.channels - drawn

    def tensors() -> tuple[torch.Tensor, ...]:
        h = torch.randn(1, 4 * kept, side // 2, side // 2, device=library.device)
        head = torch.randn(1, 2 * drawn, side, side, device=library.device)
        noise = torch.randn(1, drawn, side, side, device=library.device)
        return h, head.half() if half else head, noise, h.new_ones(1)

    h, head, noise, _ = tensors()
    moved = 2 * (h.nbytes + noise.nbytes) + head.nbytes
    sets = [tensors() for _ in range(-(-BEYOND_CACHES // moved))]

    def unfused(h: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return flow_ops.decoded_split(torch.pixel_shuffle(h, 2), *rest, bound=model.config.split_clamp)

    def fused(*each: torch.Tensor) -> torch.Tensor:
        return library.unsqueeze_split(*each, bound=model.config.split_clamp)

    return moved, [partial(unfused, *each) for each in sets], [partial(fused, *each) for each in sets]
