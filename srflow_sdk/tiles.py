"""Where tiles lie: pure geometry, in LR pixels unless said otherwise.

A tile computes its core, the part that it contributes, with a halo of real neighbouring pixels around it. Halos stop at
the image's border, where the network pads as it would for the whole image. Everything is a multiple of the network's
size multiple, so that latents of a tile are a window of the image's latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from srflow_sdk.errors import ArgumentError

TileSize = int | Literal["auto", "none"]

MIN_TILE = 16
"""Smallest tile that may be asked for: below it, halos cost many times the work."""

AUTO_BUDGET_BYTES = 768 << 20
"""What `tile="auto"` lets a tile's conditioning and activations take together on the CPU, where there is that much."""

_ACTIVATIONS_FACTOR = (
    4.2  # conditioning and activations together, in units of the conditioning: benchmarks/tile_time.py
)
_AUTO_MIN, _AUTO_MAX = 64, 512
_AUTO_STEP = 16  # so that a little more or less free memory does not give other tiles


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle: rows top … top + height - 1, columns left … left + width - 1."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The same rectangle as an index of the last two dimensions of a channels-first array."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def scaled(self, numerator: int, denominator: int = 1) -> Window:
        """The rectangle on a grid that is numerator / denominator times as fine; it must fit that grid exactly."""
        values = [value * numerator for value in (self.top, self.left, self.height, self.width)]
        if any(value % denominator for value in values):
            raise ArgumentError(f"{self} does not fall on whole pixels at {numerator}/{denominator}")
        top, left, height, width = (value // denominator for value in values)
        return Window(top=top, left=left, height=height, width=width)

    def within(self, outer: Window) -> Window:
        """The rectangle in coordinates that start at the outer one's corner."""
        return Window(top=self.top - outer.top, left=self.left - outer.left, height=self.height, width=self.width)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """core: what the tile contributes. window: what the network sees, the core with its halo."""

    core: Window
    window: Window

    def latent_window(self, level: int, scale: int) -> Window:
        """The tile's latents of one level, in that level's latent pixels of the whole image."""
        return self.window.scaled(scale, 1 << level)


def padded_size(size: int, multiple: int) -> int:
    """The smallest multiple that is at least `size`."""
    return -(-size // multiple) * multiple


def core_size(
    tile: TileSize,
    *,
    height: int,
    width: int,
    multiple: int,
    halo: int,
    conditioning_bytes_per_pixel: int,
    budget: int = AUTO_BUDGET_BYTES,
) -> int | None:
    """The largest core side for an image, a whole multiple of `multiple`; None: the whole image is one tile.

    tile: "auto" lets a tile take `budget` bytes (the core stays within 64 … 512 pixels), "none" is one tile whatever it
    costs, a number is the core's side, at least 16, rounded up to a multiple.

    Raises: ArgumentError for anything else.
    """
    if tile == "none":
        return None
    if tile == "auto":
        affordable = int(budget / (_ACTIVATIONS_FACTOR * conditioning_bytes_per_pixel))
        if height * width <= affordable:
            return None
        side = (math.isqrt(affordable) - 2 * halo) // _AUTO_STEP * _AUTO_STEP
        return padded_size(min(max(side, _AUTO_MIN), _AUTO_MAX), multiple)
    check_tile(tile)
    return padded_size(int(tile), multiple)


def check_tile(tile: object) -> None:
    """Raises: ArgumentError unless it is "auto", "none" or a whole number of LR pixels from :data:`MIN_TILE` on."""
    if tile in ("auto", "none"):
        return
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < MIN_TILE:
        raise ArgumentError(f'tile is {tile!r}; it is "auto", "none" or a whole number of LR pixels from {MIN_TILE} on')


def plan_tiles(height: int, width: int, *, core: int | None, halo: int, multiple: int) -> list[Tile]:
    """Tiles whose cores cover a height×width image exactly once, row by row.

    height, width: multiples of `multiple` (see :func:`padded_size`). core: the largest side of a core, a multiple too;
    None: one tile. Cores are of nearly equal size, so that no sliver remains at the end. halo is rounded up to a
    multiple.
    """
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ArgumentError(f"a {width}×{height} image cannot be tiled: its sides are not multiples of {multiple}")
    reach = padded_size(halo, multiple)
    return [
        _tile(rows, columns, height=height, width=width, reach=reach)
        for rows in _intervals(height, core, multiple)
        for columns in _intervals(width, core, multiple)
    ]


def tile_rows(tiles: Sequence[Tile]) -> list[list[Tile]]:
    """The tiles of :func:`plan_tiles`, one list for every row of tiles."""
    return [list(row) for _, row in groupby(tiles, key=lambda tile: tile.core.top)]


def split_tile(tile: Tile, *, height: int, width: int, core: int, halo: int, multiple: int) -> list[Tile]:
    """Smaller tiles, of cores up to `core`, that contribute together what the tile does; see :func:`plan_tiles`."""
    return [
        _tile(
            (tile.core.top + rows[0], tile.core.top + rows[1]),
            (tile.core.left + columns[0], tile.core.left + columns[1]),
            height=height,
            width=width,
            reach=padded_size(halo, multiple),
        )
        for rows in _intervals(tile.core.height, core, multiple)
        for columns in _intervals(tile.core.width, core, multiple)
    ]


def _intervals(length: int, core: int | None, multiple: int) -> Sequence[tuple[int, int]]:
    """(start, end) of nearly equal parts of 0 … length, none longer than the core."""
    count = 1 if core is None else -(-length // core)
    units = length // multiple
    edges = [units * index // count * multiple for index in range(count + 1)]
    return list(pairwise(edges))


def _tile(rows: tuple[int, int], columns: tuple[int, int], *, height: int, width: int, reach: int) -> Tile:
    def grown(interval: tuple[int, int], limit: int) -> tuple[int, int]:
        return max(interval[0] - reach, 0), min(interval[1] + reach, limit)

    return Tile(core=_window(rows, columns), window=_window(grown(rows, height), grown(columns, width)))


def _window(rows: tuple[int, int], columns: tuple[int, int]) -> Window:
    return Window(top=rows[0], left=columns[0], height=rows[1] - rows[0], width=columns[1] - columns[0])
