"""Where networks compute; pictures and figures stay on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from srflow_sdk.errors import DeviceError

Device = Literal["cpu", "cuda"]


def check_device(device: Device) -> None:
    """Check that torch computes there, from now on in full float32. Raises: DeviceError."""
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise DeviceError(
            f"--device cuda: torch {torch.__version__} finds no GPU here: leave it out, or install torch's CUDA build "
            "and NVIDIA's driver"
        )
    torch.backends.cudnn.allow_tf32 = False


def from_cpu(network: nn.Module) -> Callable[[Tensor], Any]:
    """A network that takes a tensor from the CPU, and returns one or several there, wherever it computes."""
    device = next(network.parameters()).device
    if device.type == "cpu":
        return network

    def run(image: Tensor) -> Any:
        found = network(image.to(device))
        return found.cpu() if isinstance(found, Tensor) else [part.cpu() for part in found]

    return run
