"""Checkpoint files: read published ones and our own, detect the network they hold, write our own."""

from srflow_training.checkpoints._detect import detect_rrdb, detect_srflow
from srflow_training.checkpoints._io import (
    load_checkpoint,
    load_encoder,
    load_with_notes,
    reduction_of,
    save_checkpoint,
)

__all__ = [
    "detect_rrdb",
    "detect_srflow",
    "load_checkpoint",
    "load_encoder",
    "load_with_notes",
    "reduction_of",
    "save_checkpoint",
]
