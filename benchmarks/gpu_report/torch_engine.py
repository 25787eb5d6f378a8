"""What torch and nvcc alone show: our kernels, and the exported graphs in fp16."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench.processes import ROOT, MissingError
from benchmarks.gpu_report.network import TAU, Setting, latents, network, picture
from srflow_export import flow_ops, graphs
from srflow_sdk.latents.random_field import standard_normal
from srflow_training.model.config import AffineOrder, ScaleMap

RUNTIME = ROOT / "runtime"
SOURCES = ("flow_step_tail.cu", "latents.cu", "c_functions.cpp", "../c_api/c_api.cpp")
TOLERANCE = 1e-4  # of a kernel against torch in float64, relative to the largest value


def gpu() -> torch.device:
    """The GPU that torch uses. Raises: MissingError."""
    if not torch.cuda.is_available():
        raise MissingError("torch sees no CUDA GPU: it needs one, and a CUDA build of torch")
    return torch.device("cuda", torch.cuda.current_device())


def build(folder: Path, architecture: str) -> Path:
    """Build libsrflow_cuda for an architecture such as sm_89. Raises: RuntimeError."""
    if shutil.which("nvcc") is None:
        raise MissingError(
            "nvcc is not on the PATH: install NVIDIA's CUDA toolkit and put its bin folder there"
        )
    library = folder / "libsrflow_cuda.so"
    options = [
        "-std=c++17",
        "-O3",
        f"-arch={architecture}",
        "-shared",
        "-cudart",
        "static",
        "-o",
        str(library),
    ]
    options += [
        "-Xcompiler",
        "-fPIC,-ffp-contract=off",
        '-DSRFLOW_VERSION="benchmark"',
        f"-I{RUNTIME / 'include'}",
    ]
    command = ["nvcc", *options, *(str(RUNTIME / "cuda" / source) for source in SOURCES)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"nvcc failed for {architecture}: {result.stdout}{result.stderr}")
    return library


def find_wrong_kernels(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Build each of our kernels for this GPU, and give a line for each wrong case."""
    card = torch.cuda.get_device_properties(gpu())
    library = ctypes.CDLL(str(build(folder, f"sm_{card.major}{card.minor}")))
    for name, wrong in (("latents", find_wrong_latents), ("FlowStepTail", find_wrong_steps)):
        yield name, list(wrong(library, gpu()))


def find_wrong_latents(library: ctypes.CDLL, device: torch.device) -> Iterator[str]:
    """Compare the latents with numpy's, bit for bit."""
    seed = (1 << 64) - 1
    window = {"top": 5, "left": (1 << 32) - 700, "height": 300, "width": 700}
    out = torch.empty(19, 300, 700, device=device)
    numbers = map(ctypes.c_int64, window.values())
    begin = [ctypes.c_uint64(seed), ctypes.c_uint64(3), 2, 19, *numbers]
    _call(library.srflow_standard_normal_cuda, begin, [out], [])
    got = out.cpu().numpy()
    expected = standard_normal(seed, 3, 2, channels=19, **window)
    if differ := int(np.sum(got.view(np.uint32) != expected.view(np.uint32))):
        yield f"{differ} of {got.size} are not those of srflow_sdk.latents.random_field"


def find_wrong_steps(library: ctypes.CDLL, device: torch.device) -> Iterator[str]:
    """Compare FlowStepTail, one step of three, with torch in float64."""
    # The locals are the arguments of one call, which nothing else makes.
    for channels, side, kind, scale_map, order in itertools.product(
        (1, 12, 24, 48, 96, 192, 384),
        (13, 40),  # an odd and an even number of pixels
        (torch.float32, torch.float16),
        get_args(ScaleMap),
        get_args(AffineOrder),
    ):
        h = torch.randn(2, channels, side, side, device=device)
        head = torch.randn(2, 2 * (channels - channels // 2), side, side, device=device).to(kind)
        scale, shift = (
            torch.randn(1, 3 * channels, side, side, device=device).to(kind) for _ in range(2)
        )
        weight = torch.randn(channels, channels, 1, 1, device=device) / channels**0.5
        inputs = [h, head, scale, shift, weight, torch.randn(channels, device=device)]
        out = torch.empty_like(h)
        sizes = map(ctypes.c_int64, (2, channels, side**2, 1, 3 * channels, channels))
        rest = [
            int(kind == torch.float16),
            *sizes,
            scale_map.encode(),
            order.encode(),
            ctypes.c_float(0.7),
        ]
        _call(library.srflow_flow_step_tail_cuda, [], [*inputs, out], rest)
        exact = (tensor.double() for tensor in inputs)
        expected = flow_ops.decoded_tail(
            *exact, step=1, scale_map=scale_map, order=order, clamp=0.7
        )
        name = f"{channels} channels, {side}×{side}, {kind}, {scale_map}, {order}"
        yield from _difference(name, out, expected)


def _call(
    function: Any, begin: Sequence[Any], tensors: Sequence[Tensor], rest: Sequence[Any]
) -> None:
    """Run a kernel on torch's stream; tensors are contiguous."""
    device = tensors[-1].device
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    if error := function(*begin, *pointers, *rest, ctypes.c_void_p(stream)):
        raise RuntimeError(f"the kernel was refused with CUDA error {error}")


def _difference(name: str, got: Tensor, expected: Tensor) -> Iterator[str]:
    worst = ((got.double() - expected).abs().max() / expected.abs().max()).item()
    if not worst <= TOLERANCE:  # NaN is wrong too
        yield f"{name}: differs from torch by {worst:.1e} of the largest value"


class TorchEngine:
    """EncoderGraph and SamplerGraph of the network, typed as they are exported."""

    def __init__(self, setting: Setting) -> None:
        self._device = gpu()
        self._model = network(setting)
        self.about = f"torch {torch.__version__}, channels last"
        self._encoder = graphs.EncoderGraph(self._model, torch.float16).eval()
        self._sampler = graphs.SamplerGraph(self._model, torch.float16).eval()
        for graph in (self._encoder, self._sampler):
            graph.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """See `checks.Checks`."""
        lr, rest = self._make_inputs(pixels)
        drawn: np.ndarray = (
            self._sampler(*self._encoder(lr), *rest)[-1][0].float().cpu().numpy().transpose(1, 2, 0)
        )
        return drawn

    def calls(self, size: int) -> dict[str, Callable[[], object]]:
        """See `checks.Checks`. All inputs are on the GPU, so that no time is a whole picture's."""
        lr, rest = self._make_inputs(picture(size, size))
        with torch.inference_mode():
            conditioning = self._encoder(lr)

        @torch.inference_mode()
        def stage(graph: torch.nn.Module, *inputs: Tensor) -> None:
            """Run a graph to its end, with the fastest algorithms that cuDNN finds."""
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=True, deterministic=False, allow_tf32=False
            ):
                graph(*inputs)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)

        encoder = partial(stage, self._encoder, lr)
        sampler = partial(stage, self._sampler, *conditioning, *rest)
        return {"encoder": encoder, "sampler": sampler}

    def _make_inputs(self, pixels: np.ndarray) -> tuple[Tensor, list[Tensor]]:
        """The encoder's input; and the sampler's beside the conditioning: latents and tau."""
        lr = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).to(
            self._device, memory_format=torch.channels_last
        )
        given = latents(self._model, *pixels.shape[:2])
        noise = [torch.from_numpy(array).to(self._device) for _, array in sorted(given.items())]
        return lr, [*noise, torch.tensor([TAU], device=self._device)]
