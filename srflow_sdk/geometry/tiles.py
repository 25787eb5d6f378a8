"""Where tiles lie: pure geometry, in LR pixels unless stated otherwise.

A tile computes its core, the part that it contributes, with a halo of real neighbouring pixels
around it. Halos stop at the image's border, where the network pads as it would for the whole image.
Everything is a multiple of the network's size multiple, so that a tile's latents are a window of
the image's latents.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal

from srflow_sdk._checks import whole
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.geometry.sizes import LrProfile

TileSize = int | Literal["auto"] | None
"""Side of tiles in LR pixels; "auto" fits them to the free memory; None: the whole image is one
tile."""

MIN_TILE = 16
"""Smallest tile allowed: below it, halos cost many times the work."""

AUTO_BUDGET_BYTES = 768 << 20
"""Memory that `tile="auto"` allows a tile's conditioning and activations together on the CPU, if so
much is free."""

AUTO_ROOMY_BYTES = 1920 << 20
"""Memory that it allows where plenty is free: in it, the embedded model's halos are less than a
quarter of the work."""

CPU_ACTIVATIONS = 2.6
GPU_ACTIVATIONS = 4.2
TRIMMED_ACTIVATIONS = 4.6
OTHER_ACTIVATIONS = 5.5
"""Conditioning and activations together, in units of the conditioning: ONNX Runtime on the CPU,
GPUs, OpenVINO's encoder on a CPU whose system takes freed memory back, and all others.

