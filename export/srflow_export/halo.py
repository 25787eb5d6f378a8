"""Measure the halo that a model's tiles need, by cutting real photographs.

Each convolution lets a network see a pixel further, and the full-size encoder has hundreds. Distant
pixels hardly matter, though, and how distant that is depends on the weights. Pictures and latents
change differently: a picture that the sampler drew is the easy case for the inverter, as its
latents are the noise that it was drawn from. The LR image of a real one holds more detail in each
pixel, and the embedded model's latents change two to three times as much near a cut. So each has a
halo of its own.

What is at least a halo away from both cuts is what a tile with that halo shows, so two
computations, with and without what lies behind the cuts, give the differences for every halo.
Rounding in half differs in every window, and a network that multiplies it would get the largest
halo for it: graphs of lower precision are measured in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from srflow_export.parity.measure import DIVERGED
from srflow_export.parity.photographs import Array, collage, photographs
from srflow_export.progress import Progress, Say
from srflow_sdk.backends import Backend
from srflow_sdk.geometry.tiles import Window, padded_size
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Manifest
from srflow_training.resampling import REDUCTIONS, round_to_8_bit

_logger = logging.getLogger(__name__)
_MAX_ABS = 0.1 / 255
"""Largest difference allowed anywhere in a picture: a twentieth of what the SDK promises for the
embedded model, 2/255.

It depends on the photograph: the worst crop of seven others has 8 times the largest difference of
the photographs here, and a photograph of a few megapixels has hundreds of such crops.

No bound here ends an export. A bad network sees further than the largest halo, or multiplies its
rounding: it gets the largest halo, and a warning of seams. Where its own pictures diverge there is
nothing to measure: the same, said so. A bad export cannot be told here, as graphs are compared with
themselves; the gate has refused it before.
"""

_MEAN_ABS = 0.001 / 255
"""Largest mean difference allowed, for the worst photograph and temperature: also a twentieth of
the promise."""

_MAX_LATENT = 1e-4
"""Largest difference allowed of any latent: a tenth of the 1e-3 that the SDK promises, as other
pictures are worse.

A bad network has latents so large that their rounding is above this, whatever the halo: then the
halo is the one from which on nothing changes (:data:`_SETTLED`), or the largest, with a warning.
"""

_MEAN_NATS = 1e-5
"""Largest mean difference allowed of the log density, in nats for each value of the picture: a
hundredth of what the SDK promises."""

_SETTLED = 1.5
"""How much more the mean may be than with the widest halo where what is left is rounding, which no
halo removes.

