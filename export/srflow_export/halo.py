"""Measure the halo that a model's tiles need: compare tiles of real photographs with the untiled pictures.

Each convolution lets a network see a pixel further, and the full-size encoder has hundreds. Distant pixels hardly
matter, though, and how distant that is depends on the weights.
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
"""Largest difference allowed anywhere: a twentieth of what the SDK promises for the embedded model, 2/255.

It depends on the photograph: the worst crop of benchmarks/halo.py has 8 times the largest difference of the
photographs here, and a photograph of a few megapixels has hundreds of such crops.
"""

_MEAN_ABS = 0.001 / 255
"""Largest mean difference allowed, for the worst photograph and temperature: also a twentieth of the promise."""

_LARGEST = 64
"""Largest halo in LR pixels. A network that needs more gets this one and a warning."""

_CORE = 28  # LR pixels: a quarter of the photographs' side, and small, since differences are along its border
_CORNERS = ((0, -1), (3, -4))  # of the 4×4 tiles: two opposite ones, the other two for every second photograph

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class HaloRow:
    """How tiles with a halo of this many LR pixels differ from no tiles, in float32 pictures with values in [0, 1].

    max_abs: largest difference. mean_abs: largest mean difference of a photograph and tau. compared: how many pairs of
    photograph and tau; those at which the network itself diverges, as in :mod:`srflow_export.parity`, are left out.
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
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A photograph upscaled without tiles. lr: float32 1×3×h×w. pictures: by tau, float32 3×sh×sw, not clipped."""

    lr: _Array
    seed: int
    pictures: dict[float, _Array]


def measured_halo(bundle: Bundle) -> tuple[HaloRow, HaloRow | None]:
    """Find the smallest halo that is enough, and the next smaller one, on the CPU with the bundle's graphs.

    Candidates are the multiples of the manifest's size_multiple up to :data:`_LARGEST`. A larger halo is assumed to be
    better: sizes are doubled until one is enough, then bisected. If none is enough, the first row's `is_enough` is
    false. The second row is None if it was not measured: when none is enough, or the smallest candidate is.

    The exporter's photographs are used, at tau 0, the bundle's default and 1. Two tiles at opposite corners of each are
    computed: their windows grow inwards, so a large halo can be measured on a small photograph, and the full-size
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

    It is evaluated for the result and, unless it holds for none, for the number before the result, if there is one.
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
    """Upscale a photograph without tiles; lr: float32 1×3×h×w in [0, 1]."""
    (tile,) = plan_tiles(lr.shape[2], lr.shape[3], core=None, halo=0, multiple=manifest.size_multiple)
    return Whole(lr=lr, seed=seed, pictures=_pictures(backend, manifest, lr, tile, taus=taus, seed=seed))


def differences(backend: Backend, manifest: Manifest, reference: Whole, tile: Tile) -> dict[float, _Array]:
    """Absolute differences between a tile's core and the same part without tiles, by tau: float32 3×h×w.

    Pictures are clipped to [0, 1], as files are. Where only the tile is NaN, the difference is 1.
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
        kept = [tau for tau, picture in reference.pictures.items() if np.abs(picture).max() < DIVERGED]  # false for NaN
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
