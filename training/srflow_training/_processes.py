"""The processes of a run: one for each device, through Lightning Fabric."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from srflow_sdk.errors import DeviceError
from srflow_training.settings import Hardware


def is_first_process() -> bool:
    """Whether this process speaks for the run: rank 0, as Fabric, torchrun or Slurm say."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))


def launched(hardware: Hardware) -> Fabric:
    """Fabric, its other processes started where nobody else has. Raises: DeviceError."""
    ranks = hardware.devices * hardware.nodes
    started = int(os.environ.get("WORLD_SIZE", ranks))
    if started != ranks:
        raise DeviceError(
            f"hardware: {started} processes were started for {hardware.nodes} nodes of {hardware.devices} devices: "
            "set hardware.devices and hardware.nodes to what torchrun was given"
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
            # the encoder's image head is in no flow's loss, and a frozen encoder in none
            strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False) if ranks > 1 else "auto",
            precision="bf16-mixed" if hardware.precision == "bf16" else "32-true",
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # what Fabric raises of hardware that is not there
        raise DeviceError(f"hardware: {' '.join(str(error).split())}: choose another accelerator or devices") from error
    torch.backends.cudnn.allow_tf32 = False  # the flow's inverse needs what float32 promises
    return fabric
