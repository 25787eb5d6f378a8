"""The halo that a model's tiles need, measured: tiles of real photographs against the photographs in one piece.

A network sees far: each of its convolutions reaches a pixel further, and the full-size encoder has hundreds. What is
far away hardly matters, though, and how far that is depends on the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srflow_export.parity._measure import DIVERGED
from srflow_export.parity._photos import photographs
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.bundle import Bundle, Manifest
from srflow_sdk.latents import window_noise
from srflow_sdk.tiles import Tile, plan_tiles

_MAX_ABS = 0.1 / 255
"""Largest difference anywhere: a twentieth of what the SDK promises for the embedded model, 2/255.

A matter of the photograph: the worst crop of benchmarks/halo.py has 8 times the largest difference of the photographs
here, and a photograph of some megapixels has hundreds of such crops.
"""

_MEAN_ABS = 0.001 / 255
"""Largest mean difference, of the worst photograph and temperature: likewise a twentieth of the promise."""

_LARGEST = 64
"""LR pixels. A network that needs more gets these and a warning."""

_CORE = 28  # LR pixels: a quarter of the photographs' side, and small, since the differences lie along its border
_CORNERS = ((0, -1), (3, -4))  # of the 4×4 tiles: two that lie opposite, the other two for every second photograph

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class HaloRow:
    """Tiles with a halo of so many LR pixels against no tiles, in float32 pictures with values in [0, 1].

    max_abs: largest difference. mean_abs: of the photograph and tau for which it is largest. compared: photographs and
    temperatures; those at which the network itself diverges, as in :mod:`srflow_export.parity`, are left out.
    """

    halo: int
    max_abs: float
    mean_abs: float
    compared: int

    @property
    def is_enough(self) -> bool:
        """Whether the bounds are met."""
        return self.compared > 0 and self.max_abs <= _MAX_ABS and self.mean_abs <= _MEAN_ABS

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A photograph's pictures in one piece: lr float32 1×3×h×w; by tau, float32 3×sh×sw not clipped."""

    lr: _Array
    seed: int
    pictures: dict[float, _Array]


def measured_halo(bundle: Bundle) -> tuple[HaloRow, HaloRow | None]:
    """The smallest halo that is enough, and the next smaller one; on the CPU, with the bundle's graphs.

    Candidates are the multiples of the manifest's size_multiple up to :data:`_LARGEST`. A larger halo is taken to be
    better: sizes are doubled until one is enough, then halved in between. If none is, the first row's `is_enough` is
    false. The second row is None then, and if the smallest candidate is enough.

    The photographs are the exporter's, at tau 0, the bundle's default and 1. Of each, two tiles at opposite corners are
    computed: their windows grow inwards, so that a large halo can be measured on a small photograph, and the full-size
    network takes minutes rather than an hour.
    """
    manifest = bundle.manifest
    step = manifest.size_multiple
    taus = sorted({0.0, manifest.default_tau, 1.0})
    rows: dict[int, HaloRow] = {}
    with OnnxRuntimeBackend(bundle, device="cpu") as backend:
        wholes = [
            whole(backend, manifest, photo.lr, taus=taus, seed=seed) for seed, photo in enumerate(photographs(step))
        ]

        def is_enough(units: int) -> bool:
            halo = units * step
            if halo not in rows:
                rows[halo] = _row(backend, manifest, wholes, halo)
            return rows[halo].is_enough

        units = _smallest(is_enough, largest=max(_LARGEST // step, 1))
    return rows[units * step], rows.get((units - 1) * step)


def _smallest(is_enough: Callable[[int], bool], *, largest: int) -> int:
    """The smallest of 1 … largest for which a monotone condition holds; the largest if it holds for none.

    Asked of the result, and of the number before it unless there is none, or it holds for none at all.
    """
    too_small, enough = 0, 1
    while not is_enough(enough):
        if enough == largest:
            return largest
        too_small, enough = enough, min(2 * enough, largest)
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if is_enough(middle):
            enough = middle
        else:
            too_small = middle
    return enough


def whole(backend: Backend, manifest: Manifest, lr: _Array, *, taus: Sequence[float], seed: int) -> Whole:
    """The pictures of a photograph without tiles; lr: float32 1×3×h×w in [0, 1]."""
    (tile,) = plan_tiles(lr.shape[2], lr.shape[3], core=None, halo=0, multiple=manifest.size_multiple)
    return Whole(lr=lr, seed=seed, pictures=_pictures(backend, manifest, lr, tile, taus=taus, seed=seed))


def differences(backend: Backend, manifest: Manifest, reference: Whole, tile: Tile) -> dict[float, _Array]:
    """By tau, how a tile's core differs from the same part without tiles: float32 3×h×w, at least 0.

    Pictures are clipped to [0, 1], as files are. Where the tile alone is not finite, the difference is 1.
    """
    rows, columns = tile.core.scaled(manifest.scale).slices
    pictures = _pictures(backend, manifest, reference.lr, tile, taus=tuple(reference.pictures), seed=reference.seed)
    return {
        tau: np.nan_to_num(np.abs(_clipped(picture) - _clipped(reference.pictures[tau][:, rows, columns])), nan=1.0)
        for tau, picture in pictures.items()
    }


def _row(backend: Backend, manifest: Manifest, wholes: Sequence[Whole], halo: int) -> HaloRow:
    largest, means = 0.0, []
    for number, reference in enumerate(wholes):
        kept = [tau for tau, picture in reference.pictures.items() if np.abs(picture).max() < DIVERGED]  # not for NaN
        height, width = reference.lr.shape[2:]
        tiles = plan_tiles(height, width, core=_CORE, halo=halo, multiple=manifest.size_multiple)
        found = [differences(backend, manifest, reference, tiles[at]) for at in _CORNERS[number % 2]]
        for tau in kept:
            largest = max(largest, *(float(part[tau].max()) for part in found))
            means.append(float(np.mean([part[tau].mean(dtype=np.float64) for part in found])))
    return HaloRow(halo=halo, max_abs=largest, mean_abs=max(means, default=0.0), compared=len(means))


def _pictures(
    backend: Backend, manifest: Manifest, lr: _Array, tile: Tile, *, taus: Sequence[float], seed: int
) -> dict[float, _Array]:
    """By tau, the tile's core: float32 3×h×w."""
    window = tile.window
    rows, columns = window.slices
    conditioning = backend.encode(lr[:, :, rows, columns])
    drawn = window_noise(
        manifest.latent_levels,
        scale=manifest.scale,
        seed=seed,
        sample=0,
        top=window.top,
        left=window.left,
        height=window.height,
        width=window.width,
    )
    noise = {level: array[None] for level, array in drawn.items()}
    rows, columns = tile.core.within(tile.window).scaled(manifest.scale).slices
    return {tau: backend.sample(conditioning, noise, tau)[0, :, rows, columns] for tau in taus}


def _clipped(picture: _Array) -> _Array:
    return np.clip(picture, 0, 1)
