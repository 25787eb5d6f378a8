"""A full disk, and a limit on the size of files: at any moment of an export, a folder, a single file, a training run.

A limit on the size of a file (RLIMIT_FSIZE) works everywhere. A really full disk is a tmpfs of a few kilobytes, where
this process may mount one (root, or a user namespace of its own); otherwise only the limits are tried.
"""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from srflow_sdk import Bundle, read_image
from srflow_sdk.errors import SRFlowError
from srflow_training import load_checkpoint, save_checkpoint
from tests.faults.commands import Ended, leftovers, loss_of, run_command
from tests.faults.kills import TRAINING_OPTIONS, write_photos
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

_LARGEST = {"folder": 3000, "training": 1500, "export": 320, "tif": 900}  # kilobytes, by what is written


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
    """Let each command write into too little room, of a random size in kilobytes."""
    chance = random.Random(seed)
    save_checkpoint(folder / "m.safetensors", random_srflow(tiny_config(steps=1)))
    write_tiny_bundle(folder / "tiny.srflow")
    write_photos(folder / "photos", ("png",) * 4)
    disks = _can_mount(folder)
    for number in range(count):
        kind = tuple(_LARGEST)[number % len(_LARGEST)]
        kilobytes = chance.randrange(4, _LARGEST[kind])
        on_disk = disks and chance.random() < 0.6
        out = folder / f"out-{number}"
        out.mkdir()
        if on_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", out], check=True)
        try:
            ended = _run(kind, folder, out, limit=None if on_disk else kilobytes * 1024)
            loss = loss_of(ended) or leftovers(out) or _damage(out)
            loss = loss or (_incomplete(kind, out) if ended.status == 0 else None)
        finally:
            if on_disk:
                subprocess.run(["umount", "-l", out], check=True)  # libvips still has read pictures open
        where = "a disk" if on_disk else "files"
        yield f"attempt {number}, {kind} on {where} of {kilobytes} KB", loss
        if loss is None:
            shutil.rmtree(out)


def _can_mount(folder: Path) -> bool:
    """Whether this process may mount a tmpfs."""
    probe = folder / "probe"
    probe.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", probe]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", probe], check=True)
    return True


def _run(kind: str, folder: Path, out: Path, *, limit: int | None) -> Ended:
    limits = {} if limit is None else {resource.RLIMIT_FSIZE: limit}
    model = ["--model", "tiny.srflow", "--device", "cpu", "--threads", "1"]
    program, arguments = {
        "folder": ("srflow-upscale", ["photos", "-o", out / "large", "--report", out / "report.json", *model]),
        "export": ("srflow-export", ["m.safetensors", "-o", out / "m.srflow", "--gate", "quick"]),
        "training": ("srflow-train", ["--config", "x4-small", "--data", "photos", "--out", out, *TRAINING_OPTIONS]),
        "tif": ("srflow-upscale", ["photos/00.png", "-o", out / "a.tif", *model]),
    }[kind]
    return run_command(program, arguments, folder=folder, limits=limits)


def _damage(out: Path) -> str | None:
    """What is visible but not whole."""
    for path in (path for path in out.rglob("*") if path.is_file()):
        try:
            if path.suffix in (".png", ".tif"):
                read_image(path)
            elif path.suffix == ".safetensors":
                load_checkpoint(path)
            elif path.name == "manifest.json":
                Bundle.open(path.parent)
        except SRFlowError as error:
            return f"visible but not whole: {error}"
    return None


def _incomplete(kind: str, out: Path) -> str | None:
    """What is missing although the command said that it succeeded."""
    wanted = {"folder": "large/03.png", "export": "m.srflow/manifest.json", "training": "model.safetensors"}
    made = (out / wanted.get(kind, "a.tif")).exists()
    return None if made else "it said that it succeeded, but its result is missing"