docs/notes/speed.md has how they were measured, but for GPUs, whose factor was measured with larger
graphs.
"""

_AUTO_GOOD = 64
_AUTO_MAX = 512
_MANY = 8  # tiles a side: from here on, windows of one size cost at most 6 % more work
_AUTO_STEP = 16  # so that a little more or less free memory does not give other tiles


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle on a grid: rows top … top + height - 1, columns left … left + width - 1."""

    top: int
    left: int
    height: int
    width: int

    def __str__(self) -> str:
        return (
            f"rows {self.top} to {self.top + self.height - 1} and columns {self.left} to "
            f"{self.left + self.width - 1}"
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle as an index of an array's last two dimensions, such as of C×H×W."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def scaled(self, numerator: int, denominator: int = 1) -> Window:
        """The rectangle on a grid numerator / denominator times as fine.

        Raises: ArgumentError unless it fits it.
        """
        values = [value * numerator for value in (self.top, self.left, self.height, self.width)]
        if any(value % denominator for value in values):
            raise ArgumentError(f"{self} do not fall on whole pixels at {numerator}/{denominator}")
        top, left, height, width = (value // denominator for value in values)
        return Window(top=top, left=left, height=height, width=width)

    def within(self, outer: Window) -> Window:
        """The rectangle in coordinates that start at the outer one's corner."""
        return Window(
            top=self.top - outer.top,
            left=self.left - outer.left,
            height=self.height,
            width=self.width,
        )


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A piece of an image that is computed at once.

    Attributes:
        core: The part that it contributes.
        window: The part that the network sees, the core with its halo.
    """

    core: Window
    window: Window

    @property
    def side(self) -> int:
        """The core's longer side."""
        return max(self.core.height, self.core.width)


def padded_size(size: int, multiple: int) -> int:
    """Round a size up to a multiple."""
    return -(-size // multiple) * multiple


def core_size(
    tile: TileSize,
    *,
    height: int,
    width: int,
    multiple: int,
    halo: int,
    conditioning_bytes_per_pixel: int,
    activations: float = GPU_ACTIVATIONS,
    budget: int = AUTO_BUDGET_BYTES,
    most: int | None = None,
    limits: LrProfile | None = None,
) -> int | None:
    """Choose the side of an image's cores, a whole multiple of `multiple`.

    None: the whole image is one tile.

    Args:
        tile: "auto" lets a tile take `budget` bytes, or up to `most` for a core of 64 pixels, below
            which halos cost more than the tile; the core has 16 to 512 pixels. None is one tile at
            any cost; a number is the core's side, at least 16, rounded up to a multiple.
        height, width: Of the image in LR pixels.
        halo: In LR pixels, on each side.
        conditioning_bytes_per_pixel: As of the manifest.
        activations: Memory of a tile, in units of its conditioning.
        limits: Window sizes that the backend takes; "auto" prefers the optimal one.

    Raises:
        ArgumentError: `tile` is anything else.
        DeviceError: Such tiles are larger than the backend takes.
    """
    if tile is None:
        core = None
    elif tile == "auto":
        pixels = [
            int(size / (activations * conditioning_bytes_per_pixel)) for size in (budget, most or 0)
        ]
        core = None
        if height * width > pixels[0]:
            normal, largest = (
                (math.isqrt(count) - 2 * halo) // _AUTO_STEP * _AUTO_STEP for count in pixels
            )
            core = max(normal, min(_AUTO_GOOD, largest), MIN_TILE)
            core = padded_size(min(core, _AUTO_MAX), multiple)
    else:
        core = padded_size(int(tile), multiple)
    if limits is None:
        return core
    return _limited_core(
        tile, core, limits, height=height, width=width, halo=halo, multiple=multiple
    )


def _limited_core(
    tile: TileSize,
    core: int | None,
    limits: LrProfile,
    *,
    height: int,
    width: int,
    halo: int,
    multiple: int,
) -> int | None:
    """The core, or None, such that no window is larger than the backend takes."""
    reach = padded_size(halo, multiple)
    most = f"{limits.max[1]}×{limits.max[0]} LR pixels"
    # A side that the backend takes whole may be cut or not: no window is longer than the image.
    cut = [
        longest for side, longest in zip((height, width), limits.max, strict=True) if side > longest
    ]
    if not cut and (core is None or tile != "auto"):
        return core
    largest = min(
        ((longest - 2 * reach) // multiple * multiple for longest in cut), default=core or 0
    )
    if largest < multiple:
        raise DeviceError(
            f"the engines take at most {most}, and the halo ({reach} on every side) fills all of "
            "it; build larger "
            f"ones: srflow-export with --shapes {replace(limits, max=(4 * reach + MIN_TILE,) * 2)}"
        )
    if tile == "auto":
        best = max(
            (min(limits.opt) - 2 * reach) // multiple * multiple, padded_size(MIN_TILE, multiple)
        )
        return min(core or best, best, largest)
    if core is None or core > largest:
        asked = max(height, width) if core is None else core + 2 * reach
        what = (
            f"the image, {width}×{height},"
            if core is None
            else f"tile={core} with its halo, {asked}×{asked},"
        )
        smaller = f" or tile={largest}" if largest >= MIN_TILE else ""
        raise DeviceError(
            f"{what} is larger than the {most} that the engines take at once; use "
            f'tile="auto"{smaller}, or build '
            f"larger ones: srflow-export with --shapes {replace(limits, max=(asked, asked))}"
        )
    return core


def check_tile(tile: object) -> None:
    """Check the size of tiles.

    Raises: ArgumentError unless it is "auto", None or a whole number from 16 on.
    """
    if tile is not None and not (isinstance(tile, str) and tile == "auto"):
        whole(
            "tile",
            tile,
            least=MIN_TILE,
            also='"auto", None (the whole image) or ',
            of=" of LR pixels",
        )


def plan_tiles(
    height: int,
    width: int,
    *,
    core: int | None,
    halo: int,
    multiple: int,
    least: tuple[int, int] = (1, 1),
) -> list[Tile]:
    """Cut a height×width image into tiles whose cores cover it exactly once, row by row.

    Cores are of nearly equal size, so that no sliver remains at the end. Windows have few different
    sizes, because runtimes keep memory for every size: those of corners, edges and inner tiles.
    With many tiles there is one size only, and tiles at the border see more than their halo.

    Args:
        height, width: Multiples of `multiple` (see :func:`padded_size`).
        core: The largest side of a core, also a multiple; None: one tile.
        halo: Is rounded up to a multiple.
        least: The smallest height and width of windows, if the image is that large.
    """
    whole = Window(top=0, left=0, height=height, width=width)
    return split_tile(
        Tile(core=whole, window=whole), core=core, halo=halo, multiple=multiple, least=least
    )


def tile_rows(tiles: Sequence[Tile]) -> list[list[Tile]]:
    """Group the tiles of :func:`plan_tiles` into one list for every row of them."""
    return [list(row) for _, row in groupby(tiles, key=lambda tile: tile.core.top)]


def split_tile(
    tile: Tile, *, core: int | None, halo: int, multiple: int, least: tuple[int, int] = (1, 1)
) -> list[Tile]:
    """Split a tile into smaller ones, as :func:`plan_tiles` an image.

    Together they see no more than it.
    """
    rows, columns = tile.window.slices
    whole = tile.core
    cut = functools.partial(_spans, core=core, reach=padded_size(halo, multiple), multiple=multiple)
    vertical = cut(whole.top, whole.height, inside=rows, least=least[0])
    horizontal = cut(whole.left, whole.width, inside=columns, least=least[1])
    return [
        Tile(
            core=Window(top=top, left=left, height=bottom - top, width=right - left),
            window=Window(top=above, left=before, height=below - above, width=after - before),
        )
        for (top, bottom), (above, below) in vertical
        for (left, right), (before, after) in horizontal
    ]


def _spans(
    first: int,
    length: int,
    *,
    inside: slice,
    core: int | None,
    reach: int,
    multiple: int,
    least: int,
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Cut a length into nearly equal parts, none longer than the core, as (start, end).

    Each comes with the (start, end) that it sees.
    """
    count = 1 if core is None else -(-length // core)
    units = length // multiple
    parts = list(pairwise(units * index // count * multiple for index in range(count + 1)))
    longest = max(end - start for start, end in parts)
    seen = longest + 2 * reach
    low, high = inside.start, inside.stop
    spans = []
    for start, end in ((first + start, first + end) for start, end in parts):
        top, bottom = max(start - reach, low), min(end + reach, high)
        shorter = longest - (end - start)
        if len(parts) >= _MANY and seen <= high - low:
            top = max(min(top, high - seen), low)
            bottom = top + seen
        elif bottom < high:
            bottom = min(bottom + shorter, high)
        else:
            top = max(top - shorter, low)
        if bottom - top < least:
            bottom = min(top + padded_size(least, multiple), high)
            top = max(bottom - padded_size(least, multiple), low)
        spans.append(((start, end), (top, bottom)))
    return spans
