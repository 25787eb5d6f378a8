"""A photo of which one crop is encoded and drawn at a time, with the pixels that the whole picture
has there.
"""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import DrawOptions, make_request
from srflow_sdk.drawing.painter import KeptTiles, Painter
from srflow_sdk.files import read_image
from srflow_sdk.geometry.tiles import Tile, Window, padded_size
from srflow_sdk.pixels.in_memory import ImageKind, from_unit, to_unit
from srflow_sdk.system.interrupts import memory_errors_typed, stop_if_set

Picture = NDArray[np.uint8]
"""H×W×C: gray or sRGB, perhaps with alpha."""

_NOTHING = Window(top=0, left=0, height=0, width=0)


class LivePhoto:
    """A photo in memory, and the conditioning of the crop that is shown.

    A crop is drawn with its halo and with the latents of its place in the photo, so it equals that
    part of the whole picture, as `Upscaler.upscale_file` writes it, up to the halo's truncation.
    Colours are sRGB. One thread at a time.

    path: as for :func:`~srflow_sdk.read_image`, which says what is raised.
    """

    def __init__(self, painter: Painter, path: Path, *, max_pixels: int) -> None:
        self._painter = painter
        self._manifest = manifest = painter.manifest
        self.model = manifest.name
        with memory_errors_typed(f"for {path.name}; use a smaller photo"):
            file = read_image(path, max_pixels=max_pixels)
        self.height, self.width, channels = file.pixels.shape
        kind = ImageKind(channels=channels, dtype=file.pixels.dtype, icc_profile=file.icc_profile)
        self._lr = LowResolution.of(
            file.pixels, kind, multiple=manifest.size_multiple, reach=manifest.halo
        )
        self._kept = KeptTiles()
        self._tile = Tile(core=_NOTHING, window=_NOTHING)
        self.crop = _NOTHING
        """The tile's core, without what fills up the photo's last row and column."""

    def show(
        self,
        *,
        side: int,
        place: tuple[int, int] | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Choose the crop: `side` LR pixels wide and high. It is encoded unless it is the one that
        was shown before.

        It is smaller in a smaller photo, and where a TensorRT engine takes no tile as large. place:
        its left and top, moved to lie within the photo; None is in the middle.

        Raises: DeviceError, OutOfMemoryError, CancelledError.
        """
        lr = self._lr
        if self._painter.backend.window_limits is not None:
            side = min(side, self._painter.choose_core(*lr.network_size) or side)
        left, top = place or ((self.width - side) // 2, (self.height - side) // 2)
        (top, height), (above, seen_height) = self._place_side(top, side, lr.network_size[0])
        (left, width), (before, seen_width) = self._place_side(left, side, lr.network_size[1])
        core = Window(top=top, left=left, height=height, width=width)
        tile = Tile(
            core=core, window=Window(top=above, left=before, height=seen_height, width=seen_width)
        )
        if tile in self._kept.tiles:
            return
        self._painter.check_open()
        stop_if_set(cancel)
        self._kept = KeptTiles()
        self._tile = tile
        rows = lr.network_rows(above, above + seen_height)
        self._seen = np.ascontiguousarray(rows[:, :, before : before + seen_width])
        height, width = min(height, self.height - top), min(width, self.width - left)
        self.crop = dataclasses.replace(core, height=height, width=width)
        self._kept.tiles[tile] = self._painter.backend.encode(self._seen[None])

    def draw(self, options: DrawOptions) -> Picture:
        """One sample of the crop. Raises: as :meth:`Upscaler.upscale`."""
        return self._to_picture(self._draw_crop(options, n=1)[0])

    def samples(self, n: int, options: DrawOptions) -> tuple[list[Picture], NDArray[np.float32]]:
        """Draw n samples of the crop, at least 2. The second value is their :meth:`Encoding.std`,
        H×W×1 or 3.
        """
        drawn = self._draw_crop(options, n=n)
        std = np.std(np.clip(drawn, 0, 1), axis=0, ddof=1, dtype=np.float64).astype(np.float32)
        return [self._to_picture(picture) for picture in drawn], std

    def enlarge_bicubic(self) -> Picture:
        """The crop, enlarged by bicubic interpolation (Pillow's)."""
        crop = self.crop
        scale = self._manifest.scale
        above = max(crop.top - 2, 0)
        below = min(crop.top + crop.height + 2, self.height)
        colours = from_unit(self._lr.colours(above, below), np.dtype(np.uint8))
        image = Image.fromarray(colours.squeeze(-1) if colours.shape[2] == 1 else colours)
        height, width = crop.height * scale, crop.width * scale
        box = (crop.left, crop.top - above, crop.left + crop.width, crop.top - above + crop.height)
        large = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
        return self._to_picture(to_unit(large.reshape(height, width, -1)))

    def _place_side(
        self, start: int, side: int, length: int
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and length of a crop's side within the padded image, and of what the network sees:
        all multiples.
        """
        multiple = self._manifest.size_multiple
        side = min(padded_size(side, multiple), length)
        reach = padded_size(self._manifest.halo, multiple)
        start = min(max(start, 0), length - side) // multiple * multiple
        first = max(start - reach, 0)
        return (start, side), (first, min(start + side + reach, length) - first)

    def _draw_crop(self, options: DrawOptions, *, n: int) -> list[NDArray[np.float32]]:
        """The crop of n samples, float32 H×W×1 or 3."""
        request = make_request(options, self._manifest, height=self.height, width=self.width, n=n)
        window = self._tile.window
        lr = self._lr
        scale = self._manifest.scale
        temperature = request.temperature.for_rows(lr, window.top, window.top + window.height)
        wanted = dataclasses.replace(request, temperature=temperature, channels=lr.kind.colours)
        drawn = self._painter.draw(self._tile, self._seen, wanted, self._kept)
        return [picture[: self.crop.height * scale, : self.crop.width * scale] for picture in drawn]

    def _to_picture(self, colours: NDArray[np.float32]) -> Picture:
        """Colours in [0, 1] as 8-bit pixels, with the crop's alpha if there is one."""
        crop = self.crop
        scale = self._manifest.scale
        parts = [colours]
        if self._lr.kind.has_alpha:
            rows = self._lr.enlarge_alpha(crop.top, crop.top + crop.height, scale)
            parts.append(
                to_unit(rows[:, crop.left * scale : (crop.left + crop.width) * scale, None])
            )
        return from_unit(np.concatenate(parts, axis=2), np.dtype(np.uint8))
