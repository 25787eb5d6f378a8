"""Training data: a folder of photographs, cropped at random, its LR images made on the fly."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_training.resampling import reduce_bicubic, round_to_8_bit

logger = logging.getLogger(__name__)

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm"}


def image_files(folder: Path) -> list[Path]:
    """Image files under a folder, sorted, at any depth. Raises: ImageError if there are none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise ImageError(f"{folder}: no images found (looked for {', '.join(sorted(_SUFFIXES))}): name another folder")
    return files


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """H×W×3, 8-bit sRGB, orientation applied. Raises: ImageError if the file cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How training crops are taken.

    crop: HR side in pixels, a multiple of scale·size_multiple. batch: crops a batch. seed: every crop follows from it
    and the iteration. halve_wider_than: photographs wider than this are halved first (large ones are soft at full
    size); 0 never halves. choose_of: each crop is the most detailed of this many, since most of a photograph is
    sky or blur and teaches little.
    """

    crop: int
    batch: int
    scale: int
    seed: int = 0
    halve_wider_than: int = 2400
    choose_of: int = 3

    def __post_init__(self) -> None:
        for name in ("crop", "batch", "choose_of"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"data.{name} is {getattr(self, name)}; it must be at least 1")


class PhotoCrops:
    """Batches of (hr, lr) in [0, 1], cut from a folder's photographs, which are kept decoded in memory (8-bit).

    Batch i is a function of the seed and i alone, so that a resumed run sees what an uninterrupted one would have.
    """

    def __init__(self, folder: Path, settings: CropSettings) -> None:
        self.settings = settings
        self.margin = 4 * settings.scale  # so that the LR's bicubic kernel sees the photograph, not the crop's border
        self.photos = list(self._usable_photos(folder))
        if not self.photos:
            raise ImageError(
                f"{folder}: no photograph is at least {self._side} px high and wide: lower the crop or add larger ones"
            )
        areas = np.array([photo.shape[0] * photo.shape[1] for photo in self.photos], dtype=np.float64)
        weights = np.sqrt(areas)  # large photographs have more to show, but should not drown the others
        self.weights = weights / weights.sum()

    @property
    def _side(self) -> int:
        return self.settings.crop + 2 * self.margin

    def _usable_photos(self, folder: Path) -> Iterator[npt.NDArray[np.uint8]]:
        for path in image_files(folder):
            try:
                photo = read_photo(path)
            except ImageError as error:
                logger.warning("skipped: %s", error)
                continue
            if 0 < self.settings.halve_wider_than < photo.shape[1]:
                photo = halved(photo)
            if min(photo.shape[:2]) < self._side:
                logger.warning("skipped: %s is smaller than %d px", path, self._side)
                continue
            yield photo

    def batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """hr: N×3×crop×crop, lr: N×3×crop/s×crop/s, 8-bit levels in [0, 1], float32."""
        rng = np.random.default_rng([self.settings.seed, iteration])
        crops = np.stack([self._crop(rng) for _ in range(self.settings.batch)])
        hr = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        lr = round_to_8_bit(reduce_bicubic(hr, self.settings.scale))
        margin, lr_margin = self.margin, self.margin // self.settings.scale
        return (
            hr[..., margin:-margin, margin:-margin].contiguous(),
            lr[..., lr_margin:-lr_margin, lr_margin:-lr_margin].contiguous(),
        )

    def _crop(self, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        crop = max((self._candidate(rng) for _ in range(self.settings.choose_of)), key=_detail)
        if rng.random() < 0.5:
            crop = crop[::-1]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.5:
            crop = crop.swapaxes(0, 1)
        return np.ascontiguousarray(crop)

    def _candidate(self, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        photo = self.photos[rng.choice(len(self.photos), p=self.weights)]
        top, left = (int(rng.integers(0, size - self._side + 1)) for size in photo.shape[:2])
        return photo[top : top + self._side, left : left + self._side]


def _detail(crop: npt.NDArray[np.uint8]) -> float:
    """Mean absolute difference of neighbouring green pixels."""
    green = crop[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def halved(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Half the size, bicubic; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in photo.shape[:2])
    image = torch.from_numpy(photo[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255
    small = (reduce_bicubic(image, 2).clamp(0, 1) * 255).round().to(torch.uint8)
    return small[0].permute(1, 2, 0).contiguous().numpy()
