"""A run's states, to go back to; whether it is healthy; and the best validation so far."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_sdk.system.local_files import write_atomically
from srflow_training.settings import Hardware, RunSettings

_RECENT = 3  # steps that are judged together
_PSNR_DROP = 6.0  # dB below the best validation
_FLOW = {  # 1: higher is better
    "nll": -1,
    "psnr_tau0": 1,
    "y_psnr_tau0": 1,
    "ssim_tau0": 1,
    "gmsd_tau0.8": -1,
    "haarpsi_tau0.8": 1,
    "lr_psnr_tau0.8": 1,
}
_ENCODER = {"psnr": 1, "y_psnr": 1, "ssim": 1}


@dataclass(frozen=True)
class States:
    """`iteration-*.pt` files in a folder, written atomically: the newest `keep`."""

    folder: Path
    keep: int

    def files(self) -> list[Path]:
        """The state files, oldest first."""
        return sorted(self.folder.glob("iteration-*[0-9].pt"))

    def save(self, iteration: int, state: Mapping[str, Any]) -> None:
        """Write a state, then delete all but the newest `keep`."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"iteration-{iteration:08d}.pt", buffer.getvalue())
        for file in self.files()[: -self.keep]:
            file.unlink()

    def newest(self) -> int | None:
        """The iteration of the newest state; None if there is none."""
        files = self.files()
        return int(files[-1].stem.removeprefix("iteration-")) if files else None

    def load_newest(self) -> dict[str, Any]:
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
    """The first field outside hardware in which two runs differ, with both values.

    Empty if there is none.

    Args:
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
    schedule = settings.schedule
    data = settings.data
    names = {name: Path(getattr(schedule, name)).name for name in ("encoder", "start")}
    folders = {name: Path(getattr(data, name)).name for name in ("lr", "teacher")}
    return settings.model_copy(
        update={
            "schedule": schedule.model_copy(update=names),
            "data": data.model_copy(update={**folders, "cache": "auto", "workers": 0}),
            "hardware": Hardware(precision=settings.hardware.precision),
        }
    )


class Health:
    """Tell whether weights are worth returning to, by recent losses and the last validation.

    Healthy: the losses and gradients of the last three steps are finite, and no loss is above the
    best so far by more than `tolerance`, that best value itself and half of what was learned,
    whichever is largest; likewise the validation's likelihood; its PSNR is within 6 dB of the best.
    A false alarm only means that a diverged run returns further.
    """

    def __init__(self, *, tolerance: float) -> None:
        self._tolerance = tolerance
        self._losses: deque[Tensor] = deque(maxlen=_RECENT)
        self._best: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._validated = True

    def add_step(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Note a step's loss, which counts as infinite if the gradient is not finite."""
        if "loss" not in self._first:
            self._first["loss"] = self._best["loss"] = float(loss) if loss.isfinite() else math.inf
        self._losses.append(torch.where(torch.isfinite(gradient_norm), loss, math.inf).detach())

    def add_validation(self, figures: Mapping[str, float]) -> None:
        """Judge the figures of a validation."""
        nll = figures.get("validation/nll")
        psnr = figures.get("validation/psnr_tau0", figures.get("validation/psnr"))
        self._validated = nll is None or self._accept("nll", nll)
        if psnr is not None:
            best = self._best["psnr"] = max(psnr, self._best.get("psnr", psnr))
            self._validated = self._validated and psnr >= best - _PSNR_DROP

    def judge(self) -> bool:
        """True if the current weights are healthy."""
        if not self._losses:
            return self._validated
        highest = torch.stack(tuple(self._losses)).max()  # NaN if one is
        return self._accept("loss", float(highest)) and self._validated

    def _accept(self, name: str, value: float) -> bool:
        """True if a loss has not collapsed; a healthy one becomes the best if it is lower."""
        first = self._first.setdefault(name, value)
        best = self._best.setdefault(name, value)
        learned = first - best if math.isfinite(first) else 0.0
        limit = best + max(abs(best), learned / 2, self._tolerance)
        if not math.isfinite(value) or value > limit:
            return False
        self._best[name] = min(best, value)
        return True

    def state(self) -> dict[str, Any]:
        """The state that :meth:`load` takes: numbers and booleans only."""
        return {"best": self._best, "first": self._first, "validated": self._validated}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._best = dict(state["best"])
        self._first = dict(state["first"])
        self._validated = bool(state["validated"])


class Best:
    """The best value so far of a validation metric, by its name without `validation/`.

    Raises:
        ArgumentError: if networks of this kind have no such metric, or nothing is validated.
    """

    def __init__(self, metric: str, *, kind: str, validates: bool) -> None:
        signs = _FLOW if kind == "srflow" else _ENCODER
        if metric and metric not in signs:
            raise ArgumentError(
                f"schedule.best is {metric!r}; for this network it can be {', '.join(signs)}"
            )
        if metric and not validates:
            raise ArgumentError(
                f"schedule.best={metric} needs photographs to validate on: add --val"
            )
        self.metric = metric
        self.value = -math.inf
        self._sign = signs.get(metric, 1)

    def improves(self, figures: Mapping[str, float]) -> bool:
        """True if these figures are better than all before."""
        value = self._sign * figures.get(f"validation/{self.metric}", math.nan)
        if not value > self.value:  # NaN is never better
            return False
        self.value = value
        return True