Of a bad network, that is; a good one meets the bounds above first.
"""

_LARGEST = (16, 32, 64)
_LARGEST_OF_INVERTERS = (24, 64)
"""Largest halos in LR pixels, tried one after the other on larger parts of the photographs, as most
networks need no more than the first. A network that needs more than the last gets that one and a
warning.
"""

_CORE = 28
_BEYOND = 20
"""LR pixels of a core, whose mean difference counts (differences are along its border), and behind
the cuts. Both are rounded up to multiples of a network's size_multiple. A core above ×4 has as many
HR pixels as one at ×4, and its mean counts as that of as many LR pixels.
"""

_PLACE = 80
"""Where the part behind a cut ends in a photograph, in LR pixels: cuts are at one place for all
halos up to 32."""


@dataclass(frozen=True, kw_only=True)
class HaloRow:
    """How tiles with a halo differ from no tiles, in float32 pictures with values in [0, 1].

    Attributes:
        halo: in LR pixels.
        max_abs: largest difference.
        mean_abs: largest mean difference of a photograph and tau.
        compared: pairs of photograph and tau, without those at which the network itself diverges.
    """

    halo: int
    max_abs: float
    mean_abs: float
    compared: int

    @property
    def is_enough(self) -> bool:
        """True if the bounds are met."""
        return self.compared > 0 and self.max_abs <= _MAX_ABS and self.mean_abs <= _MEAN_ABS


@dataclass(frozen=True, kw_only=True)
class InverterHaloRow:
    """How latents of tiles with a halo differ from those of no tiles.

    Attributes:
        halo: in LR pixels.
        max_latent: largest difference of a latent; at tau 1 their standard deviation is 1.
        mean_nats: mean difference of the log density, in nats for each value of the HR picture.
    """

    halo: int
    max_latent: float
    mean_nats: float

    @property
    def is_enough(self) -> bool:
        """True if the bounds are met."""
        return self.max_latent <= _MAX_LATENT and self.mean_nats <= _MEAN_NATS


def add_halo(manifest: Manifest, backend: Backend, *, say: Say = lambda _: None) -> Manifest:
    """Give the manifest the halo that its graphs need, and the measurement in its provenance."""
    row, smaller = measure_halo(backend, manifest, say=say)
    say(
        f"halo {row.halo}: tiles differ from the untiled picture by at most "
        f"{255 * row.max_abs:.2g}/255, on average {255 * row.mean_abs:.2g}/255"
    )
    if not row.compared:
        _logger.warning(
            "the halo could not be measured, as the network itself diverges on the photographs, "
            "or takes larger ones: it is %d LR pixels",
            row.halo,
        )
    elif not row.is_enough:
        _logger.warning(
            "tiles of this network differ from the untiled picture even with a halo of %d LR "
            "pixels: expect seams, or use tile=None (--tile none)",
            row.halo,
        )
    return replace(
        manifest,
        halo=row.halo,
        provenance=manifest.provenance | {"halo": _record(row, smaller)},
    )


def add_inverter_halo(
    manifest: Manifest,
    backend: Backend,
    *,
    say: Say = lambda _: None,
) -> Manifest:
    """The same for the inverter: `inverter_halo`, in provenance too."""
    row, smaller = measure_inverter_halo(backend, manifest, say=say)
    say(
        f"inverter's halo {row.halo}: latents of tiles differ from untiled ones by at most "
        f"{row.max_latent:.1g}, the log density by {row.mean_nats:.1g} nats a value"
    )
    if not row.is_enough:
        _logger.warning(
            "latents of tiles differ from those of the untiled picture by up to %.1g with a halo "
            "of %d LR pixels, and a wider one does not help: use tile=None where that is too much",
            row.max_latent,
            row.halo,
        )
    provenance = manifest.provenance | {"inverter_halo": _record(row, smaller)}
    return replace(manifest, inverter_halo=row.halo, provenance=provenance)


def _record(
    row: HaloRow | InverterHaloRow, smaller: HaloRow | InverterHaloRow | None
) -> dict[str, object]:
    return {"measured": asdict(row), "next_smaller": None if smaller is None else asdict(smaller)}


def measure_halo(
    backend: Backend,
    manifest: Manifest,
    *,
    say: Say = lambda _: None,
) -> tuple[HaloRow, HaloRow | None]:
    """Find the smallest halo that is enough, and the next smaller one.

    backend: of the bundle's float32 graphs, see :func:`srflow_export.parity.gate.float32_backend`.

    Candidates are the multiples of the manifest's size_multiple up to :data:`_LARGEST`. If none is
    enough, the first row's `is_enough` is false, and the second row is None; it is also None if the
    smallest candidate is enough. The photographs are too small for networks with a size_multiple
    above 32, and for their largest candidates.

    Each of the exporter's photographs is computed whole and once more without what lies behind two
    cuts, a horizontal and a vertical one, at tau 0, the bundle's default and 1. A photograph that
    needs a larger halo than its part shows is measured again on a larger one, and those after it on
    a part for the halo that it needs. `say` receives lines of progress.
    """
    step = manifest.size_multiple
    photos = photographs(manifest.size_multiple)
    room = min(length for photo in photos for length in photo.lr.shape[2:])
    tries = sorted({max(largest // step, 1) * step for largest in _LARGEST})
    progress = Progress("measuring the halo", len(photos), say)
    needed = tries[0]
    measured = []
    for number, photo in enumerate(photos):
        for largest in (needed, *(larger for larger in tries if larger > needed)):
            rows = _measure_photo(backend, manifest, photo.lr, number, largest=largest, room=room)
            if not rows or not rows[-1].compared or rows[-1].is_enough:
                break
        if rows and rows[-1].compared:
            measured.append(rows)
            needed = max(needed, next((row.halo for row in rows if row.is_enough), rows[-1].halo))
        progress.step()
    if not measured:
        return HaloRow(halo=tries[-1], max_abs=0.0, mean_abs=0.0, compared=0), None
    # A photograph whose part was too small for a row counts with its last one, as a wider halo
    # changes less.
    worst = [
        _merge_rows([rows[min(index, len(rows) - 1)] for rows in measured])
        for index in range(max(map(len, measured)))
    ]
    for index, row in enumerate(worst):
        if row.is_enough:
            return row, worst[index - 1] if index else None
    return worst[-1], None


def _merge_rows(rows: Sequence[HaloRow]) -> HaloRow:
    """All photographs in one row, whose halo is the largest."""
    return HaloRow(
        halo=max(row.halo for row in rows),
        max_abs=max(row.max_abs for row in rows),
        mean_abs=max(row.mean_abs for row in rows),
        compared=sum(row.compared for row in rows),
    )


def _measure_photo(
    backend: Backend,
    manifest: Manifest,
    photo: Array,
    number: int,
    *,
    largest: int,
    room: int,
) -> list[HaloRow]:
    """Measure one photograph: a row for each multiple up to the largest halo.

    room: the side of the smallest photograph. The upper left part of one photograph is taken, and
    the lower right one of the next.
    """
    step = manifest.size_multiple
    core, beyond = _core_and_beyond(manifest)
    side = min(largest + core + beyond, room)
    inside = side - beyond
    halos = range(step, min(largest, inside - step) + 1, step)
    if not halos:
        return []
    is_odd = number % 2 == 1
    corner = 0 if is_odd else max(0, min(_PLACE // step * step, room) - side)
    lr = np.ascontiguousarray(photo[..., corner : corner + side, corner : corner + side])
    start = beyond if is_odd else 0
    part = Window(top=start, left=start, height=inside, width=inside)
    rows = [HaloRow(halo=halo, max_abs=0.0, mean_abs=0.0, compared=0) for halo in halos]
    for pixels in _differences(backend, manifest, lr, part, seed=number):
        from_cuts = pixels[:, ::-1, :, ::-1] if is_odd else pixels  # the cuts come last
        rows = [_count(row, from_cuts, core) for row in rows]
    return rows


def _differences(
    backend: Backend,
    manifest: Manifest,
    lr: Array,
    part: Window,
    *,
    seed: int,
) -> Iterator[Array]:
    """How a part without the rest differs at each tau: 3×h×scale×w×scale, where it can be told."""
    side = lr.shape[2]
    taus = sorted({0.0, manifest.default_tau, 1.0})
    whole, cut = (
        draw_window(backend, manifest, lr, window, taus=taus, seed=seed)
        for window in (Window(top=0, left=0, height=side, width=side), part)
    )
    rows, columns = part.scaled(manifest.scale).slices
    size = (3, part.height, manifest.scale, part.width, manifest.scale)
    for tau, picture in whole.items():
        if np.abs(picture).max() < DIVERGED:  # false for NaN
            yield difference(cut[tau], picture[:, rows, columns]).reshape(size)


def _count(row: HaloRow, pixels: Array, core: int) -> HaloRow:
    """The row with another picture's differences, whose cuts come last."""
    seen = pixels.shape[1] - row.halo
    border = slice(max(0, seen - core), seen)
    mean = float(pixels[:, border, :, border].mean(dtype=np.float64)) * min(1, core / _CORE)
    return replace(
        row,
        max_abs=max(row.max_abs, float(pixels[:, :seen, :, :seen].max())),
        mean_abs=max(row.mean_abs, mean),
        compared=row.compared + 1,
    )


