"""Folders of photographs with odd names, and of odd things: photos are enlarged, the rest ends in
errors of a line."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from srflow_sdk import read_image
from tests.faults.commands import ON_CPU, errors_of, leftovers, loss_of, run_command
from tests.sdk.tiny_bundle import write_tiny_bundle

NAMES = (
    *(
        "photo",
        "a b'\"$`*",
        "ä 日本",
        "\u202egnp",
        "\udcff\udcfe",
        "x" * 200,
        "two\nlines",
        "-o",
        "--model",
        "12:30",
    ),
    *(
        "%03d",
        "{stem}",
        "concat:a|b",
        "photo.jpg",
        "~",
        "*",
        "http:127.0.0.1:9?x#1",
        "file:a",
        "con",
        "a;b&c",
    ),
    "\x1b[2J",
)
_ENDINGS = ("png", "jpg", "tif", "webp", "bmp", "PNG")
_FORMATS = {"jpg": "JPEG", "tif": "TIFF"}


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
    """Fill folders, enlarge each, and enlarge it again with --resume, which must change nothing."""
    chance = random.Random(seed)
    write_tiny_bundle(folder / "tiny.srflow")
    for number in range(count):
        place = folder / f"{number:05d}"
        (place / "in").mkdir(parents=True)
        names = chance.sample(NAMES, 5)
        photos = [
            _photo(place / "in" / f"{name}.{chance.choice(_ENDINGS)}", number) for name in names[:3]
        ]
        things = [_thing(place / "in" / f"{name}.png", chance) for name in names[3:]]
        inputs = ["in"] if number % 2 else [f"in/{path.name}" for path in (place / "in").iterdir()]
        loss = _loss(place, photos, inputs)
        yield f"attempt {number}, {inputs}, with {things}", loss
        if loss is None:
            shutil.rmtree(place)


def _photo(path: Path, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    ending = path.suffix[1:].lower()
    with path.open("wb") as file:  # Pillow reads the name's ending, and not every name
        Image.fromarray(pixels).save(file, _FORMATS.get(ending, ending.upper()))
    return path


_THINGS: dict[str, Callable[[Path], object]] = {
    "an empty file": Path.touch,
    "half a photo": lambda path: path.write_bytes(_photo(path, 0).read_bytes()[:300]),
    "a folder": Path.mkdir,
    "a FIFO": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing.png"),
    "a text": lambda path: path.write_bytes(b"not a picture"),
}


def _thing(path: Path, chance: random.Random) -> str:
    """Make what has a photo's name and is none."""
    what = chance.choice(tuple(_THINGS))
    _THINGS[what](path)
    return what


def _loss(place: Path, photos: list[Path], inputs: list[str]) -> str | None:
    sources = {path: path.read_bytes() for path in photos}
    command = [*inputs, "-o", "out", "--model", "../tiny.srflow", "--resume", *ON_CPU]
    made: dict[Path, bytes] = {}
    for _ in range(2):
        ended = run_command("srflow-upscale", command, folder=place)
        if loss := loss_of(ended) or leftovers(place / "out"):
            return loss
        if not errors_of(ended) or ended.status != 1:
            return f"status {ended.status}, and no error for what is no photo"
        for path in photos:
            target = place / "out" / f"{path.stem}.png"
            if not target.exists():
                return f"{target.name!r} is missing: {errors_of(ended)}"
            if read_image(target).pixels.shape != (48, 64, 3):
                return f"{target.name!r} has another size"
            if made.setdefault(target, target.read_bytes()) != target.read_bytes():
                return f"{target.name!r} is another picture after --resume"
    return (
        None if sources == {path: path.read_bytes() for path in photos} else "an input was changed"
    )
