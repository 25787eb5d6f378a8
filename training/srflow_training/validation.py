"""Figures on photographs that are not trained on, while a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_sdk.errors import ImageError
from srflow_training.data import image_files, read_photo
from srflow_training.model import RRDB, SRFlow
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit

_CROP = 256
_MOST = 8


class Validation:
    """The centre crops of a folder's first photographs, at most 256×256 each; those under 16·scale are left out.

    Raises: ImageError if there is none, or a file cannot be read.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("val_psnr_bicubic", "val_psnr", "val_nll", "val_nonfinite")

    def __init__(self, folder: Path, *, scale: int) -> None:
        self.scale = scale
        photos = (read_photo(path) for path in image_files(folder)[:_MOST])
        self.crops = [_centre_crop(photo, 16 * scale) for photo in photos if min(photo.shape[:2]) >= 16 * scale]
        if not self.crops:
            raise ImageError(f"{folder}: no photograph is at least {16 * scale} px high and wide: add larger ones")

    @torch.no_grad()
    def figures(self, model: SRFlow | RRDB) -> dict[str, float]:
        """Mean RGB PSNR in dB of bicubic and of the model (SRFlow: τ = 0); NLL in bits per dimension; how many
        values of samples at τ = 0.8 are not finite. The model's mode is left as it was.
        """
        rows = []
        for hr in self.crops:
            lr = round_to_8_bit(reduce_bicubic(hr, self.scale))
            row = {"val_psnr_bicubic": psnr(enlarge_bicubic(lr, self.scale), hr, border=self.scale)}
            if isinstance(model, SRFlow):
                row["val_psnr"] = psnr(model.sample(lr, tau=0.0), hr, border=self.scale)
                nats = float(model.encode(hr, lr)[1])
                row["val_nll"] = -nats / (0.6931471805599453 * hr.numel())
                sample = model.sample(lr, tau=0.8, generator=torch.Generator().manual_seed(0))
                row["val_nonfinite"] = float((~torch.isfinite(sample)).sum())
            else:
                row["val_psnr"] = psnr(model(lr), hr, border=self.scale)
            rows.append(row)
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def psnr(image: Tensor, reference: Tensor, *, border: int) -> float:
    """RGB PSNR in dB on 8-bit values, `border` pixels left out on every side; images in [0, 1]. Equality is 100 dB."""
    difference = (round_to_8_bit(image) - reference)[..., border:-border, border:-border]
    return min(100.0, float(-10 * torch.log10(difference.double().square().mean())))


def _centre_crop(photo: npt.NDArray[np.uint8], multiple: int) -> Tensor:
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    height, width = (min(_CROP, size) // multiple * multiple for size in image.shape[2:])
    top, left = ((size - side) // 2 for size, side in zip(image.shape[2:], (height, width), strict=True))
    return image[..., top : top + height, left : left + width].contiguous()
