"""Iterations per second and peak memory of the trainer, with each of its choices on and off.

    python benchmarks/training.py                                  # every preset as it is, then x4-small's choices
    python benchmarks/training.py --preset x4-general --batch 12   # one preset, at the publication's batch
    python benchmarks/training.py --published                      # the full-size x4 network against the authors' step

A choice and the unchanged trainer are timed in one process, alternating step by step, and the ratio is the median of
the pairs. Peak memory is measured in a separate process (on a GPU: its allocations). Without `--batch`, crops per
iteration are the preset's on a GPU, and at most 2 on a CPU, where the large presets take minutes per step.

`--published` alternates the authors' step (`published_network.py`) with ours on the same batch. Times are the
processor's, which other programs disturb least, with --threads threads; on a GPU they are wall time.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from published_network import PublishedStep
from torch import Tensor
from torch.nn import functional as F

from srflow_training.model import SRFlow
from srflow_training.model.features import LevelFeatures
from srflow_training.processors import processor_name
from srflow_training.settings import load_settings, preset_names
from srflow_training.trainer import Trainer


def convolve_enlarged(features: LevelFeatures, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve u itself, with all that nearest interpolation repeats (nothing in networks with `condition`)."""
    return F.conv2d(features.u(), weight, bias, padding=weight.shape[-1] // 2)


PERCEPTUAL = ["objective.perceptual=1", "objective.perceptual_every=2"]

# what differs from the unchanged trainer: settings, or a method
CHOICES: dict[str, tuple[list[str], Callable[[], AbstractContextManager[object]]]] = {
    "as it is": ([], nullcontext),  # in fp32
    "enlarged features convolved": ([], lambda: mock.patch.object(LevelFeatures, "conv", convolve_enlarged)),
    "encoder never frozen": (["schedule.freeze_encoder=0"], nullcontext),
    "channels_last off": (["hardware.channels_last=false"], nullcontext),
    "no L1 at tau 0": (["objective.l1=0"], nullcontext),
    "L1 at tau 0 in every step": (["objective.l1=1", "objective.l1_every=1"], nullcontext),
    "LR consistency of what is decoded": (["objective.lr_consistency=1"], nullcontext),
    **{
        f"{kind}, every 2nd step": ([f"objective.perceptual_loss={kind}", *PERCEPTUAL], nullcontext)
        for kind in ("gmsd", "haarpsi", "ms_ssim", "vgg16")
    },
    "gmsd in every step": (["objective.perceptual=1", "objective.perceptual_every=1"], nullcontext),
    "two parts": (["schedule.accumulate=2"], nullcontext),
    "bf16": (["hardware.precision=bf16"], nullcontext),
    "torch.compile": (["hardware.compile=true"], nullcontext),
}


def random_vgg16(file: Path) -> Path:
    """Write VGG16's convolutions with random weights, as torchvision names them."""
    channels = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    state = {}
    for index, (seen, width) in enumerate(pairwise(channels)):
        name = f"features.{(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)[index]}"
        state[f"{name}.weight"] = torch.randn(width, seen, 3, 3) * (2 / (9 * seen)) ** 0.5
        state[f"{name}.bias"] = torch.zeros(width)
    torch.save(state, file)
    return file


def trainer(preset: str, choice: str, batch: int, folder: Path, *more: str) -> Trainer:
    """A run on pictures of noise; its LR encoder counts as pretrained and starts frozen. more: settings."""
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (512, 1024, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "noise.png")
    fixed = ["data.workers=0", "schedule.freeze_encoder=0.5", f"data.cache={folder / 'cache'}"]
    overrides = [*fixed, "hardware.precision=fp32", *CHOICES[choice][0]]
    preset_batch = load_settings(preset).data.batch
    batch = batch or (preset_batch if torch.cuda.is_available() else min(2, preset_batch))
    if "vgg16" in choice:  # random ones take the same time as trained ones
        overrides.append(f"objective.perceptual_vgg16={random_vgg16(folder / 'vgg16.pth')}")
    settings = load_settings(preset, [*overrides, f"data.batch={batch}", *more])
    return Trainer(settings, data=photos, out=Path(tempfile.mkdtemp(dir=folder)), val=None, resume=False)


def clock() -> float:
    """Seconds: wall time with a GPU, otherwise the processor's, which other programs disturb less."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(run: Trainer, choice: str) -> float:
    """Time of a step, including its data: the mean of two, so that an L1 term in every second step counts half."""
    started = clock()
    with CHOICES[choice][1]():
        for _ in range(2):
            run.step(run.crops[run.iteration])
    return (clock() - started) / 2


def measure(preset: str, choice: str, batch: int, pairs: int, *, alone: bool) -> dict[str, float]:
    """In a separate process: peak memory in MB (alone), or seconds per step and the ratio to the unchanged trainer."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run = trainer(preset, choice, batch, Path(folder))
        if alone:
            seconds(run, choice)
            if torch.cuda.is_available():
                return {"megabytes": torch.cuda.max_memory_allocated() / 2**20}
            return {"megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10}
        # the unchanged trainer needs no second one beside it
        other = run if choice == "as it is" else trainer(preset, "as it is", batch, Path(folder))
        seconds(run, choice), seconds(other, "as it is")  # to warm up, and to compile
        times = [(seconds(run, choice), seconds(other, "as it is")) for _ in range(pairs)]
        return {
            "batch": run.settings.data.batch,
            "seconds": statistics.median(mine for mine, _ in times),
            "ratio": statistics.median(mine / theirs for mine, theirs in times),
        }


OURS = {"ours, fp32": "fp32", "ours, bf16": "bf16"}
THEIRS = "the authors'"


def published_steps(which: list[str], batch: int, folder: Path, *, frozen: bool) -> dict[str, Callable[[], object]]:
    """Steps on one batch of the ×4 network as published, by name, each with a network of its own."""
    steps: dict[str, Callable[[], object]] = {}
    for name in which:
        choice = "bf16" if OURS.get(name) == "bf16" else "as it is"
        run = trainer("published-x4", choice, batch, folder, f"schedule.freeze_encoder={int(frozen)}")
        crops = run.crops[0]
        if name == THEIRS:
            assert isinstance(run.model, SRFlow)
            run.model.initialize_actnorms(crops.hr, crops.lr)
            theirs = PublishedStep(run.model, learning_rate=2.5e-4)
            hr = (crops.hr + crops.noise * (4 / 3**0.5 / 255)).to(run.fabric.device)
            steps[name] = lambda: theirs.step(hr, crops.lr.to(hr.device), frozen=frozen)  # noqa: B023  # called below
        else:
            steps[name] = partial(run.step, crops)
    return steps


def profile_published(batch: int, *, frozen: bool) -> None:
    """Print the seconds that a step of theirs and of ours (fp32) spends in each operator."""
    names = [THEIRS, "ours, fp32"]
    with tempfile.TemporaryDirectory() as folder:
        steps = published_steps(names, batch, Path(folder), frozen=frozen)
        spent: dict[str, dict[str, float]] = {}
        for name, step in steps.items():
            step()
            with torch.profiler.profile() as profiler:
                step()
            spent[name] = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    print(f"| operator, encoder {'frozen' if frozen else 'trained'} | {' | '.join(names)} |\n|---|---|---|")
    operators = sorted({key for times in spent.values() for key in times}, key=lambda key: -spent[THEIRS].get(key, 0))
    for key in [*operators[:12], *(key for key in operators[12:] if max(x.get(key, 0) for x in spent.values()) > 0.05)]:
        print(f"| {key} | {' | '.join(f'{spent[name].get(key, 0):.2f}' for name in names)} |")
    print(f"| all | {' | '.join(f'{sum(spent[name].values()):.2f}' for name in names)} |\n")


def measure_published(which: list[str], batch: int, pairs: int, *, frozen: bool) -> dict[str, float]:
    """Seconds of each step, by name, and of "PART ratio", the median of theirs / ours; one alone: its peak MB."""

    def timed(step: Callable[[], object]) -> float:
        started = clock()
        step()
        return clock() - started

    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        steps = published_steps(which, batch, Path(folder), frozen=frozen)
        rounds = [{name: timed(step) for name, step in steps.items()} for _ in range(1 + pairs)][1:]
    if len(which) == 1:
        if torch.cuda.is_available():
            return {which[0]: torch.cuda.max_memory_allocated() / 2**20}
        return {which[0]: (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10}
    figures = {name: statistics.median(times[name] for times in rounds) for name in which}
    ratios = {f"{name} ratio": statistics.median(times[THEIRS] / times[name] for times in rounds) for name in which}
    return {**figures, **ratios}


def compare_with_published(batch: int, pairs: int, threads: int) -> None:
    """Print the table."""
    names, shared = [THEIRS, *OURS], ["--batch", str(batch or 2), "--pairs", str(pairs), "--threads", str(threads)]
    print("| encoder | step | seconds | times as fast as theirs | peak memory, MB |\n|---|---|---|---|---|")
    for encoder in ("trained", "frozen"):
        times = in_a_process("--published", encoder, "--steps", *names, *shared)
        for name in names if times else []:
            memory = in_a_process("--published", encoder, "--steps", name, *shared[:2], "--pairs", "1", *shared[4:])
            row = f"| {encoder} | {name} | {times[name]:.2f} | {times[f'{name} ratio']:.2f} |"
            print(f"{row} {memory.get(name, math.nan):.0f} |", flush=True)


def in_a_process(*arguments: str) -> dict[str, float]:
    """Figures of a child process, or {} if it failed (out of memory, no compiler)."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        print(f"{arguments}: failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]}", file=sys.stderr)
        return {}
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _device() -> str:
    return processor_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--preset", choices=preset_names())
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--choice", choices=list(CHOICES), help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--published", nargs="?", const="table", choices=["table", "trained", "frozen"])
    parser.add_argument("--profile", action="store_true", help="with --published: the operators of both steps")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch [default: 1]")
    parser.add_argument("--steps", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.published:
        if options.profile:
            for frozen in (False, True):
                profile_published(options.batch or 2, frozen=frozen)
            return
        if not options.steps:
            print(f"{_device()}, published-x4\n")
            compare_with_published(options.batch, options.pairs, options.threads)
            return
        frozen = options.published == "frozen"
        print(json.dumps(measure_published(options.steps, options.batch, options.pairs, frozen=frozen)))
        return
    if options.choice:
        figures = measure(options.preset, options.choice, options.batch, options.pairs, alone=options.alone)
        print(json.dumps(figures))
        return
    rows = (
        [(options.preset, choice) for choice in CHOICES]
        if options.preset
        else [
            *((preset, "as it is") for preset in preset_names()),
            *(("x4-small", choice) for choice in list(CHOICES)[1:]),
        ]
    )
    print(f"{_device()}, {torch.get_num_threads()} thread(s)\n")
    print("| preset | crops a step | choice | it/s | time of a step against as it is | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for preset, choice in rows:
        arguments = [
            "--preset",
            preset,
            "--choice",
            choice,
            "--batch",
            str(options.batch),
            "--pairs",
            str(options.pairs),
            "--threads",
            str(options.threads),
        ]
        times, memory = in_a_process(*arguments), in_a_process(*arguments, "--alone")
        if times and memory:
            print(
                f"| {preset} | {times['batch']} | {choice} | {1 / times['seconds']:.3g} | {times['ratio']:.2f} | "
                f"{memory['megabytes']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
