"""A part of a photo, drawn again and again: the pixels that the whole picture has there.

The encoder sees the part with its halo, and the latents are those of the part's place in the whole
photo. Both are what tiles do, so the part of the seed is the part of the picture that "Save"
writes, but for the few colours far from those around them, which samples do not have and decoded
latents do. A gray photo in RGB goes in as gray, so that it stays so.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk import Latents, Upscaler
from srflow_sdk.geometry.tiles import Window, padded_size
from srflow_sdk.latents.random_field import window_noise

Pixels = NDArray[Any]
"""H×W×1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha), as the SDK reads files: uint8, uint16
or float32."""
RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """A part of a photo: its top left corner and its sides, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(
        cls, y: float, x: float, *, side: int, height: int, width: int, multiple: int
    ) -> Place:
        """The part of at most side×side pixels of a height×width photo whose middle is as near as
        can be.

        multiple: of the corner, as latents need it.
        """
        rows, columns = min(side, height), min(side, width)
        top, left = (
            min(max(round((middle - part / 2) / multiple), 0), (length - part) // multiple)
            * multiple
            for middle, part, length in ((y, rows, height), (x, columns, width))
        )
        return cls(top, left, rows, columns)


def as_rgb(pixels: Pixels) -> RGB:
    """Pixels of any kind that the SDK reads, as 8-bit RGB for a screen; transparent parts become
    white.
    """
    if pixels.dtype == np.uint8 and pixels.shape[2] in (
        1,
        3,
    ):  # nothing to compute, and large photos have many pixels
        return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    unit = pixels.astype(np.float32) / np.float32(largest)
    if unit.shape[2] in (2, 4):
        alpha = unit[..., -1:]
        unit = unit[..., :-1] * alpha + 1 - alpha
    rgb = np.repeat(unit, 3 // unit.shape[2], axis=2)
    return np.rint(255 * rgb).astype(np.uint8)


class LivePart:
    """A part that was encoded. Raises what :meth:`Upscaler.encode` does.

    The photo's pixels go in as they are, so that the SDK does with gray, alpha and 16 bits what it
    does with files.
    """

    def __init__(self, upscaler: Upscaler, photo: Pixels, place: Place) -> None:
        manifest = upscaler.bundle.manifest
        halo = padded_size(manifest.halo, manifest.size_multiple)
        top, left = max(place.top - halo, 0), max(place.left - halo, 0)
        seen = photo[top : place.top + place.height + halo, left : place.left + place.width + halo]
        gray = seen.shape[2] > 2 and (seen[..., :3] == seen[..., :1]).all()
        self._upscaler = upscaler
        self._channels = photo.shape[2]
        self._window = Window(top=top, left=left, height=seen.shape[0], width=seen.shape[1])
        self._place = place
        self._encoding = upscaler.encode(
            np.ascontiguousarray(seen[..., [0, *range(3, seen.shape[2])]] if gray else seen)
        )

    def sample(self, *, tau: float, seed: int, cancel: threading.Event) -> Pixels:
        """The part, `scale` times as large, in the photo's channels and dtype. Raises as
        :meth:`Encoding.decode`.
        """
        manifest = self._upscaler.bundle.manifest
        window = self._window
        scale = manifest.scale
        multiple = manifest.size_multiple
        noise = window_noise(
            manifest.latent_levels,
            scale=scale,
            seed=seed,
            sample=0,
            top=window.top,
            left=window.left,
            height=padded_size(window.height, multiple),
            width=padded_size(window.width, multiple),
        )
        latents = Latents(
            {level: np.float32(tau) * values for level, values in noise.items()},
            height=window.height * scale,
            width=window.width * scale,
            model_sha256=self._upscaler.bundle.model_sha256,
        )
        picture = self._encoding.decode(latents, cancel=cancel)
        if picture.shape[2] < self._channels:
            picture = picture[..., [0, 0, 0, *range(1, picture.shape[2])]]
        top, left = (self._place.top - window.top) * scale, (self._place.left - window.left) * scale
        return picture[
            top : top + self._place.height * scale, left : left + self._place.width * scale
        ]
