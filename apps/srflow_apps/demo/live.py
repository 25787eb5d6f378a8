"""A photo of which one crop is encoded and drawn at a time, with the pixels that the whole picture has there."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import DrawOptions, make_request
from srflow_sdk.drawing.painter import KeptTiles
from srflow_sdk.drawing.tiles import Tile, Window, padded_size
from srflow_sdk.files import read_image
from srflow_sdk.pixels.in_memory import ImageKind, from_unit, to_unit
from srflow_sdk.system.raising import memory_errors_typed, stop_if_set

if TYPE_CHECKING:
    from srflow_sdk.upscaler import Upscaler

Picture = NDArray[np.uint8]
"""H×W×C: gray or sRGB, perhaps with alpha."""

_NOTHING = Window(top=0, left=0, height=0, width=0)


class LivePhoto:
    """A photo in memory, and the conditioning of the crop that is shown.

    A crop is drawn with its halo and with the latents of its place in the photo, so it equals that part of the whole
    picture, as `Upscaler.upscale_file` writes it, up to the halo's truncation. Colours are sRGB. One thread at a time.

    upscaler: draws all with the one model that it has, or its first. path: as for :func:`~srflow_sdk.read_image`, which
    says what is raised.
    """

    def __init__(self, upscaler: Upscaler, path: Path, *, max_pixels: int) -> None:
        self._painter = upscaler._painter
        self._manifest = manifest = self._painter.manifest
        self.model = manifest.name
        with memory_errors_typed(f"for {path.name}; use a smaller photo"):
            file = read_image(path, max_pixels=max_pixels)
        self.height, self.width, channels = file.pixels.shape
        kind = ImageKind(channels=channels, dtype=file.pixels.dtype, icc_profile=file.icc_profile)
        self._lr = LowResolution.of(file.pixels, kind, multiple=manifest.size_multiple, reach=manifest.halo)
        self._kept = KeptTiles()
        self._tile = Tile(core=_NOTHING, window=_NOTHING)
        self.crop = _NOTHING

    def show(self, *, side: int, place: tuple[int, int] | None = None, cancel: threading.Event | None = None) -> None:
        """Choose the crop: `side` LR pixels wide and high. It is encoded unless it is the one that was shown before.

        It is smaller in a smaller photo, and where a TensorRT engine takes no tile as large. place: its left and top,
        moved to lie within the photo; None is in the middle.

        Raises: DeviceError, OutOfMemoryError, CancelledError.
        """
        multiple, lr = self._manifest.size_multiple, self._lr
        if self._painter.backend.window_limits is not None:
            side = min(side, self._painter.core(lr.padded_height, lr.padded_width) or side)
        left, top = place or ((self.width - side) // 2, (self.height - side) // 2)
        rows = _span(top, side, self.height, multiple)
        columns = _span(left, side, self.width, multiple)
        crop = Window(top=rows[0], left=columns[0], height=rows[1], width=columns[1])
        if crop == self.crop and len(self._kept.tiles):
            return
        self._painter.check_open()
        self._kept = KeptTiles()
        reach = padded_size(self._manifest.halo, multiple)
        above, before = max(crop.top - reach, 0), max(crop.left - reach, 0)
        below, behind = crop.top + crop.height + reach, crop.left + crop.width + reach
        height, width = min(below, lr.padded_height) - above, min(behind, lr.padded_width) - before
        self._tile = Tile(core=crop, window=Window(top=above, left=before, height=height, width=width))
        stop_if_set(cancel)
        self._kept.tiles[self._tile] = self._painter.backend.encode(self._seen()[None])
        self.crop = crop

    def draw(self, options: DrawOptions) -> Picture:
        """One sample of the crop. Raises: as :meth:`Upscaler.upscale`."""
        return self._shown(self._drawn(options, n=1)[0])

    def samples(self, n: int, options: DrawOptions) -> tuple[list[Picture], NDArray[np.float32]]:
        """Draw n samples of the crop, at least 2. The second value is their :meth:`Encoding.std`, H×W×1 or 3."""
        drawn = self._drawn(options, n=n)
        std = np.std(np.clip(drawn, 0, 1), axis=0, ddof=1, dtype=np.float64).astype(np.float32)
        return [self._shown(picture) for picture in drawn], std

    def bicubic(self) -> Picture:
        """The crop, enlarged by bicubic interpolation (Pillow's)."""
        crop, scale = self.crop, self._manifest.scale
        above, below = max(crop.top - 2, 0), min(crop.top + crop.height + 2, self.height)
        colours = from_unit(self._lr.colours(above, below), np.dtype(np.uint8))
        image = Image.fromarray(colours.squeeze(-1) if colours.shape[2] == 1 else colours)
        height, width = self._visible()
        box = (crop.left, crop.top - above, crop.left + width, crop.top - above + height)
        large = np.asarray(image.resize((width * scale, height * scale), Image.Resampling.BICUBIC, box=box))
        return self._with_alpha(large.reshape(height * scale, width * scale, -1))

    def _seen(self) -> NDArray[np.float32]:
        window = self._tile.window
        rows = self._lr.network_rows(window.top, window.top + window.height)
        return rows[:, :, window.left : window.left + window.width]

    def _visible(self) -> tuple[int, int]:
        """Height and width of the crop without what fills up the photo's last row and column."""
        crop = self.crop
        return min(crop.height, self.height - crop.top), min(crop.width, self.width - crop.left)

    def _drawn(self, options: DrawOptions, *, n: int) -> list[NDArray[np.float32]]:
        """The crop of n samples, float32 H×W×1 or 3."""
        request = make_request(options, self._manifest, height=self.height, width=self.width, n=n)
        window, lr, scale, (height, width) = self._tile.window, self._lr, self._manifest.scale, self._visible()
        temperature = request.temperature.for_rows(lr, window.top, window.top + window.height)
        wanted = dataclasses.replace(request, temperature=temperature, channels=lr.kind.colours)
        drawn = self._painter.draw(self._tile, self._seen(), wanted, self._kept)
        return [picture[: height * scale, : width * scale] for picture in drawn]

    def _shown(self, colours: NDArray[Any]) -> Picture:
        """Colours in [0, 1] as 8-bit pixels, with the crop's alpha if there is one."""
        return self._with_alpha(from_unit(colours.copy(), np.dtype(np.uint8)))

    def _with_alpha(self, pixels: Picture) -> Picture:
        if not self._lr.kind.has_alpha:
            return pixels
        crop, scale = self.crop, self._manifest.scale
        rows = self._lr.enlarged_alpha(crop.top, min(crop.top + crop.height, self.height), scale)
        alpha = rows[:, crop.left * scale : (crop.left + crop.width) * scale]
        return np.dstack([pixels, from_unit(to_unit(alpha), np.dtype(np.uint8))])


def _span(start: int, side: int, length: int, multiple: int) -> tuple[int, int]:
    """Start and length of a crop's side within the padded image, both multiples of `multiple`."""
    padded = padded_size(length, multiple)
    side = min(padded_size(side, multiple), padded)
    return min(max(start, 0), padded - side) // multiple * multiple, side
