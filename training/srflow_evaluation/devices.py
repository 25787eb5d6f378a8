"""Where networks compute; pictures and figures stay on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.system.device_names import split_device


def check_device(device: str) -> None:
    """Check that torch computes on cpu, cuda or cuda:N, now in full float32. Raises: ArgumentError, DeviceError."""
    name, gpu = split_device(device)
    if name == "cpu":
        return
    if name != "cuda":
        raise ArgumentError(f"--device {device}: networks compute on cpu, cuda or cuda:N")
    if gpu >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {device}: torch {torch.__version__} finds no such GPU here: leave it out, or install torch's "
            "CUDA build and NVIDIA's driver"
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
