"""The training loop: negative log-likelihood of an SRFlow, or L1 of the RRDB that it starts from."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError
from srflow_training.checkpoints import load_encoder, save_checkpoint
from srflow_training.checkpoints.io import write_atomically
from srflow_training.data import PhotoCrops
from srflow_training.model import RRDB, SRFlow
from srflow_training.settings import RunSettings, dump_settings
from srflow_training.validation import Validation

logger = logging.getLogger(__name__)

_MEND = "--resume with a lower schedule.learning_rate, or train the bounded variant"
_FREE_ON_RESUME = ("iterations", "learning_rate", "save_every", "log_every", "validate_every")
_MAX_SKIPPED = 20  # non-finite steps in a row after which a run stops


class DivergedError(SRFlowError):
    """The loss or its gradient was not finite many times in a row."""


class Trainer:
    """A run in a folder: `config.yaml`, `state.pt` (to resume), `model.safetensors` (to export), `log.csv`.

    Weights, crops and noise of iteration i follow from the seed and i, so a resumed run goes on as if never stopped.
    On resume the length, the learning rate and the *_every fields may differ from the run's.
    Raises: ArgumentError if the folder holds a run and resume is False, none and resume is True, or another run's.
    """

    def __init__(self, settings: RunSettings, *, data: Path, out: Path, val: Path | None, resume: bool) -> None:
        self.settings, self.schedule, self.out = settings, settings.schedule, out
        state_file = out / "state.pt"
        if state_file.exists() and not resume:
            raise ArgumentError(f"{out} holds a run: add --resume to go on with it, or name another --out")
        if resume and not state_file.exists():
            raise ArgumentError(f"{out} holds no saved state to resume from: leave --resume out to start there")
        torch.manual_seed(self.schedule.seed)
        self.model = settings.build()
        if self.schedule.encoder and not state_file.exists():
            self._start_encoder_from(Path(self.schedule.encoder))
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=self.schedule.learning_rate, betas=self.schedule.betas
        )
        self.crops = PhotoCrops(data, settings.crops)
        self.validation = Validation(val, scale=settings.crops.scale) if val is not None else None
        self.iteration = 0
        self.skipped = 0
        out.mkdir(parents=True, exist_ok=True)
        if state_file.exists():
            self._restore(state_file)
        write_atomically(out / "config.yaml", dump_settings(settings).encode())

    def run(self, report: Callable[[dict[str, float]], None] = lambda _: None) -> Path:
        """Train to the end; `report` gets figures every `log_every` iterations. Returns the checkpoint to export.

        Raises: DivergedError.
        """
        if isinstance(self.model, SRFlow) and self.iteration == 0:
            hr, lr = self._batch(0)
            self.model.initialize_actnorms(hr, lr)
        started, first = time.monotonic(), self.iteration
        losses: list[float] = []
        while self.iteration < self.schedule.iterations:
            losses.append(self._step())
            if self.iteration % self.schedule.log_every == 0 or self.iteration == self.schedule.iterations:
                rate = (self.iteration - first) / (time.monotonic() - started)
                figures = {
                    "iteration": self.iteration,
                    "loss": sum(losses) / len(losses),
                    "learning_rate": self.schedule.learning_rate_at(self.iteration - 1),
                    "iterations_per_second": rate,
                    "seconds_left": (self.schedule.iterations - self.iteration) / rate,
                }
                losses.clear()
                if self.validation is not None and self.iteration % self.schedule.validate_every == 0:
                    figures |= self.validation.figures(self.model)
                self._log(figures)
                report(figures)
            if self.iteration % self.schedule.save_every == 0 or self.iteration == self.schedule.iterations:
                self._save_state()
        return self.out / "model.safetensors"

    def _batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """hr (with dequantisation noise) and lr of this iteration."""
        hr, lr = self.crops.batch(iteration)
        if self.schedule.noise:
            generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + iteration)
            hr = hr + torch.randn(hr.shape, generator=generator) * (self.schedule.noise / 255)
        return tuple(x.contiguous(memory_format=torch.channels_last) for x in (hr, lr))  # type: ignore[return-value]

    def _step(self) -> float:
        """One update; a non-finite one is skipped. Returns the loss."""
        if isinstance(self.model, SRFlow):
            frozen = self.iteration < self.schedule.freeze_encoder * self.schedule.iterations
            self.model.encoder.requires_grad_(not frozen)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate_at(self.iteration)
        hr, lr = self._batch(self.iteration)
        loss = loss_of(self.model, hr, lr)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip_norm)
        if bool(torch.isfinite(loss)) and bool(torch.isfinite(norm)):
            self.optimiser.step()
            self.skipped = 0
        else:
            self.skipped += 1
            logger.warning("iteration %d: loss or gradient not finite, step skipped", self.iteration)
            if self.skipped >= _MAX_SKIPPED:
                raise DivergedError(
                    f"{self.skipped} steps in a row were not finite at iteration {self.iteration}: {_MEND}"
                )
        self.iteration += 1
        return float(loss.detach())

    def _start_encoder_from(self, path: Path) -> None:
        encoder = self.model.encoder if isinstance(self.model, SRFlow) else self.model
        source = load_encoder(path)
        if source.settings() != encoder.settings():
            raise CheckpointError(f"{path}: the encoder is {source.settings()}; this run needs {encoder.settings()}")
        encoder.load_state_dict(source.state_dict())

    def _save_state(self) -> None:
        """Write state and checkpoint. Raises: DivergedError, keeping the last ones, if weights are not finite."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise DivergedError(
                f"the weights are not finite at iteration {self.iteration}: the last good state is kept; {_MEND}"
            )
        buffer = io.BytesIO()
        torch.save(
            {
                "iteration": self.iteration,
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "settings": dump_settings(self.settings),
            },
            buffer,
        )
        write_atomically(self.out / "state.pt", buffer.getvalue())
        notes: dict[str, Any] = {"iterations": self.iteration, "settings": dump_settings(self.settings)}
        save_checkpoint(self.out / "model.safetensors", self.model, notes=notes)

    def _restore(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if _identity(state["settings"]) != _identity(dump_settings(self.settings)):
                raise ArgumentError(
                    f"{self.out} holds a run with other settings (see its config.yaml): on --resume only schedule's "
                    f"{', '.join(_FREE_ON_RESUME)} may change; else name another --out"
                )
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.iteration = int(state["iteration"])
        except ArgumentError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{path}: the run's state cannot be read ({error}): start again in another --out"
            ) from error

    def _log(self, figures: dict[str, float]) -> None:
        """Append to log.csv; validation columns are empty between validations."""
        path = self.out / "log.csv"
        columns = ["iteration", "loss", "learning_rate", "iterations_per_second", *Validation.COLUMNS]
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in figures.items()})


def _identity(settings: str) -> dict[str, Any]:
    """What must be the same when a run is resumed."""
    content: dict[str, Any] = yaml.safe_load(settings)
    schedule = {name: value for name, value in content["schedule"].items() if name not in _FREE_ON_RESUME}
    return {**content, "schedule": schedule}


def loss_of(model: SRFlow | RRDB, hr: Tensor, lr: Tensor) -> Tensor:
    """SRFlow: negative log-likelihood in bits per HR pixel and channel. RRDB: mean absolute error."""
    if isinstance(model, RRDB):
        error: Tensor = (model(lr) - hr).abs().mean()
        return error
    nats: Tensor = model(hr, lr)
    return -nats.mean() / (torch.log(torch.tensor(2.0)) * hr[0].numel())
