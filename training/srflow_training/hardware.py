"""The hardware of a run: its processes and their memory, and the precision of its steps."""

from __future__ import annotations

import ctypes
import logging
import os
import statistics
import sys
import time
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.utils.flop_counter import FlopCounterMode

from srflow_sdk.errors import DeviceError
from srflow_training.objective import objective_of
from srflow_training.presets import load_settings
from srflow_training.settings import Hardware, RunSettings

_logger = logging.getLogger(__name__)

_WORTH_ROUNDING = 0.95  # bf16 must take at most this share of fp32's time
# side of a crop on a CPU, and a step's work: less would time the overhead
_CROP = 64
_OPERATIONS = 25e9
_PAIRS = 3

StepPrecision = Literal["fp32", "bf16"]

# of <malloc.h>; both at the most that glibc takes
_TRIM_THRESHOLD = (-1, 2**31 - 1)
_MMAP_THRESHOLD = (-3, 32 << 20)


class LossPrecision(MixedPrecision):
    """Precision inside the loss: float32, or bfloat16 once `bf16` is set.

    It may be set after the processes started. Fabric's own mixed precision also rounds HR and its
    noise, to steps of 1/256.
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


def launch_fabric(hardware: Hardware) -> tuple[Fabric, LossPrecision]:
    """Launch Fabric and its other processes, unless torchrun or Slurm started them.

    Returns Fabric and the precision that it computes the loss in, float32 so far.

    Raises:
        DeviceError.
    """
    ranks = hardware.devices * hardware.nodes
    started = int(os.environ.get("WORLD_SIZE", ranks))
    if started != ranks:
        raise DeviceError(
            f"hardware: {started} processes were started for {hardware.nodes} nodes of "
            f"{hardware.devices} devices: set hardware.devices and hardware.nodes to the values "
            "given to torchrun"
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
    strategy: DDPStrategy | Literal["auto"] = "auto"
    if ranks > 1:
        # a flow's loss does not use the encoder's image head, nor train a frozen encoder
        strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy=strategy,
            plugins=precision,
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's errors for missing hardware
        raise DeviceError(
            f"hardware: {' '.join(str(error).split())}: choose another accelerator or devices"
        ) from error
    torch.backends.cudnn.allow_tf32 = False  # the flow's inverse needs full float32 precision
    return fabric, precision


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors, up to 32 MB each.

    Processes that are forked later do so, too. Otherwise it returns most of it to the system, and
    every step waits for the same pages to be mapped and cleared. Does nothing with another C
    library.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(*_TRIM_THRESHOLD)
        libc.mallopt(*_MMAP_THRESHOLD)


class StepTimes(NamedTuple):
    """Seconds for the loss and its gradient on a small crop.

    Attributes:
        fp32: in float32.
        bf16: in bfloat16; None if this device cannot compute in it.
    """

    fp32: float
    bf16: float | None

    @property
    def precision(self) -> StepPrecision:
        """The precision to train in."""
        if self.bf16 is None or self.bf16 > _WORTH_ROUNDING * self.fp32:
            return "fp32"
        return "bf16"

    def __str__(self) -> str:
        """Show both times."""
        bf16 = "not possible" if self.bf16 is None else f"{self.bf16:.3g} s"
        return f"fp32 {self.fp32:.3g} s, bf16 {bf16}"


def choose_precision(
    settings: RunSettings,
    fabric: Fabric,
    *,
    resumed: Path | None,
) -> tuple[RunSettings, str]:
    """Settings with precision fp32 or bf16 instead of auto, and a line for the user or "".

    They are equal in all processes.

    Args:
        resumed: folder of the run that goes on, whose precision is kept; None: a new run.
    """
    if settings.hardware.precision != "auto":
        return settings, ""
    chosen = "fp32"
    note = ""
    if fabric.is_global_zero:
        saved = resumed / "config.yaml" if resumed else None
        kept = "auto"
        if saved and saved.is_file():
            kept = load_settings(str(saved)).hardware.precision
        if kept != "auto":
            chosen = kept
            note = f"precision: {kept} (as in the run so far)"
        else:
            times = time_steps(settings, fabric.device)
            chosen = times.precision
            note = f"precision: {chosen} (timed on a small crop: {times})"
    hardware = settings.hardware.model_copy(update={"precision": fabric.broadcast(chosen)})
    return settings.model_copy(update={"hardware": hardware}), note


def time_steps(settings: RunSettings, device: torch.device) -> StepTimes:
    """Time the loss and its gradient in both precisions on random numbers.

    The times are medians of alternating steps. On a CPU it is the processor's time with one thread,
    because other programs that run can make the wall time of several threads, which wait for each
    other, ten times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step = _TimedStep(settings, device)
        step.seconds("fp32")  # the first step chooses kernels
        try:
            is_cuda = device.type == "cuda"
            if is_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
                raise NotImplementedError("this GPU has no bfloat16")
            step.seconds("bf16")
        except RuntimeError as error:
            _logger.debug("no bfloat16: %s", error)
            return StepTimes(step.seconds("fp32"), None)
        fp32 = []
        bf16 = []
        for _ in range(_PAIRS):
            fp32.append(step.seconds("fp32"))
            bf16.append(step.seconds("bf16"))
        return StepTimes(statistics.median(fp32), statistics.median(bf16))
    finally:
        torch.set_num_threads(threads)


class _TimedStep:
    """A fresh network with the run's settings, and a batch of random numbers."""

    def __init__(self, settings: RunSettings, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            model = settings.build().to(device)
            scale = settings.config().scale
            multiple = settings.crop_multiple
            batch = max(1, settings.data.batch // settings.ranks)
            batch = -(-batch // min(settings.schedule.accumulate, batch))  # as the trainer cuts it
            crop = settings.data.crop if device.type == "cuda" else min(_CROP, settings.data.crop)
            side = max(multiple, crop // multiple * multiple)
            hr = torch.rand(batch, 3, side, side)
            lr = torch.rand(batch, 3, side // scale, side // scale)
            noise = torch.randn_like(hr)
        self.device = device
        self.objective = objective_of(model, settings)
        self.images = [
            image.to(device, memory_format=torch.channels_last) for image in (hr, lr, noise)
        ]
        self.with_l1 = settings.objective.l1 > 0  # as in the run's most expensive iterations
        if device.type == "cpu":
            whole = self.images
            self.images = [image[:1] for image in self.images]
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
            terms = self.objective(*self.images, with_l1=self.with_l1)
        terms["loss"].backward()
        self._wait()
        self.objective.zero_grad(set_to_none=True)
        return clock() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
