"""The photographs that network_curve.py trains on, decoded once for all candidates, and those that it holds out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from srflow_training.data import Crops, Photos, halved, image_files, read_photo
from srflow_training.settings import load_settings

HELD_OUT = (  # by package: two of lomiri-wallpapers-16.04, one of lxqt-themes and mate-backgrounds, two of plasma
    "Picture_1A_by_freespace",  # brushes
    "friends_by_Aitzol_Berasategi",  # dogs, painted boards
    "flowers",  # meadow
    "Dune",  # grass against the sky
    "EveningGlow",  # boats, pebbles
    "Grey",  # a building
)
CROP, CROPS_PER_PHOTO, WIDEST = 256, 4, 2400


def prepare(data: Path, out: Path) -> tuple[Path, Path, Path]:
    """Folders of the photographs to train on (links), of the held-out crops, and of the decoded photographs."""
    train, crops, cache = (out / name for name in ("photos", "crops", "decoded"))
    with FileLock(out / "prepare.lock"):
        if not (out / "prepared").is_file():
            files = {path.stem: path for path in image_files(data)}
            if missing := [name for name in HELD_OUT if name not in files]:
                sys.exit(f"{data}: no {', '.join(missing)}; fetch the photographs: examples/training_photos.py {data}")
            for folder in (train, crops):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            for name, path in files.items():
                if name in HELD_OUT:
                    write_crops(path, crops)
                else:
                    (train / path.name).symlink_to(path.resolve())
            decode(train, cache)
            (out / "prepared").touch()
    return train, crops, cache


def write_crops(path: Path, folder: Path) -> None:
    """Write the most detailed ones of a photograph's whole 256×256 crops."""
    photo = read_photo(path)
    while photo.shape[1] > WIDEST:
        photo = halved(photo)
    places = [
        (y, x) for y in range(0, photo.shape[0] - CROP + 1, CROP) for x in range(0, photo.shape[1] - CROP + 1, CROP)
    ]
    parts = [photo[y : y + CROP, x : x + CROP] for y, x in places]
    detail = [
        sum(float(np.abs(np.diff(part[..., 1].astype(int), axis=axis)).mean()) for axis in (0, 1)) for part in parts
    ]
    for number, best in enumerate(np.argsort(detail, kind="stable")[::-1][:CROPS_PER_PHOTO]):
        Image.fromarray(parts[best]).save(folder / f"{path.stem}-{number}.png")


def decode(photos: Path, cache: Path) -> None:
    """Keep every photograph decoded, at each of its sizes, so that the first candidate does not pay for it."""
    settings = load_settings("plain-x4-small").data
    found = Photos(photos, settings, 4, print)
    crops, done = Crops(found, settings, scale=4, seed=0, iterations=10_000, cache=cache), 0
    while done < len(crops) and len(list(cache.glob("*.npy"))) < len(found.sizes):
        crops[done]
        done += 1
