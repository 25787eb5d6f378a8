"""Names of processors, beside which times are given and kept."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def processor_name(device: torch.device) -> str:
    """Name of the GPU, or of the CPU with its instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()} ({torch.backends.cpu.get_cpu_capability()})"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
