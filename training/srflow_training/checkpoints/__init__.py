"""Checkpoint files: read published ones and our own, detect their network, write our own."""

from srflow_training.checkpoints.detection import detect_rrdb, detect_srflow
from srflow_training.checkpoints.files import (
    ENCODER_NOTE,
    SAMPLING_NOTES,
    default_tau_of,
    load_checkpoint,
    load_encoder,
    load_with_notes,
    read_lr_reduction,
    read_tensors,
    save_checkpoint,
)

__all__ = [
    "ENCODER_NOTE",
    "SAMPLING_NOTES",
    "default_tau_of",
    "detect_rrdb",
    "detect_srflow",
    "load_checkpoint",
    "load_encoder",
    "load_with_notes",
    "read_lr_reduction",
    "read_tensors",
    "save_checkpoint",
]
