"""Check that a command's inputs exist, before torch is loaded, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from srflow_sdk.errors import CheckpointError, ImageError
from srflow_sdk.model.bundle import Bundle


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
            f"--model {model}: no such file: name a checkpoint, a bundle's folder, or an embedded model: "
            f"{', '.join(names)}"
        )
