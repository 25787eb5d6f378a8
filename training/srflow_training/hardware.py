"""The hardware of a run: its processes and their memory, the precision of its steps, and its CPU threads."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import statistics
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.utils.flop_counter import FlopCounterMode

from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_training.objective import memory_format, objective_of
from srflow_training.presets import load_settings
from srflow_training.settings import Hardware, RunSettings

_logger = logging.getLogger(__name__)

_WORTH_ROUNDING = 0.95  # bf16 must take at most this share of fp32's time
_CROP, _OPERATIONS = 64, 25e9  # side of a crop on a CPU, and a step's work: less would time the overhead
_SECONDS, _FEWEST_PAIRS, _MOST_PAIRS = 3.0, 2, 7

StepPrecision = Literal["fp32", "bf16"]

# of <malloc.h>; both at the most that glibc takes
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 2**31 - 1), (-3, 32 << 20)


class LossPrecision(MixedPrecision):
    """Precision inside the loss: float32, or bfloat16 once `bf16` is set, which may be after the processes started.

    Fabric's own mixed precision also rounds HR and its noise, to steps of 1/256.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)
        self.bf16 = False

    def forward_context(self) -> AbstractContextManager[None]:
        """Automatic mixed precision, if it is in use."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16)

    def convert_input(self, data: Any) -> Any:
        """Leave the loss's inputs in float32."""
        return data


def launched(hardware: Hardware) -> tuple[Fabric, LossPrecision]:
    """Launch Fabric and its other processes, unless torchrun or Slurm started them. Raises: DeviceError.

    Returns Fabric and the precision that it computes the loss in, float32 so far.
    """
    ranks = hardware.devices * hardware.nodes
    started = int(os.environ.get("WORLD_SIZE", ranks))
    if started != ranks:
        raise DeviceError(
            f"hardware: {started} processes were started for {hardware.nodes} nodes of {hardware.devices} devices: "
            "set hardware.devices and hardware.nodes to the values given to torchrun"
        )
    keep_freed_memory()
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    accelerator = hardware.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    precision = LossPrecision(accelerator)
    # its new name is not known to all versions of PyTorch
    warnings.filterwarnings("ignore", message=".*broadcast_buffers")
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            # a flow's loss does not use the encoder's image head, nor train a frozen encoder
            strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False) if ranks > 1 else "auto",
            plugins=precision,
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's errors for missing hardware
        raise DeviceError(f"hardware: {' '.join(str(error).split())}: choose another accelerator or devices") from error
    torch.backends.cudnn.allow_tf32 = False  # the flow's inverse needs full float32 precision
    return fabric, precision


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, up to 32 MB each, also in processes that are forked later.

    Otherwise it returns most of it to the system, and every step waits for the same pages to be mapped and cleared.
    Does nothing with another C library.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(*_TRIM_THRESHOLD)
        libc.mallopt(*_MMAP_THRESHOLD)


class StepTimes(NamedTuple):
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
            times = time_steps(settings, fabric.device)
            chosen = times.precision
            note = f"precision: {chosen} (timed on a small crop: {times})"
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
        return StepTimes(*(statistics.median(times) for times in zip(*pairs, strict=True)))
    finally:
        torch.set_num_threads(threads)


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


_HOPELESS = 2.0  # a step this many times the fastest is not repeated
_SLOWER = 1.5  # if the recent steps' median is this many times the expected, all is timed again
_RECENT = 8
_AGAIN_STEPS, _AGAIN_S = 200, 300.0  # so it is after both, then after twice as long: a program may have ended
_CLEARLY = 0.9  # another number must take less than this share of the time


class Pace:
    """Times the steps of a run. On a CPU it also changes the number of threads between them.

    As a context it leaves the number of threads as it was.

    Several threads wait for each other. Where another program holds one of the cores, that makes a step up to ten times
    as slow as with one thread alone. Nothing is computed for the timing: all steps train.

    counts: the numbers of threads to choose from; empty: they stay as they are.
    say: gets an estimate after the second step, and a line whenever the number changes.
    clock: seconds, from any start.
    """

    def __init__(
        self, counts: list[int], say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts, self._say, self._clock = counts or [0], say, clock
        self._chosen: int | None = None
        self._steps, self._again_s = 0, _AGAIN_S
        self._before = torch.get_num_threads()
        self._begin()

    def __enter__(self) -> Pace:
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)

    @classmethod
    def of(cls, fabric: Fabric, threads: int, say: Callable[[str], None]) -> Pace:
        """The pace of one process. threads: as the user set them; 0 leaves the choice, unless processes wait."""
        free = threads == 0 and fabric.device.type == "cpu" and fabric.world_size == 1
        most = torch.get_num_threads()
        return cls(sorted({1, -(-most // 2), most}) if free else [], say)

    @contextmanager
    def timed(self, left: int) -> Iterator[None]:
        """Time a step. left: how many there are after it."""
        count = self._trials[0] if self._trials else self._chosen or 0
        if count:
            torch.set_num_threads(count)
        started = self._clock()
        yield
        seconds, self._steps = self._clock() - started, self._steps + 1
        if self._steps == 2 and left:  # the first step chooses kernels
            threads = " with 1 thread" if count == 1 else ""
            self._say(f"the other {left:,} iterations take about {_hours(left * seconds)}{threads}")
        if self._steps > 1 and self._trials:
            self._add(seconds, left)
        elif self._steps > 1:
            self._watch(seconds)

    def _begin(self) -> None:
        self._trials = deque(self._counts)
        self._times: dict[int, list[float]] = {}
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def _add(self, seconds: float, left: int) -> None:
        """Note a trial; after each number's first one, repeat those that are not hopeless; then choose."""
        self._times.setdefault(self._trials.popleft(), []).append(seconds)
        if not self._trials and all(len(times) == 1 for times in self._times.values()):
            best = min(times[0] for times in self._times.values())
            self._trials.extend(count for count, times in self._times.items() if times[0] < _HOPELESS * best)
        if self._trials:
            return
        steps = {count: statistics.mean(times) for count, times in self._times.items()}
        before, best_count = self._chosen, min(steps, key=lambda count: steps[count])
        if before is None or steps[best_count] <= _CLEARLY * steps.get(before, math.inf):
            self._chosen = best_count
        assert self._chosen is not None  # for the type checker
        self._again_s = 2 * self._again_s if self._chosen == before else _AGAIN_S
        self._expected, self._since, self._chosen_at = steps[self._chosen], 0, self._clock()
        if self._chosen != before and self._chosen and left:
            timed = ", ".join(f"{seconds:.3g} s with {count}" for count, seconds in steps.items())
            took = _hours(left * self._expected)
            self._say(f"threads: {self._chosen} (a step takes {timed}); the other iterations take about {took}")

    def _watch(self, seconds: float) -> None:
        self._recent.append(seconds)
        self._since += 1
        slower = len(self._recent) == _RECENT and statistics.median(self._recent) > _SLOWER * self._expected
        if slower or (self._since >= _AGAIN_STEPS and self._clock() - self._chosen_at >= self._again_s):
            self._begin()


def _hours(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
