"""The exported graphs in torch on a GPU, with our kernels in them where nvcc is."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_report.engines import AbsentError, Call, LackingError, Setting, Stages
from benchmarks.gpu_report.kernels import Kernels, build
from benchmarks.gpu_report.network import SEED, TAU, latent_levels, network, picture
from benchmarks.gpu_report.rows import FURTHER, PICTURE
from srflow_export import flow_ops, graphs
from srflow_training import SRFlow

_WARM_UP = 3  # runs before a capture


def gpu() -> torch.device:
    """The GPU that torch uses; fp32 means fp32 there. Raises: AbsentError."""
    if not torch.cuda.is_available():
        raise AbsentError("torch sees no CUDA GPU: nvidia-smi shows one, so install torch's CUDA build")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", torch.cuda.current_device())


def kernels(setting: Setting) -> Kernels:
    """Our kernels, built for this GPU. Raises: LackingError without nvcc, RuntimeError if it fails."""
    found = _built(setting.folder)
    if isinstance(found, Exception):
        raise found
    return found


@lru_cache(maxsize=1)
def _built(folder: Path) -> Kernels | Exception:
    """Once in a process, also if it fails."""
    device = gpu()
    if shutil.which("nvcc") is None:
        return LackingError("nvcc is not on the PATH: install NVIDIA's CUDA toolkit and put its bin folder there")
    card = torch.cuda.get_device_properties(device)
    try:
        return Kernels(build(folder, f"sm_{card.major}{card.minor}"), device)
    except (RuntimeError, OSError) as error:
        return error


def milliseconds(calls: Sequence[Call], device: torch.device, rounds: int) -> float:
    """Median over rounds of a call's mean time; a round makes all calls once. CUDA events' time on a GPU."""
    times: list[float] = []
    for _ in range(rounds):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for call in calls:
                call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            started = time.perf_counter()
            for call in calls:
                call()
            times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times) / len(calls)


class TorchEngine:
    """EncoderGraph and SamplerGraph of the network, typed as they are exported.

    own: our kernels, which take the flow's operations in the sampler and draw the latents; None: torch's operators.
    """

    def __init__(self, model: SRFlow, dtype: torch.dtype, device: torch.device, own: Kernels | None) -> None:
        self.config, self.levels, self.device, self.own = model.config, latent_levels(model), device, own
        self._names = graphs.conditioning_names(model.config)
        self.encoder = graphs.EncoderGraph(model, dtype).to(device).eval()
        self.sampler = graphs.SamplerGraph(model, dtype, flow_nodes=own is not None).to(device).eval()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, setting: Setting) -> Iterator[TorchEngine]:
        """The engine of a setting. Raises: AbsentError."""
        device, own = gpu(), None
        if setting.precision != "bf16":  # which the kernels do not take
            with contextlib.suppress(LackingError, RuntimeError, OSError):  # other rows say so
                own = kernels(setting)
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[setting.precision]
        with contextlib.ExitStack() as stack:
            if own is not None:
                for name in ("flow_step_tail", "unsqueeze_split"):
                    stack.enter_context(mock.patch.object(flow_ops, name, getattr(own, name)))
            yield cls(network(setting.work, quick=setting.quick), dtype, device, own)

    @torch.inference_mode()
    def encode(self, lr: np.ndarray) -> tuple[Tensor, ...]:
        """See `engines.Engine`."""
        encoded: tuple[Tensor, ...] = self.encoder(torch.from_numpy(lr).to(self.device))
        return encoded

    @torch.inference_mode()
    def sample(self, conditioning: Sequence[Tensor], noise: Mapping[int, np.ndarray], tau: float) -> np.ndarray:
        """See `engines.Engine`."""
        inputs = [torch.from_numpy(array).to(self.device) for _, array in sorted(noise.items())]
        sr: np.ndarray = self.sampler(*conditioning, *inputs, torch.tensor([tau], device=self.device))[-1].cpu().numpy()
        return sr

    def tensors(self, conditioning: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """See `engines.Engine`."""
        return {name: tensor.float().cpu().numpy() for name, tensor in zip(self._names, conditioning, strict=True)}

    def memory(self) -> tuple[int, str] | None:
        """See `engines.Engine`."""
        return (torch.cuda.max_memory_allocated(self.device), "torch's") if self.device.type == "cuda" else None

    def stages(self, size: int) -> Stages:
        """Latents, conditioning and pictures stay on the GPU; pixels come from pinned memory and go there, as uint8."""
        on_gpu, side = self.device.type == "cuda", self.config.scale * size
        pixels = torch.from_numpy(picture(size, size))
        host = pixels.pin_memory() if on_gpu else pixels
        answer = torch.empty((1, side, side, 3), dtype=torch.uint8, pin_memory=on_gpu)
        lr, tau = host.to(self.device), torch.tensor([TAU], device=self.device)

        made: dict[str, Any] = {}  # what a stage gave the first time, for those after it

        def latents() -> list[Tensor]:
            return [self._latent(level, size) for level in self.levels]

        def kept(name: str, call: Callable[[], Any]) -> Call:
            return lambda: made.setdefault(name, call())

        def finished(conditioning: Sequence[Tensor]) -> None:
            noise = latents() if self.own else made["latents"]
            answer.copy_(quantised(self.sampler(*conditioning, *noise, tau)[-1]), non_blocking=True)

        def copies() -> None:
            lr.copy_(host, non_blocking=True)
            answer.copy_(made["quantisation"], non_blocking=True)

        def whole() -> None:
            lr.copy_(host, non_blocking=True)
            finished(self.encoder(lr))

        calls: dict[str, Call] = {
            "latents": kept("latents", latents),
            "encoder": kept("encoder", lambda: self.encoder(lr)),
            "sampler": kept("sampler", lambda: self.sampler(*made["encoder"], *made["latents"], tau)[-1]),
            "quantisation": kept("quantisation", lambda: quantised(made["sampler"])),
            "copies": copies,
            PICTURE: whole,
            FURTHER: lambda: finished(made["encoder"]),
        }
        lacking = {}
        if not self.own:
            calls.pop("latents")()
            lacking = {"latents": "our kernel is not there; the pictures below are without this stage, and not judged"}
        calls = {name: torch.inference_mode()(call) for name, call in calls.items()}
        clock = "CUDA events" if on_gpu else "host's clock"
        return Stages(calls, self._milliseconds, clock, captured=self._captured if on_gpu else None, lacking=lacking)

    def _latent(self, level: Any, size: int) -> Tensor:
        """One level's noise, 1×C×H×W; without our kernel, torch's own random numbers."""
        side = self.config.scale * size >> level.level
        if self.own is None:
            return torch.randn(1, level.channels, side, side, device=self.device)
        window = {"channels": level.channels, "top": 0, "left": 0, "height": side, "width": side}
        return self.own.standard_normal(SEED, 0, level.level, **window)[None]

    def _milliseconds(self, calls: Sequence[Call], rounds: int) -> float:
        with _fastest():
            return milliseconds(calls, self.device, rounds)

    def _captured(self, call: Call) -> Call:
        """The call as a CUDA graph."""
        stream, graph = torch.cuda.Stream(self.device), torch.cuda.CUDAGraph()
        with _fastest():
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    call()
            torch.cuda.current_stream(self.device).wait_stream(stream)
            with torch.cuda.graph(graph):
                call()
        return graph.replay


def _fastest() -> contextlib.AbstractContextManager[object]:
    """In this context, cuDNN tries what is fastest; elsewhere it must compute the same each time."""
    flags: contextlib.AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=False
    )
    return flags


def quantised(sr: Tensor) -> Tensor:
    """N×3×H×W → uint8 N×H×W×3; all 0 if a value is not finite."""
    broken = ~torch.isfinite(sr).all()
    return (sr.clamp(0, 1) * 255).round().masked_fill(broken, 0).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
