"""The folder that a page's blocks run in: what its reader has, but small."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from srflow_sdk import Bundle
from tests.apps.clips.clips import write_clip

from .forking import write_program
from .pages import ROOT

PHOTO = ROOT / "examples" / "photos" / "cat.png"
SIZE = (60, 44)

# Settings that make a training last seconds.
SHORT = (
    "schedule.iterations=2",
    "schedule.validate_crops=1",
    "data.crop=48",
    "data.batch=2",
    "data.workers=0",
)
SHORT += ("schedule.validate_size=64", "hardware.precision=fp32")
SMALL = ("network.nf=8", "network.blocks=2")
SMALL_FLOW = ("network.stacked_blocks=[0,1]", "network.steps=2", "network.hidden=8")


def fill(folder: Path, bundle: Path, address: Path) -> dict[str, str]:
    """Fill the folder of a page, and return the environment variables for its blocks.

    bundle: of the golden checkpoint, which lies beside it: a network with the published names and
    layout, and few channels. address: of `forking.serve`.
    """
    _pictures(folder)
    shutil.copy(bundle.with_suffix(".pth"), folder / "SRFlow_DF2K_4X.pth")
    for name in ("SRFlow_DF2K_4X.srflow", "model.srflow", "my.srflow", "OLD.srflow"):
        shutil.copytree(bundle, folder / name)
    shutil.copytree(Bundle.embedded().path, folder / "x4-small.srflow")
    for name in ("benchmarks", "examples"):
        (folder / name).symlink_to(ROOT / name)
    home = folder / "home"
    (home / ".cache" / "srflow-sdk").mkdir(parents=True)
    path = [
        _commands(folder / "bin", address),
        Path(sys.executable).parent,
        *os.environ["PATH"].split(os.pathsep),
    ]
    return {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SRFLOW_", "PYTEST_"))
        },
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join(map(str, path)),
        "PYTHONPATH": str(ROOT),
    }


def _pictures(folder: Path) -> None:
    with Image.open(PHOTO) as opened:
        photo = opened.convert("RGB")
    small = photo.resize(SIZE)
    for name in (
        "photo.jpg",
        "photo.png",
        "photo.tif",
        "target.jpg",
        "target.tif",
        "other.png",
        "source.png",
    ):
        small.save(folder / name)
    small.effect_spread(2).save(folder / "noisy.jpg")
    small.effect_spread(2).save(folder / "noisy.tif")
    small.save(folder / "scan.png")
    small.save(folder / "brick.png")
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).ellipse((20, 14, 36, 28), fill=255)
    mask.save(folder / "mask.png")
    for name in (
        "photos/a.jpg",
        "photos/b.png",
        "photos/sub/c.jpg",
        "data/train/a.png",
        "data/train/b.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo.resize((68, 64)).filter(ImageFilter.GaussianBlur(len(name) % 3)).save(folder / name)
    (folder / "frames").mkdir()
    frames = [photo.resize((36, 28)).crop((number, 0, number + 32, 24)) for number in range(3)]
    for number, frame in enumerate(frames):
        frame.save(folder / "frames" / f"{number}.png")
    write_clip(folder / "clip.mp4", [np.asarray(frame) for frame in frames], sound=True)
    (folder / "held-out").mkdir()
    photo.resize((256, 256)).save(folder / "held-out" / "cat.png")


def _commands(folder: Path, address: Path) -> Path:
    """The commands, in a folder for the front of PATH: exports do not measure the halo of the
    golden network, and trainings have the settings above."""
    folder.mkdir()
    for name in (
        "srflow-upscale",
        "srflow-restore",
        "srflow-transfer",
        "srflow-doctor",
        "srflow-eval",
    ):
        write_program(folder / name, address)
    measured = "words += ['--halo', '8'] if '--ckpt' in words and '--halo' not in words else []"
    write_program(folder / "srflow-export", address, (measured,))
    shortened = (
        f"short, small, flow = map(list, {json.dumps([SHORT, SMALL, SMALL_FLOW])})",
        "flows = [] if 'encoder' in words else flow",
        "words += [word for value in short + small + flows for word in ('--set', value)]",
    )
    write_program(folder / "srflow-train", address, shortened)
    return folder
