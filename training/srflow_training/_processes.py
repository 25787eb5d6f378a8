"""Start the processes of a run, one per device, through Lightning Fabric."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from srflow_sdk.errors import DeviceError
from srflow_training.settings import Hardware


def is_first_process() -> bool:
    """Whether this process reports for the run: rank 0, as set by Fabric, torchrun or Slurm."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))


def launched(hardware: Hardware) -> Fabric:
    """Launch Fabric and its other processes, unless torchrun or Slurm started them. Raises: DeviceError."""
    ranks = hardware.devices * hardware.nodes
    started = int(os.environ.get("WORLD_SIZE", ranks))
    if started != ranks:
        raise DeviceError(
            f"hardware: {started} processes were started for {hardware.nodes} nodes of {hardware.devices} devices: "
            "set hardware.devices and hardware.nodes to the values given to torchrun"
        )
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    accelerator = hardware.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            # a flow's loss does not use the encoder's image head, nor train a frozen encoder
            strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False) if ranks > 1 else "auto",
            precision="bf16-mixed" if hardware.precision == "bf16" else "32-true",
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's errors for missing hardware
        raise DeviceError(f"hardware: {' '.join(str(error).split())}: choose another accelerator or devices") from error
    torch.backends.cudnn.allow_tf32 = False  # the flow's inverse needs full float32 precision
    return fabric
