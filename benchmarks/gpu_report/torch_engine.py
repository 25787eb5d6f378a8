"""The exported graphs in torch on a GPU, in fp16 with channels last; and our kernels, built by nvcc for it."""

from __future__ import annotations

import contextlib
import shutil
import statistics
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_report.kernels import Kernels, build
from benchmarks.gpu_report.network import TAU, AbsentError, LackingError, Setting, latents, network, picture
from srflow_export import graphs
from srflow_training import SRFlow


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
    """EncoderGraph and SamplerGraph of the network, typed as they are exported."""

    def __init__(self, model: SRFlow, device: torch.device) -> None:
        self._model, self._device = model, device
        self.about = f"torch {torch.__version__}, channels last"
        as_exported: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        self._encoder = graphs.EncoderGraph(model, torch.float16).to(**as_exported).eval()
        self._sampler = graphs.SamplerGraph(model, torch.float16).to(**as_exported).eval()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, setting: Setting) -> Iterator[TorchEngine]:
        """The engine of a setting. Raises: AbsentError."""
        yield cls(network(setting), gpu())

    @torch.inference_mode()
    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """See `checks.Opened`."""
        lr, rest = self._inputs(pixels)
        drawn: np.ndarray = self._sampler(*self._encoder(lr), *rest)[-1][0].float().cpu().numpy().transpose(1, 2, 0)
        return drawn

    def calls(self, size: int) -> dict[str, Callable[[], object]]:
        """See `checks.Opened`. All inputs are on the GPU, so that no time is a whole picture's."""
        lr, rest = self._inputs(picture(size, size))
        with torch.inference_mode():
            conditioning = self._encoder(lr)
        calls = {"encoder": lambda: self._encoder(lr), "sampler": lambda: self._sampler(*conditioning, *rest)}
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

    def _inputs(self, pixels: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The encoder's input; and the sampler's beside the conditioning: latents and tau."""
        lr = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).to(self._device, memory_format=torch.channels_last)
        given = latents(self._model, *pixels.shape[:2])
        noise = [torch.from_numpy(array).to(self._device) for _, array in sorted(given.items())]
        return lr, [*noise, torch.tensor([TAU], device=self._device)]
