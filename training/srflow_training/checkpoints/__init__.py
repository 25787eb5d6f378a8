"""Checkpoint files: reading published and own ones, detecting the network they hold, writing own ones."""

from srflow_training.checkpoints._detect import detect_rrdb, detect_srflow
from srflow_training.checkpoints._io import load_checkpoint, load_encoder, load_with_notes, save_checkpoint

__all__ = ["detect_rrdb", "detect_srflow", "load_checkpoint", "load_encoder", "load_with_notes", "save_checkpoint"]
