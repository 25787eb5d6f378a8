"""Commands that write much, killed by SIGKILL at random times and begun again, or given too little
room.

A limit on the size of a file (RLIMIT_FSIZE) works everywhere. A really full disk is a tmpfs of a
few kilobytes, where this process may mount one (root, or a user namespace of its own); otherwise
only the limits are tried.
"""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from srflow_sdk import Bundle
from srflow_sdk.errors import SRFlowError
from srflow_training import load_checkpoint, save_checkpoint
from tests.faults.commands import ON_CPU, leftovers, loss_of, run_command
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

Attempts = Iterator[tuple[str, str | None]]
_EVERY = 4  # so many runs, the last of which is not killed
_SETTINGS = """
network.nf=8 network.blocks=2 network.steps=1 network.hidden=8
network.condition=[8,8,8] network.injector_hidden=8
data.crop=16 data.batch=2 data.workers=1 data.widest=200 data.narrowest=16 data.choose_of=1
objective.l1=1 objective.l1_every=3 schedule.freeze_encoder=0.5
schedule.iterations=30 schedule.save_every=4
schedule.log_every=20 hardware.precision=fp32 hardware.accelerator=cpu hardware.threads=1
"""  # another number of threads, which a busy machine may choose, gives other bits


class Work(NamedTuple):
    """A command, and what it makes.

    arguments: for a folder that it writes to. read: what is visible there, by name; raises if that
    is not whole. It must be what an undisturbed run makes; if it grows, as a training's weights do,
    once the run has ended.
    kilobytes: the most room that it is given when it is to have too little.
    """

    program: str
    arguments: Callable[[Path], list[str | Path]]
    read: Callable[[Path], dict[str, object]]
    kilobytes: int
    grows: bool = False


def _works(folder: Path) -> dict[str, Work]:
    """An export, runs over a folder and a training run, which are resumed if that is possible, and
    a single TIFF."""
    save_checkpoint(folder / "m.safetensors", random_srflow(tiny_config(steps=1)))
    model = [
        "--model",
        write_tiny_bundle(folder / "tiny.srflow"),
        "--tile",
        "32",
        *ON_CPU,
    ]
    (folder / "photos").mkdir()
    for number, ending in enumerate(("png", "jpg", "tif", "webp", "bmp") * 2):
        coarse = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80)).save(folder / "photos" / f"{number:02d}.{ending}")

    def training(out: Path) -> list[str | Path]:
        resume = ["--resume"] if any((out / "states").glob("[!.]*.pt")) else []
        settings = [f"--set={setting}" for setting in _SETTINGS.split()]
        return ["--config", "x4-small", "--data", "photos", "--out", out, *settings, *resume]

    def pictures(out: Path) -> dict[str, object]:
        return {
            path.name: path.read_bytes()
            for path in (*out.glob("large/[!.]*"), *out.glob("[!.]*.tif"))
        }

    def bundle(out: Path) -> dict[str, object]:
        return {path.name: Bundle.open(path).manifest.latent_levels for path in out.glob("[!.]*")}

    def weights(out: Path) -> dict[str, object]:
        for state in (out / "states").glob("[!.]*.pt"):
            torch.load(state, weights_only=True)
        whole = out / "model.safetensors"
        found = load_checkpoint(whole).state_dict() if whole.exists() else {}
        return {name: tensor.numpy().tobytes() for name, tensor in found.items()}

    def enlarging(out: Path) -> list[str | Path]:
        return ["photos", "-o", out / "large", "--report", out / "report.json", "--resume", *model]

    return {
        "folder": Work("srflow-upscale", enlarging, pictures, 5000),
        "training": Work("srflow-train", training, weights, 1500, grows=True),
        "export": Work(
            "srflow-export", lambda out: ["m.safetensors", "-o", out / "m.srflow"], bundle, 320
        ),
        "tif": Work(
            "srflow-upscale",
            lambda out: ["photos/00.png", "-o", out / "a.tif", *model],
            pictures,
            900,
        ),
    }


