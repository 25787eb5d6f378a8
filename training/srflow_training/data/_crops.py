"""Random crops of photographs with their LR images, in batches that are each reproducible on their own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from srflow_sdk.errors import ImageError
from srflow_training.data._decoding import Decoder
from srflow_training.data._degradation import MARGIN, degrade
from srflow_training.data._folders import Photo, Photos
from srflow_training.data._images import to_image
from srflow_training.resampling import REDUCTIONS, round_to_8_bit
from srflow_training.settings import DataSettings

Pixels = npt.NDArray[np.uint8]
_FLIPPED = {"none": (), "horizontal": (2,), "both": (1, 2)}  # axes of C×H×W
_MARGIN = 4  # LR pixels around a crop, more than the kernels reach


class Batch(NamedTuple):
    """One process's share of an iteration's crops, all float32.

    hr: N×3×crop×crop, RGB in [0, 1], multiples of 1/255. lr: N×3×crop/s×crop/s, likewise. noise: standard normal,
    shaped like hr. noise_share: [N], uniform in [0, 1), for a strength of the noise that differs from crop to crop.
    problems: one line for each problem that this process has found so far: a photograph that cannot
    be decoded and is skipped, or a cache that cannot be written.
    """

    hr: Tensor
    lr: Tensor
    noise: Tensor
    noise_share: Tensor
    problems: tuple[str, ...]


class Crops(Dataset[Batch]):
    """`crops[iteration]` is this rank's share of the iteration's batch; `len` is the number of iterations.

    Crop i of a batch depends only on (seed, iteration, i) and the photographs. Rank r takes crops r, r + ranks, …,
    so the batch is the same for any number of ranks and workers, and after resuming. cache: folder that keeps decoded
    photographs (`choose_cache`); None: none.

    Raises: ArgumentError if the cache folder cannot be created; on reading, ImageError if no photograph can be decoded.
    """

    def __init__(
        self,
        photos: Photos,
        settings: DataSettings,
        *,
        scale: int,
        seed: int,
        iterations: int,
        rank: int = 0,
        ranks: int = 1,
        cache: Path | None = None,
    ) -> None:
        self.photos = photos
        self.settings = settings
        self.scale = scale
        self.seed = seed
        self.iterations = iterations
        self.rank, self.ranks = rank, ranks
        self._decoder = Decoder(cache)
        self._broken: dict[Path, str] = {}

    def __len__(self) -> int:
        return self.iterations

    def __getitem__(self, iteration: int) -> Batch:
        if not 0 <= iteration < self.iterations:
            raise IndexError(f"iteration {iteration} of {self.iterations}")
        crop, batch = self.settings.at(iteration / self.iterations)
        elements = [
            self._element(np.random.default_rng([self.seed, iteration, index]), crop)
            for index in range(self.rank, batch, self.ranks)
        ]
        hr, lr, noise, noise_share = (torch.stack(parts) for parts in zip(*elements, strict=True))
        problems = [f"skipped: {line}" for line in self._broken.values()]
        if self._decoder.failure:
            problems.append(self._decoder.failure)
        return Batch(hr, lr, noise, noise_share, tuple(problems))

    def _element(self, rng: np.random.Generator, crop: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels, lr_pixels = self._draw(rng)
        top, left = self._place(rng, pixels, crop)
        shift = self.settings.hr_shift
        down, right = rng.integers(-shift, shift + 1, size=2)
        hr = to_image(_square(pixels, top + down, left + right, crop))[0]
        if lr_pixels is None:
            lr = self._reduced(pixels, top, left, crop, rng.spawn(1)[0])  # leaves rng's own numbers as they are
        else:
            lr = to_image(_square(lr_pixels, top // self.scale, left // self.scale, crop // self.scale))[0]
        axes = [axis for axis in _FLIPPED[self.settings.flip] if rng.random() < 0.5]
        hr, lr = hr.flip(axes), lr.flip(axes)
        if self.settings.transposes and rng.random() < 0.5:
            hr, lr = hr.transpose(1, 2), lr.transpose(1, 2)
        noise = torch.from_numpy(rng.standard_normal(hr.shape, dtype=np.float32))
        return hr, lr, noise, torch.tensor(rng.random(), dtype=torch.float32)

    def _draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels | None]:
        """Draw a photograph that can be decoded: its pixels, and its LR file's pixels if it has one."""
        while len(self._broken) < len(self.photos):
            photo = self.photos.draw(rng)
            if photo.path in self._broken:
                continue
            try:
                return self._decoded(photo)
            except ImageError as error:
                self._broken[photo.path] = str(error)
        first = next(iter(self._broken.values()))
        raise ImageError(f"{self.photos.folder}: no photograph can be decoded; the first problem: {first}")

    def _decoded(self, photo: Photo) -> tuple[Pixels, Pixels | None]:
        height, width, read = photo.height, photo.width, self._decoder.pixels
        pixels = read(photo.path, height=height, width=width, halvings=photo.halvings)
        if photo.lr is None:
            return pixels, None
        return pixels, read(photo.lr, height=height // self.scale, width=width // self.scale)

    def _place(self, rng: np.random.Generator, pixels: Pixels, crop: int) -> tuple[int, int]:
        """Top and left of the most detailed of `choose_of` random squares."""
        edge, step = self.photos.edge, self.photos.step
        choices = [(size - crop - 2 * edge) // step + 1 for size in pixels.shape[:2]]
        places = [edge + step * rng.integers(choices) for _ in range(self.settings.choose_of)]
        top, left = max(places, key=lambda place: _detail(_square(pixels, place[0], place[1], crop)))
        return int(top), int(left)

    def _reduced(self, pixels: Pixels, top: int, left: int, crop: int, rng: np.random.Generator) -> Tensor:
        """The square's part of the reduced photograph, whose borders depend on the pixels around the square."""
        degradation = self.settings.degradation
        if degradation is not None and rng.random() >= degradation.clean:
            window = to_image(_surroundings(pixels, top, left, crop, MARGIN * self.scale))
            lr = degrade(window, degradation, scale=self.scale, rng=rng, reduction=self.settings.reduction)
            return round_to_8_bit(lr)[0]
        margin = _MARGIN * self.scale
        window = to_image(_surroundings(pixels, top, left, crop, margin))
        reduced = REDUCTIONS[self.settings.reduction](window, self.scale)[0]
        return round_to_8_bit(reduced[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN])


def _square(pixels: Pixels, top: int, left: int, side: int) -> Pixels:
    return pixels[top : top + side, left : left + side]


def _surroundings(pixels: Pixels, top: int, left: int, side: int, margin: int) -> Pixels:
    """A square with a margin around it; beyond its borders the photograph is mirrored, as in reductions."""
    spans = [(start - margin, start + side + margin) for start in (top, left)]
    inside = [(max(0, start), min(end, size)) for (start, end), size in zip(spans, pixels.shape[:2], strict=True)]
    (first_row, end_row), (first_column, end_column) = inside
    missing = [(start - span[0], span[1] - end) for span, (start, end) in zip(spans, inside, strict=True)]
    return np.pad(pixels[first_row:end_row, first_column:end_column], [*missing, (0, 0)], mode="symmetric")


def _detail(crop: Pixels) -> float:
    """Mean absolute difference of neighbouring green pixels."""
    green = crop[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())
