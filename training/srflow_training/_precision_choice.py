"""Choose a run's precision by timing this network's steps in fp32 and in bf16 on this processor, once."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import write_atomically
from srflow_training._objective import memory_format, objective_of
from srflow_training.processors import processor_name
from srflow_training.settings import RunSettings, load_settings

_logger = logging.getLogger(__name__)

_WORTH_ROUNDING = 0.95  # bf16 must take at most this share of fp32's time
_CROP, _OPERATIONS = 64, 25e9  # side of a crop on a CPU, and a step's work: less would time the overhead
_SECONDS, _FEWEST_PAIRS, _MOST_PAIRS = 3.0, 2, 7

StepPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class StepTimes:
    """Seconds for the loss and its gradient on a small crop; bf16: None if this device cannot compute in it."""

    fp32: float
    bf16: float | None

    @property
    def precision(self) -> StepPrecision:
        """The precision to train in."""
        return "bf16" if self.bf16 is not None and self.bf16 <= _WORTH_ROUNDING * self.fp32 else "fp32"

    def __str__(self) -> str:
        """Show both times."""
        return f"fp32 {self.fp32:.3g} s, bf16 {'not possible' if self.bf16 is None else f'{self.bf16:.3g} s'}"


def choose_precision(settings: RunSettings, device: torch.device) -> tuple[StepPrecision, str]:
    """The faster precision for this network on this processor, and one line for the user.

    It is timed once and kept in the user's cache folder.
    """
    processor = processor_name(device)
    folder = cache_folder("precision")
    identity = json.dumps(
        [processor, torch.__version__, settings.kind, settings.config().to_dict(), _decoded(settings)]
    )
    file = folder and folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    times = _kept(file)
    remembered = times is not None
    if times is None:
        times = time_steps(settings, device)
        _keep(file, times)
    how = "timed before" if remembered else "timed on a small crop"
    return times.precision, f"precision: {times.precision} ({how}, a step on {processor}: {times})"


def _decoded(settings: RunSettings) -> list[str]:
    """The terms that a step computes beyond the likelihood."""
    objective = settings.objective
    kinds = {"mean": objective.decodings.mean, "sample": objective.decodings.sample}
    kinds[objective.perceptual_loss] = objective.perceptual > 0
    return [kind for kind, computed in kinds.items() if computed]


def with_precision(settings: RunSettings, fabric: Fabric, *, resumed: Path | None) -> tuple[RunSettings, str]:
    """Settings with precision fp32 or bf16 instead of auto, equal in all processes, and a line for the user or "".

    resumed: folder of the run that goes on, whose precision is kept; None: a new run.
    """
    if settings.hardware.precision != "auto":
        return settings, ""
    chosen, note = "fp32", ""
    if fabric.is_global_zero:
        kept = precision_of_run(resumed) if resumed else None
        if kept:
            chosen, note = kept, f"precision: {kept} (as in the run so far)"
        else:
            chosen, note = choose_precision(settings, fabric.device)
    hardware = settings.hardware.model_copy(update={"precision": fabric.broadcast(chosen)})
    return settings.model_copy(update={"hardware": hardware}), note


def precision_of_run(out: Path) -> StepPrecision | None:
    """The precision in a run's config.yaml; None if it does not say."""
    try:
        precision = load_settings(str(out / "config.yaml")).hardware.precision
    except ArgumentError:
        return None
    return None if precision == "auto" else precision


def time_steps(settings: RunSettings, device: torch.device) -> StepTimes:
    """Time the loss and its gradient in both precisions on random numbers: medians of alternating steps.

    On a CPU it is the processor's time with one thread, because other programs that run can make the wall time of
    several threads, which wait for each other, ten times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _median_times(settings, device)
    finally:
        torch.set_num_threads(threads)


def _median_times(settings: RunSettings, device: torch.device) -> StepTimes:
    step = _TimedStep(settings, device)
    step.seconds("fp32")  # the first step chooses kernels
    try:
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise NotImplementedError("this GPU has no bfloat16")
        step.seconds("bf16")
    except (RuntimeError, NotImplementedError) as error:
        _logger.debug("no bfloat16: %s", error)
        return StepTimes(statistics.median(step.seconds("fp32") for _ in range(_FEWEST_PAIRS)), None)
    pairs: list[tuple[float, float]] = []
    started = time.monotonic()
    while len(pairs) < _FEWEST_PAIRS or (len(pairs) < _MOST_PAIRS and time.monotonic() - started < _SECONDS):
        pairs.append((step.seconds("fp32"), step.seconds("bf16")))
    fp32, bf16 = (statistics.median(times) for times in zip(*pairs, strict=True))
    return StepTimes(fp32, bf16)


class _TimedStep:
    """A fresh network with the run's settings, and a batch of random numbers."""

    def __init__(self, settings: RunSettings, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            model = settings.build().to(device)
            scale, multiple = settings.config().scale, settings.crop_multiple
            batch = max(1, settings.data.batch // settings.ranks)
            crop = settings.data.crop if device.type == "cuda" else min(_CROP, settings.data.crop)
            side = max(multiple, crop // multiple * multiple)
            hr = torch.rand(batch, 3, side, side)
            lr, noise = torch.rand(batch, 3, side // scale, side // scale), torch.randn_like(hr)
            noise_share = torch.rand(batch)
        self.device, self.objective = device, objective_of(model, settings)
        layout = memory_format(settings.hardware)
        self.images = [image.to(device, memory_format=layout) for image in (hr, lr, noise)]
        self.images.append(noise_share.to(device))
        self.decodings = settings.objective.decodings  # all, as in the run's most expensive iterations
        if device.type == "cpu":
            whole, self.images = self.images, [image[:1] for image in self.images]
            with FlopCounterMode(display=False) as counter:
                self.seconds("fp32")
            fitting = max(1, round(_OPERATIONS / max(1, counter.get_total_flops())))
            self.images = [image[:fitting] for image in whole]

    def seconds(self, precision: StepPrecision) -> float:
        """Time the loss and its gradient, once."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        self._wait()
        started = clock()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            terms = self.objective(*self.images, decodings=self.decodings)
        terms["loss"].backward()
        self._wait()
        self.objective.zero_grad(set_to_none=True)
        return clock() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _kept(file: Path | None) -> StepTimes | None:
    """The times in a file; None if it is missing or damaged."""
    if file is None:
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        bf16 = values["bf16"]
        return StepTimes(float(values["fp32"]), None if bf16 is None else float(bf16))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(file: Path | None, times: StepTimes) -> None:
    if file is None:
        return
    try:
        write_atomically(file, json.dumps(asdict(times)).encode())
    except OSError as error:
        _logger.warning("%s: the precision that was timed is not kept: %s", file, error.strerror or error)
