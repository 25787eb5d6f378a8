"""Saved states of a run, with its settings. A run resumed from one continues exactly as if it had never stopped."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from srflow_sdk.errors import CheckpointError
from srflow_sdk.system.local_files import remove_stale_parts_in, write_atomically
from srflow_training.settings import Hardware, RunSettings

_SUSPECT = "-suspect"


class States:
    """`iteration-*.pt` files in a folder, written atomically: the newest `keep`, and the newest healthy one.

    States saved after the run seems to have diverged are named `iteration-*-suspect.pt`.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def clear_unfinished(self) -> None:
        """Delete partial files left by a killed run."""
        remove_stale_parts_in(self.folder)

    def files(self) -> list[Path]:
        """The state files, oldest first."""
        return sorted(self.folder.glob("iteration-*.pt"))

    def save(self, iteration: int, state: Mapping[str, Any], *, healthy: bool = True) -> None:
        """Write a state, then delete all but the newest `keep` and the newest healthy one."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.folder.mkdir(parents=True, exist_ok=True)
        names = [f"iteration-{iteration:08d}{suffix}.pt" for suffix in ("", _SUSPECT)]
        write_atomically(self.folder / names[not healthy], buffer.getvalue())
        (self.folder / names[healthy]).unlink(missing_ok=True)
        last_healthy = self._healthy()[-1:]
        for file in self.files()[: -self.keep]:
            if file not in last_healthy:
                file.unlink()

    def newest_is_suspect(self) -> bool:
        """True if the run seems to have diverged before its newest state."""
        return any(file.stem.endswith(_SUSPECT) for file in self.files()[-1:])

    def discard_suspect(self) -> int | None:
        """Delete the states after the newest healthy one. Returns its iteration; None if there is none."""
        for file in self.files():
            if file.stem.endswith(_SUSPECT):
                file.unlink(missing_ok=True)  # another process of the run deletes them too
        return int(self._healthy()[-1].stem.split("-")[1]) if self._healthy() else None

    def _healthy(self) -> list[Path]:
        return [file for file in self.files() if not file.stem.endswith(_SUSPECT)]

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


def first_difference(one: RunSettings, other: RunSettings, ignored: Mapping[str, set[str]]) -> str:
    """The first field outside hardware in which two runs differ, with both values; empty if there is none.

    ignored: {section: fields to skip}.
    """
    for section in ("network", "data", "objective", "schedule"):
        first, second = (settings.model_dump(mode="json")[section] for settings in (one, other))
        for name in sorted({*first, *second} - ignored.get(section, set())):
            if first.get(name) != second.get(name):
                return f"{section}.{name} ({first.get(name)!r}, not {second.get(name)!r})"
    return ""


def without_paths(settings: RunSettings) -> RunSettings:
    """Settings to publish with a model: files by name only, and nothing about the machine."""
    schedule, data, objective = settings.schedule, settings.data, settings.objective
    names = {name: Path(getattr(schedule, name)).name for name in ("encoder", "start")}
    folders = {name: Path(getattr(data, name)).name for name in ("lr", "teacher")}
    return settings.model_copy(
        update={
            "schedule": schedule.model_copy(update=names),
            "objective": objective.model_copy(update={"perceptual_vgg16": Path(objective.perceptual_vgg16).name}),
            "data": data.model_copy(update={**folders, "cache": "auto", "workers": 0}),
            "hardware": Hardware(precision=settings.hardware.precision),
        }
    )
