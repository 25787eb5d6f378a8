"""What a model reaches on photographs that it never saw, against bicubic interpolation in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import piq
import torch
from torch import Tensor

from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import ImageError
from srflow_training.checkpoints import load_checkpoint
from srflow_training.data import image_files, read_photo
from srflow_training.model import RRDB
from srflow_training.noise import runtime_noise
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit
from srflow_training.validation import psnr

CROP = 256
BORDER = 4  # HR pixels left out of PSNR

# lr (N×3×h×w in [0, 1], 8-bit levels), tau, seed → sr, not rounded
Sampler = Callable[[Tensor, float, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Means over all crops for one method.

    psnr: RGB, dB, on 8-bit values, 4-pixel border left out. gmsd: lower is better. haarpsi: higher is better.
    lr_psnr: of the reduced output against the LR input, dB. diversity: mean difference of two samples, /255.
    nonfinite: values that are not finite, in all crops together.
    """

    method: str
    psnr: float
    gmsd: float
    haarpsi: float
    lr_psnr: float
    diversity: float
    nonfinite: int


def crops_of(folder: Path) -> list[Tensor]:
    """All whole 256×256 crops of a folder's photographs, side by side from the centre: 1×3×256×256 in [0, 1].

    Raises: ImageError if the folder has no image of that size.
    """
    crops = []
    for path in image_files(folder):
        photo = torch.from_numpy(read_photo(path).copy()).permute(2, 0, 1)[None].float() / 255
        starts = [
            range((size - size // CROP * CROP) // 2, (size - size // CROP * CROP) // 2 + size // CROP * CROP, CROP)
            for size in photo.shape[2:]
        ]
        crops += [photo[..., top : top + CROP, left : left + CROP] for top in starts[0] for left in starts[1]]
    if not crops:
        raise ImageError(f"{folder}: no image is at least {CROP}×{CROP} pixels: name a folder with larger ones")
    return crops


def open_sampler(model: str | None) -> tuple[Sampler, int, Callable[[Tensor], Tensor] | None]:
    """A bundle (None: the embedded one) or a checkpoint as (sampler, scale, the encoder's own image or None).

    Both draw the runtime's latents, so that they can be compared. Raises: BundleError, CheckpointError.
    """
    if model is None or Path(model).is_dir():
        upscaler = Upscaler(Bundle.embedded() if model is None else Bundle.open(model), device="cpu", tile="none")

        def from_bundle(lr: Tensor, tau: float, seed: int) -> Tensor:
            image: npt.NDArray[np.float32] = lr[0].permute(1, 2, 0).contiguous().numpy()
            return torch.from_numpy(upscaler.upscale(image, tau=tau, seed=seed)).permute(2, 0, 1)[None]

        return from_bundle, upscaler.scale, None
    network = load_checkpoint(model)
    if isinstance(network, RRDB):
        encoder = network
        return (lambda lr, tau, seed: encoder(lr)), network.scale, encoder

    def from_checkpoint(lr: Tensor, tau: float, seed: int) -> Tensor:
        latents = {level: tau * noise for level, noise in runtime_noise(network, lr, seed=seed).items()}
        return network.decode(lr, latents)

    return from_checkpoint, network.config.scale, network.encoder


@torch.no_grad()
def report(
    model: str | None, folder: Path, taus: Sequence[float], *, progress: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Bicubic, the encoder's own image (checkpoints only), and the model at every τ, seed 0.

    LR images are MATLAB-bicubic reductions, rounded to 8 bits. Raises: ImageError, BundleError, CheckpointError.
    """
    crops = crops_of(folder)
    sampler, scale, encoder = open_sampler(model)
    lrs = [round_to_8_bit(reduce_bicubic(crop, scale)) for crop in crops]
    rows = [_row("bicubic", [enlarge_bicubic(lr, scale) for lr in lrs], crops, lrs)]
    if encoder is not None:
        rows.append(_row("encoder (L1)", [encoder(lr) for lr in lrs], crops, lrs))
    for tau in taus:
        progress(f"tau {tau:g}: {len(crops)} crops")
        first = [sampler(lr, tau, 0) for lr in lrs]
        second = [sampler(lr, tau, 1) for lr in lrs] if tau else first
        rows.append(_row(f"tau {tau:g}", first, crops, lrs, second))
    return rows


def _row(
    method: str,
    images: list[Tensor],
    crops: list[Tensor],
    lrs: list[Tensor],
    others: list[Tensor] | None = None,
) -> Row:
    nonfinite = sum(int((~torch.isfinite(image)).sum()) for image in images)
    rounded = [round_to_8_bit(image.nan_to_num(0.0)) for image in images]
    scale = crops[0].shape[2] // lrs[0].shape[2]
    figures = [
        (
            psnr(image, crop, border=BORDER),
            float(piq.gmsd(image, crop)),
            float(piq.haarpsi(image, crop)),
            psnr(reduce_bicubic(image, scale), lr, border=1),
        )
        for image, crop, lr in zip(rounded, crops, lrs, strict=True)
    ]
    means = np.mean(np.array(figures, dtype=np.float64), axis=0)
    difference = [
        float((image - round_to_8_bit(other.nan_to_num(0.0))).abs().mean() * 255)
        for image, other in zip(rounded, others or rounded, strict=True)
    ]
    return Row(
        method=method,
        psnr=float(means[0]),
        gmsd=float(means[1]),
        haarpsi=float(means[2]),
        lr_psnr=float(means[3]),
        diversity=float(np.mean(difference)),
        nonfinite=nonfinite,
    )


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| method | RGB PSNR, dB | GMSD ↓ | HaarPSI ↑ | LR-PSNR, dB | difference of two samples, /255 | not finite |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.method} | {row.psnr:.2f} | {row.gmsd:.4f} | {row.haarpsi:.3f} | {row.lr_psnr:.1f} | "
        f"{row.diversity:.1f} | {row.nonfinite} |"
        for row in rows
    ]
    return "\n".join(lines)


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows, JSON-ready."""
    return [asdict(row) for row in rows]
