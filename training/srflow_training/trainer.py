"""The training loop: an SRFlow by maximum likelihood, or the encoder that it starts from by L1."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from srflow_apps.commands.signals import STOPPING, Interrupts, deferred_interrupts
from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError
from srflow_sdk.plain_text import command_line
from srflow_sdk.system.local_files import (
    remove_stale_parts,
    remove_stale_parts_in,
    write_atomically,
)
from srflow_training.checkpoints import (
    ENCODER_NOTE,
    SAMPLING_NOTES,
    load_encoder,
    load_with_notes,
    save_checkpoint,
)
from srflow_training.data import Batch, Crops, Photos, Report, loader, pairs_picture
from srflow_training.hardware import choose_precision, launch_fabric
from srflow_training.inputs import is_first_process
from srflow_training.model import Encoder, PlainEncoder, SRFlow
from srflow_training.model.config import UNUSED
from srflow_training.objective import PerceptualLoss, add_noise, lay_out, objective_of
from srflow_training.settings import RunSettings, dump_settings
from srflow_training.states import Best, Health, States, first_difference, without_paths
from srflow_training.validation import Validation

_logger = logging.getLogger(__name__)

_FREE_ON_RESUME = {
    "schedule": {
        "iterations",
        "learning_rate",
        "accumulate",
        "best",
        "keep",
        "save_every",
        "log_every",
        "validate_every",
    },
    "data": {"workers", "cache"},
}
_MAX_SKIPPED = 20  # non-finite steps in a row that stop a run
_SAFE_RATE = 2.5e-4  # half the published one: the most that is advised after a divergence
_ENCODER_ALONE = ("encoder", "growth", "blocks", "trunk_skip")
"""Fields that no tensor of the flow depends on."""


class DivergedError(SRFlowError):
    """The loss or its gradient was not finite for many steps in a row, or the weights were not."""


class Trainer:
    """A run in a folder.

    It has `config.yaml`, `states/` (to resume), `model.safetensors` (to export) and `tensorboard/`.
    Weights, crops and noise of iteration i depend only on the seed and i, so a resumed run
    continues as if it had never stopped: bit for bit on a CPU with `hardware.threads`. On resume
    only the hardware and the fields in `_FREE_ON_RESUME` may differ.

    notes: lines for the user about what was chosen for this machine.

    Raises:
        ArgumentError: if the folder holds a run and resume is False, no run and resume is True, or
            a run with other settings.
        DeviceError: if the hardware is missing.
        ImageError: if no photograph can be trained on.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        data: Path,
        out: Path,
        val: Path | None,
        resume: bool,
    ) -> None:
        self.settings = settings
        self.schedule = settings.schedule
        self.out = out
        self.folders = (data, val)
        self.states = States(out / "states", keep=self.schedule.keep)
        self._check_output_folder(resume=resume)
        self.best = Best(self.schedule.best, kind=settings.kind, validates=val is not None)
        config = settings.config()
        # before other processes start, and only in the first one, so that each problem is reported
        # once
        report = _logger.warning if is_first_process() else _logger.debug
        self.photos = Photos(data, settings.data, config.scale, report)
        self.validation = None
        if val is not None and is_first_process():
            self.validation = self._open_validation(val, report)
        if settings.objective.perceptual and is_first_process():
            PerceptualLoss(settings.objective)  # a wrong file is reported here
        self.fabric, loss_precision = launch_fabric(settings.hardware)
        settings, note = choose_precision(settings, self.fabric, resumed=out if resume else None)
        loss_precision.bf16 = settings.hardware.precision == "bf16"
        self.settings = settings
        self.crops = Crops(
            self.photos,
            settings.data,
            scale=config.scale,
            seed=self.schedule.seed,
            iterations=self.schedule.iterations,
            noise=settings.objective.needs_noise(settings.kind),
            rank=self.fabric.global_rank,
            ranks=self.fabric.world_size,
        )
        self.notes = [note] if note else []
        if kept := self.crops.decoder.folder:
            self.notes.insert(0, f"decoded photographs are kept in {kept}")
        self._build()
        self._to_device()
        if self.states.files():
            self._restore()
        if self.fabric.is_global_zero:
            remove_stale_parts(self.checkpoint, out / "config.yaml")
            remove_stale_parts_in(self.states.folder)
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / "config.yaml", dump_settings(settings).encode())

    def _check_output_folder(self, *, resume: bool) -> None:
        """Raises: ArgumentError."""
        if self.states.files() and not resume:
            raise ArgumentError(
                f"{self.out} holds a run: add --resume to continue it, or name another --out"
            )
        if resume and not self.states.files():
            raise ArgumentError(
                f"{self.out} holds no saved state to resume from: omit --resume to start a run "
                "there"
            )

    def _open_validation(self, folder: Path, report: Report) -> Validation:
        config = self.settings.config()
        data = self.settings.data
        return Validation(
            folder,
            scale=config.scale,
            multiple=config.scale * config.size_multiple,
            reduction=data.reduction,
            degradation=data.degradation,
            count=self.schedule.validate_crops,
            size=self.schedule.validate_size,
            report=report,
        )

    def _build(self) -> None:
        """Build the network from the seed and the files it starts from, and what trains it."""
        schedule = self.schedule
        torch.manual_seed(schedule.seed)
        self.model = self.settings.build()
        # what the network inherits: its encoder's file, and its bundle's default τ
        self.sampling: dict[str, Any] = {}
        if not self.states.files():
            notes = start_from_files(self.model, start=schedule.start, encoder=schedule.encoder)
            inherited = (ENCODER_NOTE, *SAMPLING_NOTES)
            self.sampling = {name: notes[name] for name in inherited if name in notes}
        if self.settings.objective.smoothed:
            self.sampling["smoothed"] = True
        self.model.train()
        self.average = None
        if schedule.ema:
            self.average = AveragedModel(self.model, multi_avg_fn=ramped_average(schedule.ema))
        self.optimiser = torch.optim.Adam(
            self.model.parameters(),
            lr=schedule.learning_rate,
            betas=schedule.betas,
            fused=True,
        )
        self.iteration = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        # of the L1 error in [0, 1], and of bits
        tolerance = 0.1 if isinstance(self.model, Encoder) else 1.0
        self.health = Health(tolerance=tolerance)

    @property
    def checkpoint(self) -> Path:
        """The file to export: the network with averaged weights."""
        return self.out / "model.safetensors"

    @property
    def trained(self) -> SRFlow | Encoder:
        """The network with averaged weights (the optimiser's own if schedule.ema is 0)."""
        if self.average is None or int(self.average.n_averaged) == 0:
            return self.model
        return self.average.module  # type: ignore[return-value]

    def run(self, report: Callable[[dict[str, float]], None] = lambda _: None) -> Path:
        """Train to the end. Returns the checkpoint to export.

        Ctrl-C, SIGTERM and SIGHUP take effect after the current step, and its state is saved.

        Args:
            report: gets figures every `log_every` iterations.

        Raises:
            DivergedError.
            KeyboardInterrupt.
        """
        with deferred_interrupts(*STOPPING) as interrupts, self._log() as log:
            meter = Meter(self._mean_of_ranks)
            workers = self.settings.data.workers
            for batch in loader(self.crops, start=self.iteration, workers=workers):
                meter.add(self.step(batch))
                figures = self._figures(meter)
                if figures:
                    log(figures, batch)
                    report(figures)
                if self._is_due(self.schedule.save_every):
                    self._save()
                if figures:
                    meter.restart()  # leaves out the time of validating, drawing and saving
                if self._on_any_rank(interrupts):
                    self._save()
                    raise KeyboardInterrupt(interrupts.number or signal.SIGINT)
        if self.fabric.broadcast(not self.health.judge()):
            raise self._divergence("the loss or the validation had collapsed")
        if self.fabric.is_global_zero:
            # again: a run killed before it wrote this has only the state
            self._write_checkpoint(self.checkpoint)
        return self.checkpoint

    def _is_due(self, every: int) -> bool:
        return self.iteration % every == 0 or self.iteration == self.schedule.iterations

    def _on_any_rank(self, interrupts: Interrupts) -> bool:
        """True if any process was asked to stop, so that all stop after the same step."""
        pressed = interrupts.number is not None
        if self.fabric.world_size == 1:
            return pressed
        share = torch.tensor(float(pressed), device=self.fabric.device)
        return bool(self._mean_of_ranks(share) > 0)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Do one update, or skip it if not finite.

        Returns the terms of the loss and the gradient's norm.
        """
        hr, lr, noise, teacher = (
            images.to(self.fabric.device, memory_format=torch.channels_last, non_blocking=True)
            for images in (batch.hr, batch.lr, batch.noise, batch.teacher)
        )
        if self.iteration == 0 and isinstance(self.model, SRFlow) and not self.schedule.start:
            self.model.initialize_actnorms(
                add_noise(hr, noise, self.settings.objective),
                lr,
                self._mean_of_ranks,
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate_at(self.iteration)
        if isinstance(self.model, SRFlow):
            frozen = self.iteration < self.schedule.freeze_encoder * self.schedule.iterations
            self.model.encoder.requires_grad_(not frozen)
        self.optimiser.zero_grad(set_to_none=True)
        terms = self._gradients(hr, lr, noise, *([teacher] if teacher.numel() else []))
        norm = self.fabric.clip_gradients(
            self.objective,
            self.optimiser,
            max_norm=self.schedule.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        assert norm is not None  # for the type checker: with max_norm there is one
        likelihood = terms.get("nll", terms["loss"])  # other terms come and go
        self.health.add_step(likelihood, norm.detach())
        if torch.isfinite(norm):  # the same on all ranks, unlike the loss
            self.optimiser.step()
            self.skipped_in_a_row = 0
            if self.average is not None:
                self.average.update_parameters(self.model)
        else:
            self._skip()
        self.iteration += 1
        return {**terms, "gradient_norm": norm.detach()}

    def _gradients(self, *batch: Tensor) -> dict[str, Tensor]:
        """Compute the gradients of this rank's crops, in as many parts as the settings say.

        Return their mean terms.
        """
        size = len(batch[0])
        count = min(self.schedule.accumulate, size)
        parts = list(zip(*(images.tensor_split(count) for images in batch), strict=True))
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            share = len(part[0]) / size
            # the ranks' gradients are averaged once, after the last part
            is_last = number == len(parts)
            with nullcontext() if is_last else self.fabric.no_backward_sync(self.objective):
                with_l1 = self.settings.objective.has_l1_at(self.iteration)
                terms: dict[str, Tensor] = self.objective(*part, with_l1=with_l1)
                self.fabric.backward(terms["loss"] * share)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() * share
        return sums

    def _skip(self) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.fabric.is_global_zero:
            _logger.warning(
                "iteration %d: loss or gradient not finite, step skipped", self.iteration
            )
        if self.skipped_in_a_row >= _MAX_SKIPPED:
            raise self._divergence(f"{self.skipped_in_a_row} steps in a row were not finite")

    def _divergence(self, what: str) -> DivergedError:
        """An error with the command that continues from the newest state, which is healthy."""
        newest = self.states.newest()
        begin = ["--resume"]
        fix = f"continue from iteration {newest}, the last healthy state,"
        if newest is None:
            begin = ["--config", str(self.out / "config.yaml")]
            fix = "begin again"
        data, val = self.folders
        rate = f"schedule.learning_rate={min(self.schedule.learning_rate / 4, _SAFE_RATE):.3g}"
        options = [*begin, "--data", str(data)]
        if val:
            options += ["--val", str(val)]
        options += ["--out", str(self.out), "--set", rate]
        command = command_line(["srflow-train", *options])
        return DivergedError(
            f"{what} at iteration {self.iteration}: {fix} at a lower rate: {command}"
        )

    def _to_device(self) -> None:
        """Move average, optimiser, and the network inside its objective to the device."""
        self.objective, self.optimiser = self.fabric.setup(
            objective_of(self.model, self.settings), self.optimiser
        )
        if self.average is not None:
            self.average.to(self.fabric.device)
            lay_out(self.average)  # two layouts cost ten times the time of their average
            self.average.n_averaged = self.average.n_averaged.cpu()  # read in every step

    def _mean_of_ranks(self, statistic: Tensor) -> Tensor:
        return cast("Tensor", self.fabric.all_reduce(statistic, reduce_op="mean"))

    def _save(self) -> None:
        """Write state and checkpoint, if the run is healthy.

        Raises: DivergedError if weights are not finite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._divergence("the weights were not finite")
        if not self.fabric.is_global_zero:
            return
        if self.health.judge():
            state = {
                "iteration": self.iteration,
                "skipped": (self.skipped, self.skipped_in_a_row),
                "model": self.model.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "settings": dump_settings(self.settings),
                "health": self.health.state(),
                "best": {self.best.metric: self.best.value},
                "sampling": self.sampling,
            }
            self.states.save(self.iteration, state)
            self._write_checkpoint(self.checkpoint)
        else:
            _logger.warning(
                "iteration %d: the run may be diverging, so its state is not saved", self.iteration
            )

    def _write_checkpoint(self, path: Path) -> None:
        notes = {
            "iterations": self.iteration,
            "reduction": self.settings.data.reduction,
            "removes_damage": self.settings.data.degradation is not None,
            **self.sampling,
            "settings": dump_settings(without_paths(self.settings)),
        }
        save_checkpoint(path, self.trained, notes=notes)

    def _restore(self) -> None:
        state = self.states.load_newest()
        try:
            saved = RunSettings.from_dict(yaml.safe_load(state["settings"]))
            if different := first_difference(saved, self.settings, _FREE_ON_RESUME):
                free = [
                    f"{section}.{name}"
                    for section, names in _FREE_ON_RESUME.items()
                    for name in sorted(names)
                ]
                raise ArgumentError(
                    f"{self.out} holds a run with another {different}: on --resume only hardware, "
                    f"{', '.join(free)} may change; otherwise name another --out"
                )
            if int(state["iteration"]) > self.schedule.iterations:
                raise ArgumentError(
                    f"schedule.iterations is {self.schedule.iterations}, but {self.out} has done "
                    f"{state['iteration']} already: name another --out to train a shorter run"
                )
            self.model.load_state_dict(state["model"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.iteration = int(state["iteration"])
            # a resumed run may skip as many steps in a row as a new one
            self.skipped = state["skipped"][0]
            self.best.value = state.get("best", {}).get(self.best.metric, self.best.value)
            self.sampling = state.get("sampling", {})
            self.health.load(state["health"])
        except ArgumentError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{self.states.files()[-1]}: is not a state of this version ({error}): start again "
                "in another --out"
            ) from error

    def _figures(self, meter: Meter) -> dict[str, float]:
        """The figures to log after this step, with validation if due; usually none."""
        validates = self._is_due(self.schedule.validate_every)
        if not validates and not self._is_due(self.schedule.log_every):
            return {}
        figures = {
            "iteration": float(self.iteration),
            "learning_rate": self.schedule.learning_rate_at(self.iteration - 1),
            "skipped_steps": float(self.skipped),
            **meter.read(left=self.schedule.iterations - self.iteration),
        }
        if validates and self.validation is not None:
            figures |= self.validation.figures(self.trained)
            self.health.add_validation(figures)
            if self.best.improves(figures):
                self._write_checkpoint(self.out / "best.safetensors")
        return figures

    @contextmanager
    def _log(self) -> Iterator[Callable[[dict[str, float], Batch], None]]:
        """Yield a function that writes figures to TensorBoard.

        It draws the picture grid if they include a validation. Its first call also draws the batch:
        what the network trains on.
        """
        if not self.fabric.is_global_zero:
            yield lambda figures, batch: None
            return
        drawn = False
        # replaces what a killed run logged after its last state
        with SummaryWriter(str(self.out / "tensorboard"), purge_step=self.iteration + 1) as writer:

            def write(figures: dict[str, float], batch: Batch) -> None:
                nonlocal drawn
                for name, value in figures.items():
                    if name not in ("iteration", "seconds_left"):
                        tag = name if "/" in name else f"training/{name}"
                        writer.add_scalar(tag, value, self.iteration)
                validated = any(name.startswith("validation/") for name in figures)
                if self.validation is not None and validated:
                    grid = self.validation.grid(self.trained)
                    writer.add_image("validation/pictures", grid, self.iteration)
                if not drawn:
                    writer.add_image("training/crops", pairs_picture(batch), self.iteration)
                    drawn = True
                writer.flush()

            yield write


class Meter:
    """Means of the loss terms over all processes, and the speed, since the last restart."""

    def __init__(self, mean_of_ranks: Callable[[Tensor], Tensor]) -> None:
        self.mean_of_ranks = mean_of_ranks
        self.restart()

    def restart(self) -> None:
        """Forget all steps so far."""
        self.started = time.monotonic()
        self.steps = 0
        self.terms: dict[str, list[Tensor]] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Note the terms of a step, of which some steps have fewer."""
        self.steps += 1
        for name, term in terms.items():
            self.terms.setdefault(name, []).append(term)

    def read(self, *, left: int) -> dict[str, float]:
        """Means of the terms over the steps that have them, speed, and time for `left` steps."""
        means = {}
        for name, values in self.terms.items():
            means[name] = float(self.mean_of_ranks(torch.stack(values).mean()))
        rate = self.steps / (time.monotonic() - self.started)
        return {**means, "iterations_per_second": rate, "seconds_left": left / rate}


def start_from_files(model: SRFlow | Encoder, *, start: str, encoder: str) -> dict[str, Any]:
    """Copy the weights that a run begins with.

    Returns the notes of `start`, and where the encoder comes from.

    Args:
        start: a file of the same kind of network, or "".
        encoder: a file of an LR encoder, which replaces the former's, or "".

    Raises:
        CheckpointError: if a file does not fit.
    """
    notes: dict[str, Any] = {ENCODER_NOTE: ""}
    if start:
        source, notes = load_with_notes(start)
        if isinstance(source, Encoder) != isinstance(model, Encoder):
            raise CheckpointError(f"{start}: holds another kind of network than this run trains")
        copy_weights(
            source,
            model,
            start,
            encoder=isinstance(model, Encoder) or not encoder,
        )
    if encoder:
        source = load_encoder(encoder)
        if (
            isinstance(model, SRFlow)
            and model.config.residual
            and source.image_base != model.config.image_base
        ):
            raise CheckpointError(
                f"{encoder}: its image has the base {source.image_base!r}, and a residual flow "
                f"needs that of this run, {model.config.image_base!r}: train the encoder on from "
                "it (schedule.start) with that image_base"
            )
        copy_weights(source, _encoder_of(model), encoder)
        notes[ENCODER_NOTE] = Path(encoder).name
    return notes


def copy_weights(
    source: SRFlow | Encoder,
    target: SRFlow | Encoder,
    path: str,
    *,
    encoder: bool = True,
) -> None:
    """Copy the weights of a file's network.

    Args:
        encoder: the LR encoder's too. Without, an SRFlow may have another one that gives its flow
            as many features.

    Raises:
        CheckpointError: naming the fields that differ.
    """
    theirs = _shape_of(source)
    ours = _shape_of(target)
    given = _encoder_of(source)
    if isinstance(given, PlainEncoder) and not given.composed():
        given.compose()
    state = source.state_dict()
    if not encoder:
        theirs |= {name: ours[name] for name in _ENCODER_ALONE}
        if len(theirs["stacked_blocks"]) == len(ours["stacked_blocks"]):
            theirs["stacked_blocks"] = ours["stacked_blocks"]
        own = {name: values for name, values in state.items() if not name.startswith("encoder.")}
        for name, values in target.state_dict().items():
            if name.startswith("encoder."):
                own[name] = values
        state = own
    different = [name for name in ours if theirs.get(name) != ours[name]]
    if different:
        fix = " ".join(f"--set network.{name}={_as_yaml(theirs.get(name))}" for name in different)
        raise CheckpointError(
            f"{path}: does not fit this run's network: use another file, or {fix}"
        )
    target.load_state_dict(state)


def _encoder_of(model: SRFlow | Encoder) -> Encoder:
    return model if isinstance(model, Encoder) else model.encoder


def _shape_of(model: SRFlow | Encoder) -> dict[str, Any]:
    """The fields that must match to copy weights: all that change a tensor's size or meaning."""
    if isinstance(model, Encoder):
        shape = {**UNUSED, **model.settings(), "encoder": model.kind}
    else:
        shape = {**UNUSED, **model.config.to_dict()}
    free = ["clamp", "split_clamp"]
    if not shape["residual"]:
        free.append("image_base")
    return {name: value for name, value in shape.items() if name not in free}


def _as_yaml(value: Any) -> str:
    text = str(yaml.safe_dump(value, default_flow_style=True))
    return text.removesuffix("...\n").strip().replace(" ", "")


def ramped_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Moving average whose decay rises to `decay`: the initial weights are soon forgotten."""

    @torch.no_grad()
    def update(average: Any, current: Any, count: Tensor | int) -> None:
        rising = (1 + int(count)) / (10 + int(count))
        torch._foreach_lerp_(average, current, 1 - min(decay, rising))

    return update
