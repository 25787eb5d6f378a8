"""The exported graphs in torch on a GPU, in fp16 with channels last; our kernel draws the latents where nvcc is."""

from __future__ import annotations

import contextlib
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_report.kernels import Kernels, build
from benchmarks.gpu_report.network import SEED, TAU, AbsentError, LackingError, Setting, latents, network, picture
from benchmarks.gpu_report.rows import FURTHER, PICTURE
from srflow_export import graphs
from srflow_training import SRFlow

_WARM_UP = 3  # runs before a capture


def gpu() -> torch.device:
    """The GPU that torch uses. Raises: AbsentError."""
    if not torch.cuda.is_available():
        raise AbsentError("torch sees no CUDA GPU: nvidia-smi shows one, so install torch's CUDA build")
    return torch.device("cuda", torch.cuda.current_device())


@lru_cache(maxsize=1)
def kernels(folder: Path) -> Kernels:
    """Our kernels, built for this GPU. Raises: LackingError without nvcc, RuntimeError if it fails."""
    device = gpu()
    if shutil.which("nvcc") is None:
        raise LackingError("nvcc is not on the PATH: install NVIDIA's CUDA toolkit and put its bin folder there")
    card = torch.cuda.get_device_properties(device)
    return Kernels(build(folder, f"sm_{card.major}{card.minor}"), device)


class TorchEngine:
    """EncoderGraph and SamplerGraph of the network, typed as they are exported.

    own: our kernels, of which one draws the latents; None: nothing does, and times are not judged.
    """

    def __init__(self, model: SRFlow, device: torch.device, own: Kernels | None) -> None:
        self._model, self._device, self._own = model, device, own
        self.judged = own is not None
        self.about = f"torch {torch.__version__}, channels last, {'with' if own else 'without'} our kernel for latents"
        as_exported: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        self._encoder = graphs.EncoderGraph(model, torch.float16).to(**as_exported).eval()
        self._sampler = graphs.SamplerGraph(model, torch.float16).to(**as_exported).eval()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, setting: Setting) -> Iterator[TorchEngine]:
        """The engine of a setting. Raises: AbsentError."""
        device, own = gpu(), None
        with contextlib.suppress(LackingError, RuntimeError, OSError):  # another row says so
            own = kernels(setting.folder)
        yield cls(network(setting), device, own)

    @torch.inference_mode()
    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """See `checks.Opened`."""
        lr = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).to(self._device, memory_format=torch.channels_last)
        given = latents(self._model, *pixels.shape[:2])
        noise = [torch.from_numpy(array).to(self._device) for _, array in sorted(given.items())]
        sr = self._sampler(*self._encoder(lr), *noise, torch.tensor([TAU], device=self._device))[-1]
        drawn: np.ndarray = sr[0].float().cpu().numpy().transpose(1, 2, 0)
        return drawn

    def calls(self, size: int) -> dict[str, Callable[[], object]]:
        """See `checks.Opened`. Pixels come from pinned memory and go there, as uint8; the rest stays on the GPU."""
        on_gpu, side = self._device.type == "cuda", self._model.config.scale * size
        pixels = torch.from_numpy(picture(size, size).transpose(2, 0, 1)[None].copy())
        host = pixels.pin_memory() if on_gpu else pixels
        answer = torch.empty((1, side, side, 3), dtype=torch.uint8, pin_memory=on_gpu)
        lr = host.to(self._device, memory_format=torch.channels_last)
        tau = torch.tensor([TAU], device=self._device)
        given = latents(self._model, size, size)
        kept = [torch.from_numpy(array).to(self._device) for _, array in sorted(given.items())]
        with torch.inference_mode():
            conditioning = self._encoder(lr)

        def noise() -> Sequence[Tensor]:
            if self._own is None:
                return kept
            return [
                self._own.standard_normal(SEED, 0, level, *array.shape[1:])[None]
                for level, array in sorted(given.items())
            ]

        def further(encoded: Sequence[Tensor] = conditioning) -> None:
            sr = self._sampler(*encoded, *noise(), tau)[-1]
            answer.copy_((sr.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1), non_blocking=True)

        def whole() -> None:
            lr.copy_(host, non_blocking=True)
            further(self._encoder(lr))

        calls: dict[str, Callable[[], object]] = {
            "encoder": lambda: self._encoder(lr),
            "sampler": lambda: self._sampler(*conditioning, *kept, tau),
            PICTURE: whole,
            FURTHER: further,
        }
        return {name: torch.inference_mode()(call) for name, call in calls.items()}

    def milliseconds(self, call: Callable[[], object], rounds: int) -> float:
        """See `checks.Opened`; CUDA events' time, with the fastest algorithms that cuDNN finds."""
        times: list[float] = []
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
            for _ in range(rounds):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                call()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end))
        return statistics.median(times)

    def captured(self, call: Callable[[], object]) -> Callable[[], object]:
        """See `checks.Opened`. Raises: RuntimeError."""
        stream, graph = torch.cuda.Stream(self._device), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                call()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        with torch.cuda.graph(graph):
            call()
        return graph.replay
