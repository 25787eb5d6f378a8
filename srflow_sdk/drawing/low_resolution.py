"""An LR image, some rows at a time: what the network sees of it, and what bypasses the network.

Rows of images that are larger than memory are read once, from the top down, and dropped when no
longer needed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.geometry.tiles import Window, padded_size
from srflow_sdk.pixels.colour import ColourConversion, conversion_for
from srflow_sdk.pixels.in_memory import LUMA, Floats, ImageKind, Pixels, to_unit
from srflow_sdk.pixels.transparency import ENLARGE_CONTEXT, enlarge, enlarge_alpha, fill_hidden

CHROMA_REACH = 3  # LR pixels: of 7×7, so within any 8×8 around a pixel
# of the strongest chroma around; of 24 photographs, 0.1 % of the true pixels go beyond
CHROMA_SLACK = 0.5
GRAY = 0.5 / 255  # less chroma is none: conversions of gray profiles leave as much
_CACHED = 1 << 18  # numbers of a picture that are bounded at a time
_RED, _GREEN, _BLUE = LUMA


class ArrayRows:
    """The rows of an array that is in memory anyway."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def rows(self, top: int, bottom: int) -> Pixels:
        return self._pixels[top:bottom]

    def forget(self, before: int) -> None:
        """Do nothing: rows above this number will not be requested again."""


class RowBuffer:
    """Consecutive rows, appended below and dropped above, by their number in the whole image.

    Thread-safe.

    Args:
        read: Decodes the next n of `height` rows. A thread lets it do so ahead of their use, as
            many as were last read; :meth:`close` ends it. None: rows are appended from outside.
    """

    def __init__(self, read: Callable[[int], Pixels] | None = None, *, height: int = 0) -> None:
        self._held: Pixels | None = None
        self._lock = threading.RLock()
        self._top = self._asked = 0
        self.bottom = 0
        """One more than the number of the last row."""
        self._read = read
        self._height = height
        # which starts no thread before its use
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="srflow-decode")
        self._next: Future[Pixels] | None = None

    def append(self, rows: Pixels) -> None:
        self._held = rows if self._held is None else np.concatenate([self._held, rows])
        self.bottom += len(rows)

    def rows(self, top: int, bottom: int) -> Pixels:
        """Rows top … bottom - 1, none of which was dropped. Raises: whatever `read` raises."""
        with self._lock:
            while self.bottom < bottom:
                self._next = self._next or self._ask(bottom - self.bottom)
                if self._next is None:
                    break
                rows = self._next.result()  # a failed read stays, and fails again for every caller
                self.append(rows)
                self._next = self._ask(len(rows))
            assert self._held is not None
            assert self._top <= top <= bottom <= self.bottom, "rows that were dropped"
            return self._held[top - self._top : bottom - self._top]

    def forget(self, before: int) -> None:
        with self._lock:
            before = min(before, self.bottom)
            if self._held is not None and before > self._top:
                # A copy: a view would keep the dropped rows alive.
                self._held = self._held[before - self._top :].copy()
                self._top = before

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, count: int) -> Future[Pixels] | None:
        """Let the next rows be decoded; None if there are no more."""
        count = min(count, self._height - self._asked)
        if self._read is None or not count:
            return None
        self._asked += count
        return self._pool.submit(self._read, count)


