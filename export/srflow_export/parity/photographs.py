"""The photographs on which exports are proved and halos are measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.engine_records import LrProfile

PATCHES = {"quick": (24, 32), "full": (40, 48)}
"""LR pixels of a patch, by gate; not square, so that height and width cannot be mistaken for each
other."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LrPhoto:
    """An LR photograph: float32 1×3×h×w in [0, 1]."""

    name: str
    lr: Array


def photographs(size_multiple: int) -> list[LrPhoto]:
    """The LR photographs that come with the exporter, about 112×112, by name."""
    photos = []
    folder = resources.files("srflow_export") / "photos"
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".png"):
            with entry.open("rb") as file, Image.open(file) as image:
                photo = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
            lr = _middle(photo.transpose(2, 0, 1)[None], photo.shape[:2], size_multiple)
            photos.append(LrPhoto(name=PurePath(entry.name).stem, lr=lr))
    return photos


def photo_patches(
    size_multiple: int,
    *,
    size: tuple[int, int] = PATCHES["full"],
    limits: Sequence[LrProfile] = (),
) -> list[LrPhoto]:
    """Cut about this many LR pixels from the middle of each photograph, within the limits.

    Raises: ArgumentError if the photographs have no patch that fits all of them.
    """
    height, width = size
    for profile in limits:
        height = min(max(height, profile.min[0]), profile.max[0])
        width = min(max(width, profile.min[1]), profile.max[1])
    patches = [
        LrPhoto(name=photo.name, lr=_middle(photo.lr, (height, width), size_multiple))
        for photo in photographs(size_multiple)
    ]
    for photo, profile in itertools.product(patches, limits):
        if not profile.holds(*photo.lr.shape[2:]):
            raise ArgumentError(
                f"the photograph '{photo.name}' has no patch of a size that these engines accept, "
                f"from {profile.min[1]}×{profile.min[0]} to {profile.max[1]}×{profile.max[0]} LR "
                "pixels: build engines with other --shapes to compare them"
            )
    return patches


def collage(side: int) -> Array:
    """Put the photographs side by side, each row in another order: float32 1×3×side×side."""
    photos = [photo.lr for photo in photographs(1)]
    height, width = (min(photo.shape[axis] for photo in photos) for axis in (2, 3))
    rows = -(-side // height)
    columns = -(-side // width)
    cells = [
        [
            photos[(2 * row + row // 2 + column) % len(photos)][..., :height, :width]
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    return np.ascontiguousarray(np.block(cells)[..., :side, :side])


def _middle(photo: Array, size: tuple[int, int], size_multiple: int) -> Array:
    """The middle of a photograph: as much of the height and width as it has and multiples allow."""
    height, width = (
        max(min(side, most) // size_multiple, 1) * size_multiple
        for side, most in zip(size, photo.shape[2:], strict=True)
    )
    top = (photo.shape[2] - height) // 2
    left = (photo.shape[3] - width) // 2
    return np.ascontiguousarray(photo[:, :, top : top + height, left : left + width])
