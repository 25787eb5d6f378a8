"""Saved states of a run. A run resumed from one continues exactly as if it had never stopped."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from srflow_sdk._system.atomic import remove_all_stale_parts, write_atomically
from srflow_sdk.errors import CheckpointError


class States:
    """`iteration-*.pt` files in a folder, written atomically; only the newest `keep` are kept."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def clear_unfinished(self) -> None:
        """Delete partial files left by a killed run."""
        remove_all_stale_parts(self.folder)

    def files(self) -> list[Path]:
        """The state files, oldest first."""
        return sorted(self.folder.glob("iteration-*.pt"))

    def save(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Write a state, then delete all but the newest `keep`."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"iteration-{iteration:08d}.pt", buffer.getvalue())
        for file in self.files()[: -self.keep]:
            file.unlink()

    def load(self) -> dict[str, Any]:
        """Load the newest state to the CPU. Raises: CheckpointError."""
        newest = self.files()[-1]
        try:
            state: dict[str, Any] = torch.load(newest, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{newest}: cannot be read ({reason}): delete it to resume from the previous state"
            ) from error
        return state