@dataclass(frozen=True, kw_only=True)
class LowResolution:
    """The LR image of one run. Rows are requested from the top down."""

    source: ArrayRows | RowBuffer
    """Its pixels by row, H×W×kind.channels."""
    kind: ImageKind
    height: int
    width: int
    multiple: int
    """The network's sides are multiples of it; the last row and column are repeated to fill up."""
    reach: int
    """Distance from a visible pixel within which the network must not see what lies under
    transparency."""

    @classmethod
    def of(cls, pixels: Pixels, kind: ImageKind, *, multiple: int, reach: int) -> LowResolution:
        """Take an image in memory."""
        height, width = pixels.shape[:2]
        return cls(
            source=ArrayRows(pixels),
            kind=kind,
            height=height,
            width=width,
            multiple=multiple,
            reach=reach,
        )

    @functools.cached_property
    def conversion(self) -> ColourConversion | None:
        """Converts its colours to sRGB for the network and back; None if they are sRGB."""
        profile = self.kind.icc_profile
        return None if profile is None else conversion_for(profile, channels=self.kind.colours)

    @property
    def network_size(self) -> tuple[int, int]:
        """The height and width of the padded image."""
        return padded_size(self.height, self.multiple), padded_size(self.width, self.multiple)

    def network_rows(self, top: int, bottom: int) -> Floats:
        """Rows of the padded image for the network: float32 3×h×W, sRGB in [0, 1]."""
        colours = self.colours(top, min(bottom, self.height))
        below = bottom - top - colours.shape[0]
        beside = self.network_size[1] - self.width
        rgb = np.repeat(colours, 3 // colours.shape[2], axis=2)
        padded = np.pad(rgb, ((0, below), (0, beside), (0, 0)), mode="edge")
        return np.ascontiguousarray(padded.transpose(2, 0, 1))

    def colours(self, top: int, bottom: int, *, own: bool = False) -> Floats:
        """Rows as the network sees them, not padded: float32 h×w×1 or 3 in [0, 1].

        They are sRGB, or of the `own` profile.
        """
        margin = self.reach if self.kind.has_alpha else 0
        above = max(top - margin, 0)
        pixels = self.source.rows(above, min(bottom + margin, self.height))
        colours = pixels[..., : self.kind.colours]
        colours = (
            to_unit(colours) if own or self.conversion is None else self.conversion.to_srgb(colours)
        )
        if margin:
            colours = fill_hidden(colours, pixels[..., -1], margin)
        return colours[top - above : bottom - above]

    def visible(self, top: int, bottom: int) -> Floats | None:
        """1 where the image is not fully transparent, otherwise 0: h×W; None if it has no alpha."""
        if not self.kind.has_alpha:
            return None
        return (self.source.rows(top, bottom)[..., -1] > 0).astype(np.float32)

    def enlarge_alpha(self, top: int, bottom: int, scale: int) -> NDArray[np.generic]:
        """Alpha of rows, `scale` times as large, of the kind's dtype: sh×sW."""
        above = max(top - ENLARGE_CONTEXT, 0)
        alpha = self.source.rows(above, min(bottom + ENLARGE_CONTEXT, self.height))[..., -1]
        return enlarge_alpha(alpha, scale)[(top - above) * scale : (bottom - above) * scale]

    def convert_to_own_profile(self, srgb: Floats, top: int, bottom: int, scale: int) -> Floats:
        """The network's colours of rows, sh×sW×3, in the image's own profile."""
        if self.conversion is None:
            return srgb
        # Colours outside sRGB bypass the network: what the conversion and back changes is enlarged
        # and added.
        above = max(top - ENLARGE_CONTEXT, 0)
        own = self.colours(above, min(bottom + ENLARGE_CONTEXT, self.height), own=True)
        lost = own - self.conversion.from_srgb(self.conversion.to_srgb(own))
        lost = enlarge(lost, len(lost) * scale, lost.shape[1] * scale)[
            (top - above) * scale : (bottom - above) * scale
        ]
        result: Floats = self.conversion.from_srgb(np.clip(srgb, 0, 1)) + lost
        # and so it is in every RGB profile
        gray = (np.ptp(srgb, axis=2) == 0) & (np.ptp(lost, axis=2) < GRAY)
        result[gray] = result[gray, 1:2]
        return result

    def forget(self, before: int) -> None:
        """Drop the rows above this one, of which nothing will be requested again."""
        margin = ENLARGE_CONTEXT + (self.reach if self.kind.has_alpha else 0)
        self.source.forget(max(before - margin, 0))


class ChromaBounds:
    """How far from gray the pictures of a tile's core may be: little further than the LR pixels.

    Blue less luma and red less luma each stay between the least and the largest value of the 7×7 LR
    pixels around, give or take half of the largest magnitude: gray stays gray, one hue stays that
    hue, and colours hardly notice.
    """

    def __init__(self, lr: Floats, core: Window, halo: int) -> None:
        """Find the bounds.

        Args:
            lr: A tile's window, 3×h×w in [0, 1].
            core: In it.
            halo: Around the core, where the image goes on.
        """
        # Many names: of the two differences, their bounds, and what is around a pixel.
        luma = _RED * lr[0] + _GREEN * lr[1] + _BLUE * lr[2]
        reach = min(CHROMA_REACH, halo)  # within the halo, so that tiles do not decide
        chroma = np.pad(
            np.stack([lr[2] - luma, lr[0] - luma]),
            ((0, 0), (reach, reach), (reach, reach)),
            mode="edge",
        )
        rows, columns = (slice(side.start, side.stop + 2 * reach) for side in core.slices)
        low, high = chroma[:, rows, columns], chroma[:, rows, columns]
        for axis, count in (1, core.height), (2, core.width):
            around = [
                (slice(None),) * axis + (slice(at, at + count),) for at in range(2 * reach + 1)
            ]
            low = functools.reduce(np.minimum, (low[shifted] for shifted in around))
            high = functools.reduce(np.maximum, (high[shifted] for shifted in around))
        most = np.maximum(np.abs(low), np.abs(high)).max(axis=0)
        gray = most < GRAY
        slack = np.float32(CHROMA_SLACK) * most
        self.limits: Floats = np.where(gray, 0, np.concatenate([low - slack, high + slack]))
        """The least blue and red less luma at each LR pixel of the core, and the largest: 4×h×w."""

    def limit(self, picture: Floats) -> Floats:
        """A picture of the core, float32 sh×sw×3, with the same luma.

        What is within bounds is as it was.
        """
        height, width = self.limits.shape[1:]
        scale = picture.shape[0] // height
        values = picture.reshape(height, scale, width * scale, 3)
        result = values
        step = max(1, _CACHED * height // values.size)
        for top in range(0, height, step):  # what lies between stays in the processor's cache
            rows = slice(top, top + step)
            limits = self.limits[:, rows, None].repeat(scale, axis=3)
            beyond, near = _find_beyond(values[rows], limits)
            if near.size:
                result = values.copy() if result is values else result
                result[rows][beyond] = near
        return result.reshape(picture.shape)


def _find_beyond(values: Floats, limits: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Find the pixels beyond bounds, and the nearest colours with the same luma for them."""
    luma = _RED * values[..., 0] + _GREEN * values[..., 1] + _BLUE * values[..., 2]
    blue = values[..., 2] - luma
    red = values[..., 0] - luma
    beyond = ~((blue >= limits[0]) & (blue <= limits[2]) & (red >= limits[1]) & (red <= limits[3]))
    least_blue, least_red, most_blue, most_red = np.broadcast_to(limits, (4, *luma.shape))[
        :, beyond
    ]
    luma = luma[beyond]
    blue = np.clip(blue[beyond], least_blue, most_blue)
    red = np.clip(red[beyond], least_red, most_red)
    green = luma - (_RED * red + _BLUE * blue) / _GREEN
    return beyond, np.stack([luma + red, green, luma + blue], axis=-1)
