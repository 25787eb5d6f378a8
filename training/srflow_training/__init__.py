"""Training and checkpoints of SRFlow, in PyTorch (`pip install "srflow-sdk[train]"`).

Names are imported on first use, so that the command line can say what is missing where there is no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srflow_training.checkpoints import load_checkpoint, save_checkpoint
    from srflow_training.model import RRDB, SRFlow, SRFlowConfig

__all__ = ["RRDB", "SRFlow", "SRFlowConfig", "load_checkpoint", "save_checkpoint"]


def __getattr__(name: str) -> object:
    import importlib

    if name in __all__:
        module = "checkpoints" if name.endswith("_checkpoint") else "model"
        return getattr(importlib.import_module(f"srflow_training.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
