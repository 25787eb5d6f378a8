"""Measure the halo that a model's tiles need: cut real photographs, and see how far from the cuts pictures change.

Each convolution lets a network see a pixel further, and the full-size encoder has hundreds. Distant pixels hardly
matter, though, and how distant that is depends on the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srflow_export._progress import Progress
from srflow_export.parity._measure import DIVERGED
from srflow_export.parity._photos import photographs
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.drawing.tiles import Tile, Window, plan_tiles
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import REQUIRED_FILES

_MAX_ABS = 0.1 / 255
"""Largest difference allowed anywhere: a twentieth of what the SDK promises for the embedded model, 2/255.

It depends on the photograph: the worst crop of benchmarks/halo.py has 8 times the largest difference of the
photographs here, and a photograph of a few megapixels has hundreds of such crops.

No bound here ends an export. A bad network sees further than the largest halo, or multiplies its rounding: it gets the
largest halo, and a warning of seams. Where its own pictures diverge there is nothing to measure: the same, said so. A
bad export cannot be told here, as graphs are compared with themselves; the gate has refused it before.
"""

_MEAN_ABS = 0.001 / 255
"""Largest mean difference allowed, for the worst photograph and temperature: also a twentieth of the promise."""

_USUAL, _LARGEST = 32, 64
"""Largest halos in LR pixels, measured on parts of the photographs and on all of them. A network that needs more than
the second gets that one and a warning.
"""

_CORE, _BEYOND = 28, 20
"""LR pixels of a core, whose mean difference counts (differences are along its border), and behind the cuts. Both are
rounded up to multiples of a network's size_multiple.
"""

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
        """True if the bounds are met."""
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


def measured_halo(bundle: Bundle, *, say: Callable[[str], None] = lambda _: None) -> tuple[HaloRow, HaloRow | None]:
    """Find the smallest halo that is enough, and the next smaller one, on the CPU with the bundle's float32 graphs.

    Candidates are the multiples of the manifest's size_multiple up to :data:`_LARGEST`. If none is enough, the first
    row's `is_enough` is false, and the second row is None; it is also None if the smallest candidate is enough. The
    photographs are too small for networks with a size_multiple above 32, and for their largest candidates.

    Each of the exporter's photographs is computed whole and once more without what lies behind two cuts, a horizontal
    and a vertical one, at tau 0, the bundle's default and 1. What is at least a halo away from both cuts is what a tile
    with that halo shows, so two computations give the differences for every halo. `say` receives lines of progress.
    """
    rows: list[HaloRow] = []
    # Rounding in half differs in every window, and a network that multiplies it would get the largest halo for it.
    graphs = bundle.manifest.float32_graphs or REQUIRED_FILES
    with OnnxRuntimeBackend(bundle, device="cpu", graphs=graphs) as backend:
        for largest in (_USUAL, _LARGEST):
            rows = _rows(backend, bundle.manifest, largest, say) or rows
            enough = next((index for index, row in enumerate(rows) if row.is_enough), None)
            if enough is not None:
                return rows[enough], rows[enough - 1] if enough else None
    if rows:
        return rows[-1], None
    step = bundle.manifest.size_multiple
    return HaloRow(halo=max(_LARGEST // step, 1) * step, max_abs=0.0, mean_abs=0.0, compared=0), None


def _rows(backend: Backend, manifest: Manifest, largest: int, say: Callable[[str], None]) -> list[HaloRow]:
    """A row for each halo up to the largest that is a multiple, and that the photographs are large enough for."""
    step, photos = manifest.size_multiple, photographs(manifest.size_multiple)
    core, beyond = (-(-length // step) * step for length in (_CORE, _BEYOND))
    largest = max(largest // step, 1) * step
    side = min(largest + core + beyond, *(length for photo in photos for length in photo.lr.shape[2:]))
    inside = side - beyond
    halos = range(step, min(largest, inside - step) + 1, step)
    if not halos:
        return []
    largest_differences: dict[int, list[float]] = {halo: [] for halo in halos}
    means: dict[int, list[float]] = {halo: [] for halo in halos}
    progress = Progress(f"measuring the halo, up to {largest}", len(photos), say)
    for number, photo in enumerate(photos):
        lr = np.ascontiguousarray(photo.lr[..., :side, :side])
        reference = whole(backend, manifest, lr, taus=sorted({0.0, manifest.default_tau, 1.0}), seed=number)
        start = (side - inside) * (number % 2)  # the upper left part of one photograph, the lower right of the next
        part = Window(top=start, left=start, height=inside, width=inside)
        for tau, found in differences(backend, manifest, reference, Tile(core=part, window=part)).items():
            if not np.abs(reference.pictures[tau]).max() < DIVERGED:  # true for NaN
                continue
            pixels = found.reshape(3, inside, manifest.scale, inside, manifest.scale)
            if start:
                pixels = pixels[:, ::-1, :, ::-1]  # the cuts come last
            for halo in halos:
                seen = inside - halo
                largest_differences[halo].append(float(pixels[:, :seen, :, :seen].max()))
                border = slice(max(0, seen - core), seen)
                means[halo].append(float(pixels[:, border, :, border].mean(dtype=np.float64)))
        progress.step()
    return [
        HaloRow(
            halo=halo,
            max_abs=max(largest_differences[halo], default=0.0),
            mean_abs=max(means[halo], default=0.0),
            compared=len(means[halo]),
        )
        for halo in halos
    ]


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
