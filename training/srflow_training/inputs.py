"""Check a command's inputs, the extra and the place among processes before torch is loaded, which
takes seconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from srflow_sdk.errors import CheckpointError, ImageError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.system.hardware import require_extra


def check_folder(folder: Path, *, option: str = "") -> None:
    """Raises: ImageError if it is no folder. option: how the user named it, e.g. "--data"."""
    if not folder.is_dir():
        why = "is a file, not a folder" if folder.exists() else "no such folder"
        raise ImageError(f"{f'{option} {folder}'.lstrip()}: {why}: name a folder of pictures")


def check_model(model: str) -> None:
    """Raises: CheckpointError if it names neither a file, nor a folder, nor an embedded model."""
    names = Bundle.embedded_names()
    if model not in names and not Path(model).exists():
        raise CheckpointError(
            f"--model {model}: no such file: name a checkpoint, a bundle's folder, or an embedded "
            f"model: {', '.join(names)}"
        )


def is_first_process() -> bool:
    """True if this process reports for the run: rank 0, as set by Fabric, torchrun or Slurm."""
    return all(
        os.environ.get(name, "0") == "0"
        for name in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID")
    )


def require_all() -> Any:
    """Check that the [train] extra is installed; return torch. Raises: MissingExtraError."""
    for module in ("safetensors", "yaml", "piq", "pydantic"):
        require_extra(module, "train")
    return require_extra("torch", "train")
