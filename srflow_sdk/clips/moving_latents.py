"""Latents that move with a picture: for every latent position of a frame, the place in the random field of its latents.

At a keyframe each position has its own coordinates, so that the frame is drawn as a picture alone is. In each frame
after it, position p was at q = p + flow(p) in the frame before; it takes the coordinates of the position n nearest to
q, and keeps the rest: M(p) = M_before(n) + (q - n), float64. Its latents are the field's at M(p), rounded, so that
motion by fractions of a latent pixel adds up. Positions that were not there before, and all but one of those that
would share one place, get fresh coordinates in a part of the field that is this frame's own.

So no place is used twice in a frame, and the latents of every frame are independent standard normals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.clips.optical_flow import BackwardFlow
from srflow_sdk.drawing.temperature import Temperature, on_level
from srflow_sdk.drawing.tiles import Window, padded_size
from srflow_sdk.latents.random_field import LatentLevel, standard_normal_at

MOST_KEYFRAMES = 1 << 13
"""Largest distance of keyframes."""

_FRESH_ROWS = (
    1 << 18
)  # rows of the field from one frame's own part to the next; half a row a frame is how far they drift
_FIELD = 1 << 32

Places = NDArray[np.float64]
"""Coordinates M of a level's positions, 2×H×W: rows, columns, with the fractions that are left over."""


def still_places(height: int, width: int) -> Places:
    """Every position at its own coordinates."""
    return np.indices((height, width), dtype=np.float64)


def moved_places(before: Places, flow: NDArray[np.float32], seen: NDArray[np.bool_], *, age: int) -> Places:
    """The coordinates of a frame, from those of the one before.

    flow, seen: of :class:`BackwardFlow`, on the level's grid and in its pixels. age: frames since the keyframe, which
    gives the frame its own part of the field, from 1 on.
    """
    own = still_places(*seen.shape)
    was = own + flow
    nearest = np.floor(was + 0.5)
    inside = seen & (nearest >= 0).all(0) & (nearest[0] < seen.shape[0]) & (nearest[1] < seen.shape[1])
    y, x = np.where(inside, nearest, 0).astype(np.intp)
    places = before[:, y, x] + (was - nearest)
    own[0] += age * _FRESH_ROWS
    places = np.where(inside, places, own)
    return np.where(_nearest_of_equal(places), places, own)


def _nearest_of_equal(places: Places) -> NDArray[np.bool_]:
    """H×W: True for the one of all positions with the same rounded coordinates that lies nearest to them."""
    rounded = np.floor(places + 0.5)
    away = np.abs(places - rounded).max(0).reshape(-1)
    rows, columns = rounded.astype(np.int64).reshape(2, -1)
    keys = (rows << 32) + columns
    order = np.lexsort((away, keys))  # stable: of equally near ones the first
    first = np.ones(keys.size, np.bool_)
    first[1:] = np.diff(keys[order]) != 0
    kept = np.empty_like(first)
    kept[order] = first
    return kept.reshape(places.shape[1:])


@dataclass(frozen=True, kw_only=True)
class MovingLatents:
    """The latents of one frame, drawn window by window, times their temperature.

    places: by level of the padded frame. temperature: of the frame.
    """

    levels: Sequence[LatentLevel]
    places: Mapping[int, Places]
    temperature: Temperature
    seed: int
    sample: int

    def window(self, window: Window, scale: int) -> dict[int, NDArray[np.float32]]:
        """The part of a window in LR pixels of the padded frame, by level: C×h×w."""
        maps, tau = self.temperature.on_levels(self.places, window, scale)
        latents = {}
        for entry in self.levels:
            rows, columns = window.scaled(scale, 1 << entry.level).slices
            y, x = np.floor(self.places[entry.level][:, rows, columns] + 0.5).astype(np.int64) % _FIELD
            normal = standard_normal_at(self.seed, self.sample, entry.level, channels=entry.channels, rows=y, columns=x)
            latents[entry.level] = normal * maps.get(entry.level, np.float32(tau))
        return latents


def on_levels(
    found: BackwardFlow, levels: Sequence[LatentLevel], *, scale: int, multiple: int
) -> dict[int, BackwardFlow]:
    """The motion on the grid of each level of the padded frame, in that level's pixels."""
    height, width = found.seen.shape
    margins = ((0, padded_size(height, multiple) - height), (0, padded_size(width, multiple) - width))
    rows, columns, seen = (np.pad(part, margins, mode="edge").astype(np.float32) for part in (*found.flow, found.seen))
    motion = {}
    for level in (entry.level for entry in levels):
        flow = np.stack([on_level(part, level, scale) for part in (rows, columns)])
        flow *= np.float32(scale / (1 << level))
        motion[level] = BackwardFlow(flow=flow, seen=on_level(seen, level, scale) > 0.5)
    return motion
