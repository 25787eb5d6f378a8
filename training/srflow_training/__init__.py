"""Training and checkpoints of SRFlow, in PyTorch (`pip install "srflow-sdk[train]"`).

Names are imported on first use, so the command line can report a missing extra when torch is not
installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_training.checkpoints import load_checkpoint, save_checkpoint
    from srflow_training.model import RRDB, Encoder, PlainEncoder, SRFlow, SRFlowConfig

__all__ = [
    "RRDB",
    "Encoder",
    "PlainEncoder",
    "SRFlow",
    "SRFlowConfig",
    "load_checkpoint",
    "save_checkpoint",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Encoder": "model",
        "PlainEncoder": "model",
        "RRDB": "model",
        "SRFlow": "model",
        "SRFlowConfig": "model",
        "load_checkpoint": "checkpoints",
        "save_checkpoint": "checkpoints",
    },
)