def _undisturbed(work: Work, folder: Path, out: Path) -> tuple[dict[str, object], str | None]:
    """What it makes in a new folder, and its loss."""
    out.mkdir()
    ended = run_command(work.program, work.arguments(out), folder=folder)
    expected = work.read(out)
    return expected, loss_of(ended) or leftovers(out) or (None if expected else "nothing made")


def kill(name: str, folder: Path, count: int, seed: int) -> Attempts:
    """Kill a command again and again, and let every fourth run end, from which the next ones start
    afresh."""
    chance = random.Random(seed)
    out = folder / "out"
    work = _works(folder)[name]
    begun = time.monotonic()
    expected, loss = _undisturbed(work, folder, folder / "undisturbed")
    duration = time.monotonic() - begun
    yield "undisturbed", loss
    if chance.random() < 0.5:
        # the first kills are of a run over an older result
        shutil.copytree(folder / "undisturbed", out)
    for number in range(1, count):
        out.mkdir(exist_ok=True)
        ends = number % _EVERY == _EVERY - 1
        after = None if ends else duration * chance.uniform(0.1, 1.05)
        ended = run_command(work.program, work.arguments(out), folder=folder, kill_after_s=after)
        loss = loss_of(ended, killed=not ends) or _wrong(work, out, expected, whole=ends)
        yield (
            f"run {number}, "
            f"{'to its end' if ends else f'killed after {after:.2f} s of {duration:.2f}'}",
            loss,
        )
        if ends:
            yield f"after run {number}", leftovers(out)
            if chance.random() < 0.5:
                shutil.rmtree(out)


def starve(folder: Path, count: int, seed: int) -> Attempts:
    """Let each command write into too little room, of a random size in kilobytes."""
    chance = random.Random(seed)
    works = _works(folder)
    expected: dict[str, dict[str, object]] = {}
    for name, work in works.items():
        expected[name], loss = _undisturbed(work, folder, folder / f"undisturbed-{name}")
        yield f"{name}, undisturbed", loss
    for number in range(count):
        name = tuple(works)[number % len(works)]
        work = works[name]
        out = folder / f"out-{number}"
        kilobytes = chance.randrange(4, work.kilobytes)
        out.mkdir()
        on_disk = chance.random() < 0.6 and _mounted(out, kilobytes)
        try:
            limits = {} if on_disk else {resource.RLIMIT_FSIZE: kilobytes * 1024}
            ended = run_command(work.program, work.arguments(out), folder=folder, limits=limits)
            loss = (
                loss_of(ended)
                or leftovers(out)
                or _wrong(work, out, expected[name], whole=ended.status == 0)
            )
        finally:
            if on_disk:
                # libvips still has read pictures open
                subprocess.run(["umount", "-l", out], check=True)
        yield (
            f"attempt {number}, {name} on {'a disk' if on_disk else 'files'} of {kilobytes} KB",
            loss,
        )
        if loss is None:
            shutil.rmtree(out)


def _mounted(place: Path, kilobytes: int) -> bool:
    """Mount a small tmpfs; false where this process may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", place]
    can = shutil.which("mount") is not None
    return can and not subprocess.run(command, capture_output=True, check=False).returncode


def _wrong(work: Work, out: Path, expected: dict[str, object], *, whole: bool) -> str | None:
    try:
        found = work.read(out)
    except (SRFlowError, RuntimeError, OSError, EOFError) as error:
        return f"visible but not whole: {error}"
    if work.grows and not whole:
        return None
    if other := [name for name, content in found.items() if content != expected.get(name)]:
        return f"another than undisturbed: {', '.join(other[:5])}"
    missing = sorted(expected.keys() - found.keys())
    return f"missing: {', '.join(missing[:5])}" if whole and missing else None
