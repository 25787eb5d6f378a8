"""A photo of which one crop is encoded and drawn at a time, with the pixels that the whole picture has there."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_apps.demo.page_pictures import most_detailed, over_squares
from srflow_sdk.drawing.low_resolution import ArrayRows, LowResolution
from srflow_sdk.drawing.options import DrawOptions, make_request
from srflow_sdk.drawing.painter import KeptTiles
from srflow_sdk.drawing.tiles import Tile, Window, padded_size
from srflow_sdk.files import read_image
from srflow_sdk.pixels.in_memory import ImageKind, from_unit, to_unit
from srflow_sdk.system.raising import memory_errors_typed, stop_if_set

if TYPE_CHECKING:
    from srflow_sdk.upscaler import Upscaler

RGB = NDArray[np.uint8]

_NOTHING = Window(top=0, left=0, height=0, width=0)


class LivePhoto:
    """A photo in memory, and the conditioning of the crop that is shown.

    A crop is drawn with its halo and with the latents of its place in the photo, so it equals that part of the whole
    picture, as `Upscaler.upscale_file` writes it, up to the halo's truncation. Colours are sRGB; what is transparent
    shows a chequerboard. One thread at a time.

    upscaler: draws all with the one model that it has, or its first. path: as for :func:`~srflow_sdk.read_image`, which
    says what is raised.
    """

    def __init__(self, upscaler: Upscaler, path: Path, *, max_pixels: int) -> None:
        self._painter = upscaler._painter
        self._manifest = self._painter.manifest
        self.model = self._manifest.name
        with memory_errors_typed(f"for {path.name}; use a smaller photo"):
            file = read_image(path, max_pixels=max_pixels)
        self.height, self.width, channels = file.pixels.shape
        self._lr = LowResolution(
            source=ArrayRows(file.pixels),
            kind=ImageKind(channels=channels, dtype=file.pixels.dtype, icc_profile=file.icc_profile),
            height=self.height,
            width=self.width,
            multiple=self._manifest.size_multiple,
            reach=self._manifest.halo,
        )
        self._kept = KeptTiles()
        self._tile = Tile(core=_NOTHING, window=_NOTHING)
        self._alpha: NDArray[np.uint8] | None = None  # of the crop, enlarged: H×W
        self.crop = _NOTHING

    def show(self, *, left: int, top: int, side: int, cancel: threading.Event | None = None) -> None:
        """Choose the crop: `side` LR pixels wide and high, moved to lie within the photo.

        It is smaller in a smaller photo, and where a TensorRT engine takes no tile as large. It is encoded unless it
        is the crop that was shown before.

        Raises: DeviceError, OutOfMemoryError, CancelledError.
        """
        multiple, lr = self._manifest.size_multiple, self._lr
        if self._painter.backend.window_limits is not None:
            side = min(side, self._painter.core(lr.padded_height, lr.padded_width) or side)
        rows = _span(top, side, self.height, multiple)
        columns = _span(left, side, self.width, multiple)
        crop = Window(top=rows[0], left=columns[0], height=rows[1], width=columns[1])
        if crop != self.crop or not len(self._kept.tiles):
            self._encode(crop, cancel)

    def most_detailed(self, side: int) -> tuple[int, int]:
        """Left and top of the crop of `side` pixels with the most detail."""
        top, left = most_detailed(self._lr.source.rows(0, self.height), side)
        return left, top

    def draw(self, *, tau: float | Literal["auto"], seed: int, sample: int) -> RGB:
        """One sample of the crop. tau: a number from 0 to 2, or "auto". Raises: as :meth:`Upscaler.upscale`."""
        return self._shown(self._drawn(DrawOptions(tau=tau, seed=seed, sample=sample), n=1)[0], self._alpha)

    def samples(
        self, n: int, *, tau: float | Literal["auto"], seed: int, cancel: threading.Event | None = None
    ) -> tuple[list[RGB], NDArray[np.float32]]:
        """Draw samples 0 … n - 1 of the crop, at least 2. The second value is their :meth:`Encoding.std`, H×W×3."""
        drawn = self._drawn(DrawOptions(tau=tau, seed=seed, cancel=cancel), n=n)
        std = np.std(np.clip(drawn, 0, 1), axis=0, ddof=1, dtype=np.float64).astype(np.float32)
        return [self._shown(picture, self._alpha) for picture in drawn], np.repeat(std, 3 // std.shape[2], 2)

    def bicubic(self) -> RGB:
        """The crop, enlarged by bicubic interpolation (Pillow's)."""
        crop, scale = self.crop, self._manifest.scale
        above, below = max(crop.top - 2, 0), min(crop.top + crop.height + 2, self.height)
        image = Image.fromarray(self._shown(self._lr.colours(above, below)))
        height, width = self._visible()
        box = (crop.left, crop.top - above, crop.left + width, crop.top - above + height)
        large = image.resize((width * scale, height * scale), Image.Resampling.BICUBIC, box=box)
        return over_squares(np.asarray(large), self._alpha)

    def _encode(self, crop: Window, cancel: threading.Event | None) -> None:
        painter, manifest, lr = self._painter, self._manifest, self._lr
        painter.check_open()
        self._kept = KeptTiles()
        reach = padded_size(manifest.halo, manifest.size_multiple)
        top, left = max(crop.top - reach, 0), max(crop.left - reach, 0)
        bottom = min(crop.top + crop.height + reach, lr.padded_height)
        right = min(crop.left + crop.width + reach, lr.padded_width)
        self._tile = Tile(core=crop, window=Window(top=top, left=left, height=bottom - top, width=right - left))
        stop_if_set(cancel)
        kept = KeptTiles()
        kept.tiles[self._tile] = painter.encode(self._seen())
        self._kept, self.crop, self._alpha = kept, crop, self._enlarged_alpha(crop)

    def _enlarged_alpha(self, crop: Window) -> NDArray[np.uint8] | None:
        if not self._lr.kind.has_alpha:
            return None
        scale = self._manifest.scale
        rows = self._lr.enlarged_alpha(crop.top, min(crop.top + crop.height, self.height), scale)
        alpha = rows[:, crop.left * scale : (crop.left + crop.width) * scale]
        return np.asarray(from_unit(to_unit(alpha), np.dtype(np.uint8)), np.uint8)

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

    def _shown(self, colours: NDArray[Any], alpha: NDArray[np.uint8] | None = None) -> RGB:
        """Colours in [0, 1] as 8-bit RGB, over squares if there is an alpha, H×W."""
        pixels: RGB = np.repeat(from_unit(colours.copy(), np.dtype(np.uint8)), 3 // colours.shape[2], axis=2)
        return over_squares(pixels, alpha)


def _span(start: int, side: int, length: int, multiple: int) -> tuple[int, int]:
    """Start and length of a crop's side within the padded image, both multiples of `multiple`."""
    padded = padded_size(length, multiple)
    side = min(padded_size(side, multiple), padded)
    return min(max(start, 0), padded - side) // multiple * multiple, side
