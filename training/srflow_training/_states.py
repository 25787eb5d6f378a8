"""The saved states of a run, from which it goes on exactly as if it had never stopped."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from srflow_sdk._system.atomic import remove_all_stale_parts, write_atomically
from srflow_sdk.errors import CheckpointError


class States:
    """`iteration-*.pt` files of a folder, each whole or not there; the newest `keep` are kept."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def clear_unfinished(self) -> None:
        """Delete what a killed run had half written."""
        remove_all_stale_parts(self.folder)

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("iteration-*.pt"))

    def save(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Write, then remove what is older than the newest `keep`."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"iteration-{iteration:08d}.pt", buffer.getvalue())
        for file in self.files()[: -self.keep]:
            file.unlink()

    def load(self) -> dict[str, Any]:
        """The newest state, on the CPU. Raises: CheckpointError."""
        newest = self.files()[-1]
        try:
            state: dict[str, Any] = torch.load(newest, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch makes of a damaged file
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{newest}: cannot be read ({reason}): delete it to resume from the one before"
            ) from error
        return state
