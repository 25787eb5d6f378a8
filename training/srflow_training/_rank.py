"""The place of this process among those of a run. Imports nothing heavy."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """True if this process reports for the run: rank 0, as set by Fabric, torchrun or Slurm."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))
