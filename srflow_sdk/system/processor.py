"""Reads what Linux tells of the machine's first core."""

from __future__ import annotations

import contextlib
from pathlib import Path


def first_core(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The fields of the first core by name, in the kernel's order; empty where the system does not list them."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError), cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                break
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    return fields