def _core_and_beyond(manifest: Manifest) -> tuple[int, int]:
    """The sides of :data:`_CORE` and :data:`_BEYOND` for a network."""
    step = manifest.size_multiple
    return padded_size(_CORE * 4 // max(manifest.scale, 4), step), padded_size(_BEYOND, step)


def draw_window(
    backend: Backend,
    manifest: Manifest,
    lr: Array,
    window: Window,
    *,
    taus: Sequence[float],
    seed: int,
) -> dict[float, Array]:
    """Upscale a window of a photograph without the rest: by tau, float32 3×sh×sw, not clipped.

    lr: float32 1×3×h×w in [0, 1].
    """
    rows, columns = window.slices
    conditioning = backend.encode(lr[:, :, rows, columns])
    field = window_noise(
        manifest.latent_levels,
        scale=manifest.scale,
        seed=seed,
        sample=0,
        **vars(window),
    )
    noise = {level: array[None] for level, array in field.items()}
    return {tau: backend.sample(conditioning, noise, tau)[0] for tau in taus}


def difference(part: Array, whole: Array) -> Array:
    """The absolute difference of two pictures, clipped as files are; 1 where the part is NaN."""
    change: Array = np.nan_to_num(np.abs(part.clip(0, 1) - whole.clip(0, 1)), nan=1.0)
    return change


def measure_inverter_halo(
    backend: Backend,
    manifest: Manifest,
    *,
    say: Say = lambda _: None,
) -> tuple[InverterHaloRow, InverterHaloRow | None]:
    """Find the smallest halo that is enough for inverter.onnx, and the next smaller one.

    backend: as for :func:`measure_halo`. Candidates are the multiples of the manifest's
    size_multiple up to :data:`_LARGEST_OF_INVERTERS`. If none is enough, the first row's
    `is_enough` is false, and its halo is the one from which on only rounding is left, or else the
    largest. There is no second row if the smallest candidate is taken.

    A collage of the exporter's photographs, as an HR picture, and its LR image are inverted whole
    and once more without what lies behind two cuts. `say` receives lines of progress.
    """
    rows: list[InverterHaloRow] = []
    for largest in _LARGEST_OF_INVERTERS:
        say(f"measuring the inverter's halo, up to {largest}")
        rows = _measure_latents(backend, manifest, largest)
        if (index := _choose_row(rows)) is not None:
            return rows[index], rows[index - 1] if index else None
    return rows[-1], rows[-2] if len(rows) > 1 else None


def _choose_row(rows: Sequence[InverterHaloRow]) -> int | None:
    """Return the first row that is enough, or from which on nothing falls, if there is one."""
    enough = next((index for index, row in enumerate(rows) if row.is_enough), None)
    settled = next(
        index for index, row in enumerate(rows) if row.mean_nats <= _SETTLED * rows[-1].mean_nats
    )
    return settled if enough is None and settled < len(rows) // 2 else enough


def _measure_latents(backend: Backend, manifest: Manifest, largest: int) -> list[InverterHaloRow]:
    """Measure a collage of photographs: a row for each multiple up to the largest halo."""
    step = manifest.size_multiple
    scale = manifest.scale
    core, beyond = _core_and_beyond(manifest)
    inside = padded_size(largest, step) + core
    corner = max(0, _PLACE // step * step - inside - beyond)
    hr = collage(scale * (corner + inside + beyond))[..., scale * corner :, scale * corner :]
    changes, nats = _invert_and_cut(backend, manifest, np.ascontiguousarray(hr), inside)
    rows = []
    for halo in range(step, inside - core + 1, step):
        seen = inside - halo
        border = slice(max(0, seen - core), seen)
        most = max(
            float(change[..., : scale * seen >> level, : scale * seen >> level].max())
            for level, change in changes.items()
        )
        mean = float(nats[..., border, border].mean(dtype=np.float64)) * min(1, core / _CORE)
        rows.append(InverterHaloRow(halo=halo, max_latent=most, mean_nats=mean))
    return rows


def _invert_and_cut(
    backend: Backend,
    manifest: Manifest,
    hr: Array,
    inside: int,
) -> tuple[dict[int, Array], Array]:
    """How latents and the log density change without what lies beyond so many LR pixels."""
    scale = manifest.scale
    lr = round_to_8_bit(REDUCTIONS[manifest.reduction](torch.from_numpy(hr), scale)).numpy()
    latents, density = backend.invert(backend.encode(lr), hr)
    cut, cut_density = backend.invert(
        backend.encode(np.ascontiguousarray(lr[..., :inside, :inside])),
        np.ascontiguousarray(hr[..., : scale * inside, : scale * inside]),
    )
    changes = {level: np.abs(_subtract(cut[level], latent)) for level, latent in latents.items()}
    return changes, np.abs(_subtract(cut_density, density)) / np.float32(3 * scale**2)


def _subtract(cut: Array, whole: Array) -> Array:
    """Subtract the same part of a whole array from a cut one; 1e9 where that is no number."""
    height, width = cut.shape[2:]
    difference: Array = np.nan_to_num(cut - whole[..., :height, :width], nan=1e9)
    return difference
