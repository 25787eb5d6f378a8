"""SIGKILL at random times: of an export, of runs over a folder, of a training run; then the same command again."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srflow_sdk import Bundle
from srflow_sdk.errors import SRFlowError
from srflow_training import load_checkpoint, save_checkpoint
from tests.faults.commands import leftovers, loss_of, run_command
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

Attempts = Iterator[tuple[str, str | None]]
_EVERY = 4  # so many attempts, the last of which is not killed
TRAINING_OPTIONS = [
    f"--set={setting}"
    for setting in (
        *("network.nf=8", "network.blocks=2", "network.steps=1", "network.hidden=8", "data.crop=16", "data.batch=2"),
        *("network.condition=[8,8,8]", "network.injector_hidden=8", "data.workers=0", "data.widest=200"),
        *("data.narrowest=16", "data.choose_of=1", "schedule.iterations=30", "schedule.save_every=4"),
        *("schedule.log_every=20", "hardware.precision=fp32", "hardware.accelerator=cpu"),
        "hardware.threads=1",  # another number, which a busy machine may choose, gives other bits
    )
]
"""Options of srflow-train for a run of seconds."""


def write_photos(folder: Path, endings: tuple[str, ...]) -> Path:
    """A folder of photographs of 96×80 pixels, with noise in all sizes."""
    folder.mkdir()
    for number, ending in enumerate(endings):
        coarse = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80)).save(folder / f"{number:02d}.{ending}")
    return folder


def kill_folder(folder: Path, count: int, seed: int) -> Attempts:
    """Kill a run over a folder, and resume it. Visible pictures must equal those of a run that nobody killed."""
    photos = write_photos(folder / "photos", ("png", "jpg", "tif", "webp", "bmp") * 2)
    options = ["--model", write_tiny_bundle(folder / "tiny.srflow"), "--resume", "--tile", "32", "--threads", "1"]

    def command(out: Path) -> list[str | Path]:
        return [photos, "-o", out, *options, "--device", "cpu", "--report", "report.json"]

    def contents(out: Path) -> dict[str, object]:
        return {path.name: path.read_bytes() for path in out.glob("[!.]*")}

    return _killed("srflow-upscale", command, folder, count, seed, contents)


def kill_export(folder: Path, count: int, seed: int) -> Attempts:
    """Kill an export, of a new bundle or over an older one. What is visible must be a whole bundle."""
    save_checkpoint(folder / "m.safetensors", random_srflow(tiny_config(steps=1)))

    def command(out: Path) -> list[str | Path]:
        return ["m.safetensors", "-o", out / "m.srflow", "--gate", "quick"]

    def bundle(out: Path) -> dict[str, object]:
        return {path.name: Bundle.open(path).manifest.latent_levels for path in out.glob("[!.]*")}

    return _killed("srflow-export", command, folder, count, seed, bundle)


def kill_training(folder: Path, count: int, seed: int) -> Attempts:
    """Kill a training run, and resume it. Its weights must be, to the bit, those of a run that nobody killed."""
    photos = write_photos(folder / "photos", ("png",) * 3)

    def command(out: Path) -> list[str | Path]:
        states = out / "states"
        resume = ["--resume"] if states.is_dir() and any(states.glob("[!.]*.pt")) else []
        return ["--config", "x4-small", "--data", photos, "--out", out, *TRAINING_OPTIONS, *resume]

    def weights(out: Path) -> dict[str, object]:
        for state in (out / "states").glob("[!.]*.pt"):
            torch.load(state, weights_only=True)
        whole = out / "model.safetensors"
        found = load_checkpoint(whole).state_dict() if whole.exists() else {}
        return {name: tensor.numpy().tobytes() for name, tensor in found.items()}

    return _killed("srflow-train", command, folder, count, seed, weights, grows=True)


def _killed(
    program: str,
    command: Callable[[Path], list[str | Path]],
    folder: Path,
    count: int,
    seed: int,
    read: Callable[[Path], dict[str, object]],
    *,
    grows: bool = False,
) -> Attempts:
    """Kill a command again and again, and let every fourth run end, from which the next ones start afresh.

    command: the arguments for a folder that it writes to. read: what is visible there, by name; raises if that is not
    whole. It must be what an undisturbed run makes; if it grows, as a training's weights do, once the run has ended.
    """
    chance, out = random.Random(seed), folder / "out"
    begun = time.monotonic()
    first = run_command(program, command(folder / "undisturbed"), folder=folder)
    duration = time.monotonic() - begun
    expected = read(folder / "undisturbed")
    yield "undisturbed", loss_of(first) or leftovers(folder / "undisturbed") or (None if expected else "nothing made")
    if chance.random() < 0.5:
        shutil.copytree(folder / "undisturbed", out)  # the first kills are of a run over an older result
    for number in range(1, count):
        ends = number % _EVERY == _EVERY - 1
        after = None if ends else duration * chance.uniform(0.1, 1.05)
        ended = run_command(program, command(out), folder=folder, kill_after_s=after)
        loss = loss_of(ended, killed=not ends) or _wrong(read, out, expected, whole=ends, grows=grows)
        yield f"run {number}, {'to its end' if ends else f'killed after {after:.2f} s of {duration:.2f}'}", loss
        if ends:
            yield f"after run {number}", leftovers(out)
            if chance.random() < 0.5:
                shutil.rmtree(out)


def _wrong(
    read: Callable[[Path], dict[str, object]], out: Path, expected: dict[str, object], *, whole: bool, grows: bool
) -> str | None:
    try:
        found = read(out)
    except (SRFlowError, RuntimeError, OSError, EOFError) as error:
        return f"visible but not whole: {error}"
    if grows and not whole:
        return None
    if other := [name for name, content in found.items() if content != expected.get(name)]:
        return f"another than without kills: {', '.join(other[:5])}"
    missing = sorted(expected.keys() - found.keys())
    return f"missing: {', '.join(missing[:5])}" if whole and missing else None
