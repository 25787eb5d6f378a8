"""Our CUDA kernels: build libsrflow_cuda, call it from torch, and compare it with torch."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_export import flow_ops
from srflow_sdk.latents.random_field import standard_normal
from srflow_training.model.config import AffineOrder, ScaleMap

RUNTIME = Path(__file__).parents[2] / "runtime"
SOURCES = (
    "cuda/flow_step_tail.cu",
    "cuda/unsqueeze_split.cu",
    "cuda/latents.cu",
    "cuda/c_functions.cpp",
    "c_api/c_api.cpp",
)
TOLERANCE = 1e-4  # of a kernel against torch in float64, relative to the largest value


def build(folder: Path, architecture: str) -> Path:
    """Build libsrflow_cuda with nvcc for one architecture, such as sm_89, unless it is there. Raises: RuntimeError."""
    digest = hashlib.sha256()
    for source in sorted(path for path in RUNTIME.rglob("*") if path.is_file()):
        digest.update(source.read_bytes())
    library = folder / f"libsrflow_cuda-{architecture}-{digest.hexdigest()[:12]}.so"
    if library.is_file():
        return library
    part = library.with_suffix(".part")
    options = ["-std=c++17", "-O3", f"-arch={architecture}", "-shared", "-cudart", "static"]
    options += ["-Xcompiler", "-fPIC,-ffp-contract=off", '-DSRFLOW_VERSION="benchmark"', f"-I{RUNTIME / 'include'}"]
    command = ["nvcc", *options, *(str(RUNTIME / source) for source in SOURCES), "-o", str(part)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"nvcc failed for {architecture}: {result.stdout}{result.stderr}")
    part.replace(library)
    return library


class Kernels:
    """libsrflow_cuda with the signatures of :mod:`srflow_export.flow_ops`, on torch tensors of one device."""

    def __init__(self, library: Path, device: torch.device) -> None:
        self.device = device
        self.bytes = library.stat().st_size
        self._library = ctypes.CDLL(str(library))

    def flow_step_tail(
        self,
        h: Tensor,
        head: Tensor,
        injector_scale: Tensor,
        injector_shift: Tensor,
        mixing_weight: Tensor,
        mixing_bias: Tensor,
        *,
        step: int,
        scale_map: ScaleMap,
        order: AffineOrder,
        clamp: float,
    ) -> Tensor:
        """Like flow_ops.flow_step_tail; float32, and the conditioning all float32 or all float16."""
        batch, channels, height, width = h.shape
        out = h.new_empty(h.shape)
        half = _is_half((h, mixing_weight, mixing_bias), (head, injector_scale, injector_shift))
        tensors = (h, head, injector_scale, injector_shift, mixing_weight, mixing_bias, out)
        sizes = (batch, channels, height * width, *injector_scale.shape[:2], step * channels)
        named = (scale_map.encode(), order.encode(), ctypes.c_float(clamp))
        self._call("srflow_flow_step_tail_cuda", tensors, half, sizes, named)
        return out

    def unsqueeze_split(self, h: Tensor, head: Tensor, noise: Tensor, tau: Tensor, *, bound: float | None) -> Tensor:
        """Like flow_ops.unsqueeze_split; float32, and head float32 or float16."""
        batch, drawn, height, width = noise.shape
        kept = h.shape[1] // 4
        out = h.new_empty(batch, kept + drawn, height, width)
        half = _is_half((h, noise, tau), (head,))
        sizes = (batch, kept, drawn, height, width, tau.shape[0])
        bounds = (ctypes.c_float(bound or 0.0),)
        self._call("srflow_unsqueeze_split_cuda", (h, head, noise, tau, out), half, sizes, bounds)
        return out

    def standard_normal(
        self, seed: int, sample: int, level: int, channels: int, height: int, width: int, *, top: int = 0, left: int = 0
    ) -> Tensor:
        """Like srflow_sdk.latents.random_field.standard_normal, on the GPU."""
        out = torch.empty(channels, height, width, device=self.device)
        window = [ctypes.c_int64(value) for value in (top, left, height, width)]
        arguments = [ctypes.c_uint64(seed), ctypes.c_uint64(sample), level, channels, *window, _pointer(out)]
        self._checked(self._library.srflow_standard_normal_cuda(*arguments, self._stream()))
        return out

    def _call(
        self, name: str, tensors: Sequence[Tensor], half: bool, sizes: Sequence[int], rest: Sequence[Any]
    ) -> None:
        arguments = [*map(_pointer, tensors), int(half), *map(ctypes.c_int64, sizes), *rest]
        self._checked(getattr(self._library, name)(*arguments, self._stream()))

    def _checked(self, error: int) -> None:
        if error:
            raise RuntimeError(f"the kernel was refused with CUDA error {error}")

    def _stream(self) -> ctypes.c_void_p:
        cuda = self.device.type == "cuda"
        return ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream if cuda else 0)


def step_inputs(
    channels: int, side: int, *, steps: int, half: bool, batch: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Random inputs of FlowStepTail in its order, of side×side pixels.

    half: the conditioning, of batch 1 and for `steps` steps, is float16.
    """
    kind = torch.float16 if half else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device)

    head = normal(batch, 2 * (channels - channels // 2), side, side).to(kind)
    scale, shift = (normal(1, steps * channels, side, side).to(kind) for _ in range(2))
    mixing = normal(channels, channels, 1, 1) / channels**0.5
    return normal(batch, channels, side, side), head, scale, shift, mixing, normal(channels)


def wrong_steps(kernels: Kernels) -> list[str]:
    """Compare FlowStepTail with torch in float64; a line for each case that differs."""
    wrong = []
    channel_counts, sides = (1, 12, 24, 48, 96, 192, 384), (13, 40)  # odd and even numbers of pixels
    maps, orders = get_args(ScaleMap), get_args(AffineOrder)
    for channels, side, half, scale_map, order in itertools.product(channel_counts, sides, (False, True), maps, orders):
        inputs = step_inputs(channels, side, steps=3, half=half, batch=2, device=kernels.device)
        keywords: dict[str, Any] = {"step": 1, "scale_map": scale_map, "order": order, "clamp": 0.7}
        expected = flow_ops.decoded_tail(*(tensor.double() for tensor in inputs), **keywords)
        name = f"FlowStepTail, {channels} channels, {side}×{side}, {'fp16' if half else 'fp32'}, {scale_map}, {order}"
        wrong += _difference(name, kernels.flow_step_tail(*inputs, **keywords), expected)
    return wrong


def wrong_splits(kernels: Kernels) -> list[str]:
    """The same for UnsqueezeSplit."""
    wrong = []
    for half, bound, batch in itertools.product((False, True), (None, 2.0), (1, 3)):
        h, noise = (torch.randn(batch, c, side, side, device=kernels.device) for c, side in ((24, 20), (6, 40)))
        head = torch.randn(batch, 12, 40, 40, device=kernels.device).to(torch.float16 if half else torch.float32)
        tau = torch.rand(batch, device=kernels.device)
        kept = F.pixel_shuffle(h.double(), 2)
        expected = flow_ops.decoded_split(kept, head.double(), noise.double(), tau.double(), bound=bound)
        got = kernels.unsqueeze_split(h, head, noise, tau, bound=bound)
        wrong += _difference(
            f"UnsqueezeSplit, batch {batch}, {'fp16' if half else 'fp32'}, bound {bound}", got, expected
        )
    return wrong


def wrong_latents(kernels: Kernels) -> list[str]:
    """Compare the latents with numpy's, bit for bit."""
    window = {"channels": 19, "top": 5, "left": (1 << 32) - 700, "height": 300, "width": 700}
    got = kernels.standard_normal((1 << 64) - 1, 3, 2, **window).cpu().numpy()
    expected = standard_normal((1 << 64) - 1, 3, 2, **window)
    differ = int(np.sum(got.view(np.uint32) != expected.view(np.uint32)))
    return [f"latents: {differ} of {got.size} are not those of srflow_sdk.latents.random_field"] if differ else []


def _difference(name: str, got: Tensor, expected: Tensor) -> list[str]:
    worst = ((got.double() - expected).abs().max() / expected.abs().max()).item()
    # Not "worst > TOLERANCE": NaN is wrong too.
    return [] if worst <= TOLERANCE else [f"{name}: differs from torch by {worst:.1e} of the largest value"]


def _is_half(state: Sequence[Tensor], conditioning: Sequence[Tensor]) -> bool:
    """Whether the conditioning is float16. Raises: ValueError for tensors that the kernels would misread."""
    kinds = {tensor.dtype for tensor in conditioning}
    if kinds not in ({torch.float32}, {torch.float16}) or any(tensor.dtype != torch.float32 for tensor in state):
        raise ValueError("kernels take a float32 flow state, and conditioning that is all float32 or all float16")
    if not all(tensor.is_contiguous() for tensor in (*state, *conditioning)):
        raise ValueError("kernels take contiguous tensors")
    return kinds == {torch.float16}


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
