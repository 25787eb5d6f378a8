"""SIGKILL at random times: of an export, of runs over a folder, of a training run."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srflow_sdk import Bundle
from srflow_sdk.errors import SRFlowError
from srflow_training import load_checkpoint, save_checkpoint
from tests.faults.attempts import Attempt
from tests.faults.commands import Ended, hidden_files, loss_of, run_command
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

Run = Callable[[float | None], Ended]
"""Runs the command, and kills it after so many seconds; None: lets it end."""

_EVERY = 4  # so many attempts, the last of which is not killed
TRAINING_OPTIONS = [
    f"--set={setting}"
    for setting in (
        *("network.nf=8", "network.blocks=2", "network.steps=1", "network.hidden=8", "data.crop=16", "data.batch=2"),
        *("network.condition=[8,8,8]", "network.injector_hidden=8", "data.workers=0", "data.widest=200"),
        *("data.narrowest=16", "data.choose_of=1", "schedule.iterations=60", "schedule.save_every=4"),
        *("schedule.log_every=20", "hardware.precision=fp32", "hardware.accelerator=cpu"),
    )
]
"""Options of srflow-train for a run of seconds."""


def kill_export(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Kill an export, of a new bundle or over an older one. What is visible must be a whole bundle."""
    save_checkpoint(folder / "m.safetensors", random_srflow(tiny_config(steps=1)))
    target = folder / "out" / "m.srflow"

    def run(kill_after_s: float | None) -> Ended:
        arguments = ["m.safetensors", "-o", target, "--gate", "quick"]
        return run_command("srflow-export", arguments, folder=folder, kill_after_s=kill_after_s)

    def damage() -> str | None:
        if not target.exists():
            return None
        try:
            Bundle.open(target)
        except SRFlowError as error:
            return f"a broken bundle: {error}"
        return None

    def complete() -> str | None:
        return damage() or (None if target.exists() else "there is no bundle")

    yield from _killed(run, count, seed, out=folder / "out", damage=damage, complete=complete)


def kill_folder(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Kill a run over a folder, and resume it. Visible pictures must equal those of a run that nobody killed."""
    model = write_tiny_bundle(folder / "tiny.srflow")
    yield from _killed_over_folder("srflow-upscale", ["--model", model, "--tile", "32"], folder, count, seed)


def kill_restoring(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """The same while a folder is restored, with the embedded model, which has an inverter."""
    yield from _killed_over_folder("srflow-restore", ["--tile", "32"], folder, count, seed)


def _killed_over_folder(
    program: str, options: Sequence[str | Path], folder: Path, count: int, seed: int
) -> Iterator[Attempt]:
    photos = folder / "photos"
    photos.mkdir()
    y, x = np.mgrid[0:120, 0:160]
    for number, ending in enumerate(("png", "jpg", "tif", "webp", "bmp") * 2):
        shade = np.rint(127.5 + 90 * np.sin(x / (5 + number) + y / 9)).astype(np.uint8)
        Image.fromarray(np.stack([shade, shade[::-1], 255 - shade], -1)).save(photos / f"{number:02d}.{ending}")
    settings = [*options, "--threads", "1", "--device", "cpu", "--report", "report.json"]

    def run_into(out: Path, kill_after_s: float | None = None) -> Ended:
        arguments = [photos, "-o", out, "--resume", *settings]
        return run_command(program, arguments, folder=folder, kill_after_s=kill_after_s)

    def visible(out: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.glob("[!.]*")} if out.exists() else {}

    ended = run_into(folder / "undisturbed")
    expected = visible(folder / "undisturbed")
    assert loss_of(ended) is None, ended
    assert len(expected) == 10

    def damage() -> str | None:
        wrong = [name for name, content in visible(folder / "out").items() if content != expected.get(name)]
        return f"visible but not whole: {', '.join(wrong)}" if wrong else None

    def complete() -> str | None:
        missing = sorted(expected.keys() - visible(folder / "out").keys())
        return damage() or (f"missing: {', '.join(missing)}" if missing else None)

    def run(kill_after_s: float | None) -> Ended:
        return run_into(folder / "out", kill_after_s)

    yield from _killed(run, count, seed, out=folder / "out", damage=damage, complete=complete)


def kill_training(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Kill a training run, and resume it. Its weights must be, to the bit, those of a run that nobody killed."""
    random_numbers = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(3):
        coarse = random_numbers.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80)).save(folder / "photos" / f"{number}.png")

    def run_in(out: Path, kill_after_s: float | None = None) -> Ended:
        states = out / "states"
        resume = ["--resume"] if states.is_dir() and any(states.glob("[!.]*.pt")) else []
        arguments = ["--config", "x4-small", "--data", "photos", "--out", out, *TRAINING_OPTIONS, *resume]
        return run_command("srflow-train", arguments, folder=folder, kill_after_s=kill_after_s)

    def weights(out: Path) -> dict[str, torch.Tensor]:
        return load_checkpoint(out / "model.safetensors").state_dict()

    ended = run_in(folder / "undisturbed")
    assert loss_of(ended) is None, ended
    expected = weights(folder / "undisturbed")

    def damage() -> str | None:
        try:
            if (folder / "out" / "model.safetensors").exists():
                weights(folder / "out")
            for state in (folder / "out" / "states").glob("[!.]*.pt"):
                torch.load(state, weights_only=True)
        except Exception as error:
            return f"visible but not whole: {error}"
        return None

    def complete() -> str | None:
        if not (folder / "out" / "model.safetensors").exists():
            return "there is no checkpoint"
        found = weights(folder / "out")
        other = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
        return f"other weights than without kills: {len(other)} tensors, such as {other[0]}" if other else None

    def run(kill_after_s: float | None) -> Ended:
        return run_in(folder / "out", kill_after_s)

    yield from _killed(run, count, seed, out=folder / "out", damage=damage, complete=complete)


def _killed(
    run: Run,
    count: int,
    seed: int,
    *,
    out: Path,
    damage: Callable[[], str | None],
    complete: Callable[[], str | None],
) -> Iterator[Attempt]:
    """Kill a command again and again, and let every fourth run end, from which the next ones start afresh.

    out: the folder that it writes to. damage: what is wrong with what a kill left. complete: with a finished result.
    """
    chance = random.Random(seed)
    begun = time.monotonic()
    first = run(None)
    duration = time.monotonic() - begun
    yield Attempt(what="undisturbed", loss=loss_of(first) or complete() or _leftovers(out))
    if chance.random() < 0.5:
        shutil.rmtree(out)  # otherwise the first kills are of a run that replaces an older result
    for number in range(1, count):
        if number % _EVERY == _EVERY - 1:
            ended = run(None)
            yield Attempt(what=f"run {number}, to its end", loss=loss_of(ended) or complete() or _leftovers(out))
            if chance.random() < 0.5:
                shutil.rmtree(out)
            continue
        after = duration * chance.uniform(0.1, 1.05)
        ended = run(after)
        yield Attempt(
            what=f"run {number}, killed after {after:.2f} s of {duration:.2f}",
            loss=loss_of(ended, killed=True) or damage(),
        )


def _leftovers(out: Path) -> str | None:
    """Hidden files after a run that ended by itself."""
    left = hidden_files(out)
    return f"left behind: {', '.join(left)}" if left else None
