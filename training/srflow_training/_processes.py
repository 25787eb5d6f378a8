"""Start the processes of a run, one per device, through Lightning Fabric, with memory that they keep."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from srflow_sdk.errors import DeviceError
from srflow_training.settings import Hardware

# of <malloc.h>; both at the most that glibc takes
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 2**31 - 1), (-3, 32 << 20)


class LossPrecision(MixedPrecision):
    """Precision inside the loss: float32, or bfloat16 once `bf16` is set, which may be after the processes started.

    Fabric's own mixed precision also rounds HR and its noise, to steps of 1/256.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)
        self.bf16 = False

    def forward_context(self) -> AbstractContextManager[None]:
        """Automatic mixed precision, if it is in use."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16)

    def convert_input(self, data: Any) -> Any:
        """Leave the loss's inputs in float32."""
        return data


def launched(hardware: Hardware) -> tuple[Fabric, LossPrecision]:
    """Launch Fabric and its other processes, unless torchrun or Slurm started them. Raises: DeviceError.

    Returns Fabric and the precision that it computes the loss in, float32 so far.
    """
    ranks = hardware.devices * hardware.nodes
    started = int(os.environ.get("WORLD_SIZE", ranks))
    if started != ranks:
        raise DeviceError(
            f"hardware: {started} processes were started for {hardware.nodes} nodes of {hardware.devices} devices: "
            "set hardware.devices and hardware.nodes to the values given to torchrun"
        )
    keep_freed_memory()
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    accelerator = hardware.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    precision = LossPrecision(accelerator)
    # its new name is not known to all versions of PyTorch
    warnings.filterwarnings("ignore", message=".*broadcast_buffers")
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            # a flow's loss does not use the encoder's image head, nor train a frozen encoder
            strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False) if ranks > 1 else "auto",
            plugins=precision,
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's errors for missing hardware
        raise DeviceError(f"hardware: {' '.join(str(error).split())}: choose another accelerator or devices") from error
    torch.backends.cudnn.allow_tf32 = False  # the flow's inverse needs full float32 precision
    return fabric, precision


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, up to 32 MB each, also in processes that are forked later.

    Otherwise it returns most of it to the system, and every step waits for the same pages to be mapped and cleared.
    Does nothing with another C library.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(*_TRIM_THRESHOLD)
        libc.mallopt(*_MMAP_THRESHOLD)
