"""Measure the halo that tiled inversion needs: cut an HR picture, and see how far from the cuts its latents change.

As in :mod:`srflow_export.halo`, but on a picture with real detail. A picture that the sampler drew is the easy case:
its latents are the noise that it was drawn from. The LR image of a real one holds more detail in each pixel, and its
latents are whatever they must be: the embedded model's change two to three times as much near a cut. Noise in the
picture makes latents larger, but not what a cut changes.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from srflow_export import onnx_models
from srflow_export.parity._photos import photographs
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import FP32_GRAPHS, INVERTER, REQUIRED_FILES, Precision
from srflow_training.resampling import REDUCTIONS, round_to_8_bit

_MAX_LATENT = 1e-4
"""Largest difference allowed of any latent: a tenth of the 1e-3 that the SDK promises, as other pictures are worse.

A bad network has latents so large that their rounding is above this, whatever the halo: then the halo is the one from
which on nothing changes (:data:`_SETTLED`), or the largest, with a warning. Nothing here leaves the inverter out, and a
bad export cannot be told: the inverter is compared with itself.
"""

_MEAN_NATS = 1e-5
"""Largest mean difference allowed of the log density, in nats for each value of the picture: a hundredth of what the
SDK promises."""

_USUAL, _LARGEST = 32, 64
_CORE, _BEYOND = 28, 20  # LR pixels: of a core, whose mean difference counts, and behind the cuts

_SETTLED = 1.5
"""How much more the mean may be than with the widest halo where what is left is rounding, which no halo removes.

Of a bad network, that is; a good one meets the bounds above first.
"""

_WIDER: dict[Precision, int] = {"fp16": 2, "bf16": 2, "int8": 1}  # float32 conditioning / the precision's

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class InverterHaloRow:
    """How latents of tiles with a halo of this many LR pixels differ from those of no tiles.

    max_latent: largest difference of a latent; at tau 1 they have a standard deviation of 1. mean_nats: mean absolute
    difference of the log density, in nats for each value of the HR picture.
    """

    halo: int
    max_latent: float
    mean_nats: float

    @property
    def is_enough(self) -> bool:
        """True if the bounds are met."""
        return self.max_latent <= _MAX_LATENT and self.mean_nats <= _MEAN_NATS

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def measured_inverter_halo(
    bundle: Bundle, *, say: Callable[[str], None] = lambda _: None
) -> tuple[InverterHaloRow, InverterHaloRow | None]:
    """Find the smallest halo that is enough for inverter.onnx, and the next smaller one, on the CPU in float32.

    Candidates are the multiples of the manifest's size_multiple up to :data:`_LARGEST`. If none is enough, the first
    row's `is_enough` is false, and its halo is the one from which on only rounding is left, or else the largest. There
    is no second row if the smallest candidate is taken.

    A collage of the exporter's photographs, as an HR picture, and its LR image are inverted whole and once more without
    what lies behind two cuts, a horizontal and a vertical one. Graphs of lower precision are computed in float32: their
    rounding is larger than the bounds, and differs in every window. `say` receives lines of progress.
    """
    rows: list[InverterHaloRow] = []
    with in_float32(bundle) as exact, OnnxRuntimeBackend(exact, device="cpu") as backend:
        for largest in (_USUAL, _LARGEST):
            say(f"measuring the inverter's halo, up to {largest}")
            rows = _rows(backend, bundle.manifest, largest)
            if (index := _chosen(rows)) is not None:
                return rows[index], rows[index - 1] if index else None
    return rows[-1], rows[-2] if len(rows) > 1 else None


def _chosen(rows: Sequence[InverterHaloRow]) -> int | None:
    """The first row that is enough, or from which on differences do not fall; None if they still do at the end."""
    enough = next((index for index, row in enumerate(rows) if row.is_enough), None)
    settled = next(index for index, row in enumerate(rows) if row.mean_nats <= _SETTLED * rows[-1].mean_nats)
    return settled if enough is None and settled < len(rows) // 2 else enough


def _rows(backend: Backend, manifest: Manifest, largest: int) -> list[InverterHaloRow]:
    """A row for each halo up to the largest that is a multiple."""
    step, scale = manifest.size_multiple, manifest.scale
    core, beyond, largest = (-(-length // step) * step for length in (_CORE, _BEYOND, largest))
    inside = largest + core
    hr = collage(scale * (inside + beyond))
    lr = round_to_8_bit(REDUCTIONS[manifest.reduction](torch.from_numpy(hr), scale)).numpy()
    latents, density = backend.invert(backend.encode(lr), hr)
    cut, cut_density = backend.invert(
        backend.encode(np.ascontiguousarray(lr[..., :inside, :inside])),
        np.ascontiguousarray(hr[..., : scale * inside, : scale * inside]),
    )
    nats = np.abs(_compared(cut_density, density)) / (3 * scale**2)
    found = []
    for halo in range(step, largest + 1, step):
        seen = inside - halo
        border = slice(max(0, seen - core), seen)
        changes = (
            np.abs(_compared(cut[level], whole)[..., : scale * seen >> level, : scale * seen >> level]).max()
            for level, whole in latents.items()
        )
        found.append((halo, float(max(changes)), float(nats[..., border, border].mean(dtype=np.float64))))
    return [InverterHaloRow(halo=halo, max_latent=latent, mean_nats=change) for halo, latent, change in found]


@contextmanager
def in_float32(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle, or a temporary one with the float32 graphs of a bundle of lower precision and its inverter's weights.

    Raises: BundleError if there are no float32 graphs.
    """
    manifest = bundle.manifest
    if manifest.precision == "fp32":
        yield bundle
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, twin in zip(REQUIRED_FILES, FP32_GRAPHS, strict=True):
            shutil.copyfile(bundle.file(twin), Path(folder) / name)
        proto = onnx.load(bundle.file(INVERTER))
        onnx_models.compute_in_float32(proto)
        onnx.save(proto, Path(folder) / INVERTER)
        yield Bundle(
            path=Path(folder),
            manifest=dataclasses.replace(
                manifest,
                precision="fp32",
                conditioning_bytes_per_pixel=manifest.conditioning_bytes_per_pixel * _WIDER[manifest.precision],
                files={name: {} for name in (*REQUIRED_FILES, INVERTER)},
            ),
        )


def collage(side: int) -> _Array:
    """The exporter's photographs side by side, in another order in every row: float32 1×3×side×side in [0, 1]."""
    photos = [photo.lr for photo in photographs(1)]
    height, width = (min(photo.shape[axis] for photo in photos) for axis in (2, 3))
    rows, columns = -(-side // height), -(-side // width)
    cells = [
        [photos[(2 * row + row // 2 + column) % len(photos)][..., :height, :width] for column in range(columns)]
        for row in range(rows)
    ]
    return np.ascontiguousarray(np.block(cells)[..., :side, :side])


def _compared(cut: _Array, whole: _Array) -> _Array:
    """The difference of a cut array from the same part of the whole one; 1e9 where it is not a number."""
    height, width = cut.shape[2:]
    difference: _Array = np.nan_to_num(cut - whole[..., :height, :width], nan=1e9)
    return difference
