"""Our kernels alone: right, and how near the speed of memory; and what this card can do at most."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_report.engines import Setting
from benchmarks.gpu_report.kernels import Kernels, precision, step_inputs, wrong_latents, wrong_splits, wrong_steps
from benchmarks.gpu_report.network import new_network
from benchmarks.gpu_report.rows import Row
from benchmarks.gpu_report.torch_engine import gpu, kernels, milliseconds
from srflow_export import flow_ops

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
    value = f"nvcc builds them, and they load: {kernels(setting).bytes / 1e6:.1f} MB"
    yield Row("kernels", setting.engine, value, verdict="fine")


def latents(setting: Setting) -> Iterator[Row]:
    """The kernel's latents are numpy's, bit for bit."""
    yield _judged("latents", "bits that are not numpy's", setting, wrong_latents)


def flow_ops_right(setting: Setting) -> Iterator[Row]:
    """The kernels of the flow's operations agree with torch in float64."""
    yield _judged("FlowStepTail", "cases that differ from float64", setting, wrong_steps)
    yield _judged("UnsqueezeSplit", "cases that differ from float64", setting, wrong_splits)


def _judged(name: str, of: str, setting: Setting, wrong: Callable[[Kernels], list[str]]) -> Row:
    lines = wrong(kernels(setting))
    value = f"{len(lines)} {of}{f': {lines[0]}' if lines else ''}"
    return Row(name, setting.engine, value, "0", "wrong" if lines else "fine")


@torch.inference_mode()
def times(setting: Setting) -> Iterator[Row]:
    """Our kernels beside the unfused torch operators, on the shapes of the network."""
    library, config = kernels(setting), new_network(quick=setting.quick).config
    split: dict[str, Any] = {"bound": config.split_clamp}

    def unfused_split(h: Tensor, *rest: Tensor) -> Tensor:
        return flow_ops.decoded_split(torch.pixel_shuffle(h, 2), *rest, **split)

    for half, shape in itertools.product((True, False), config.level_shapes):
        side, drawn = round(setting.size * 2.0**shape.lr_exponent), shape.latent_channels
        name = f"{shape.channels} channels, {side}×{side}, {precision(half)}"
        clamp = config.clamp_at(shape.level)
        step: dict[str, Any] = {"step": 0, "scale_map": config.scale_map, "order": config.affine_order, "clamp": clamp}
        ops: tuple[Callable[..., Tensor], ...] = (
            partial(flow_ops.decoded_tail, **step),
            partial(library.flow_step_tail, **step),
        )
        made = partial(step_inputs, shape.channels, side, steps=1, half=half, batch=1, device=library.device)
        yield _timed(f"FlowStepTail, {name}", setting, library.device, made, *ops)
        if drawn and shape != config.level_shapes[-1]:
            made = partial(_split_inputs, shape.channels - drawn, drawn, side, half=half, device=library.device)
            ops = unfused_split, partial(library.unsqueeze_split, **split)
            yield _timed(f"UnsqueezeSplit, {name}", setting, library.device, made, *ops)


def _split_inputs(kept: int, drawn: int, side: int, *, half: bool, device: torch.device) -> tuple[Tensor, ...]:
    """Random h, head, noise and tau of the unsqueeze and split above a level."""
    h = torch.randn(1, 4 * kept, side // 2, side // 2, device=device)
    head, noise = (torch.randn(1, channels, side, side, device=device) for channels in (2 * drawn, drawn))
    return h, head.half() if half else head, noise, h.new_ones(1)


def _timed(
    name: str,
    setting: Setting,
    device: torch.device,
    made: Callable[[], tuple[Tensor, ...]],
    unfused: Callable[..., Tensor],
    fused: Callable[..., Tensor],
) -> Row:
    """Time an op on inputs that no cache holds: in a network, each call reads others, too."""
    first = made()
    moved = sum(tensor.nbytes for tensor in (*first, fused(*first)))
    sets = [first, *(made() for _ in range(BEYOND_CACHES // moved))]
    taken = []
    for op in (unfused, fused):
        calls: list[Any] = [partial(op, *each) for each in sets]
        milliseconds(calls, device, 1)
        taken.append(milliseconds(calls, device, ROUNDS))
    slow, fast = taken
    peak, rate = setting.work.peaks().get("bytes"), moved / (1e-3 * fast)
    share = f", {rate / peak:.0%} of a copy's" if peak else ""
    value = f"{fast:.3f} ms, {slow / fast:.1f}× torch's speed; {rate / 1e9:.0f} GB/s{share}"
    return Row(name, setting.engine, value)
