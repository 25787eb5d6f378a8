"""Random crops of photographs and their LR images, in batches that can be made again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from srflow_sdk.errors import ImageError, SRFlowError
from srflow_training.data.damage import MARGIN, degrade
from srflow_training.data.photographs import (
    Decoder,
    Photo,
    Photos,
    Pixels,
    from_8_bit,
    to_image,
    to_pixels,
)
from srflow_training.resampling import reduce_window, to_8_bit
from srflow_training.settings import DataSettings

_FLIPPED = {"none": (), "horizontal": (1,), "both": (0, 1)}  # axes of H×W×C
_MARGIN = 2  # LR pixels around a crop, as far as the kernels reach
_MOST = 8  # pairs in a picture
_GRACE_S = 60


class Batch(NamedTuple):
    """One process's share of an iteration's crops, all float32.

    As processes exchange it, its images are uint8.

    Attributes:
        hr: N×3×crop×crop, RGB in [0, 1], multiples of 1/255.
        lr: N×3×crop/s×crop/s, likewise.
        teacher: the same places of the pictures of `data.teacher`, like hr; without channels if
            there are none.
        noise: standard normal, shaped like hr, or without channels if it was not asked for.
        problems: one line for each problem that this process has found so far: a photograph that
            cannot be decoded and is skipped, or a cache that cannot be written.
    """

    hr: Tensor
    lr: Tensor
    noise: Tensor
    teacher: Tensor
    problems: tuple[str, ...]

    def floats(self) -> Batch:
        """The batch with its images in [0, 1]."""
        hr, lr, teacher = (from_8_bit(images) for images in (self.hr, self.lr, self.teacher))
        return self._replace(hr=hr, lr=lr, teacher=teacher)


@dataclass(frozen=True)
class _Crop:
    """One crop.

    Attributes:
        hr, lr, teacher: H×W×3 uint8, not turned yet.
        lr: None if it is the reduction of `window`.
    """

    hr: Pixels
    teacher: Pixels
    lr: Pixels | None
    window: Pixels
    flipped: tuple[int, ...]
    transposed: bool
    noise: Tensor

    def turn_to_chw(self, pixels: Pixels) -> Pixels:
        """Flip and transpose pixels as the crop is, to 3×H×W."""
        flipped = np.flip(pixels, self.flipped)
        turned: Pixels = flipped.transpose((2, 1, 0) if self.transposed else (2, 0, 1))
        return turned


@dataclass(eq=False)
class Crops(Dataset[Batch]):
    """`crops[iteration]` is this rank's share of the iteration's batch.

    `len` is the number of iterations.

    Crop i of a batch depends only on (seed, iteration, i) and the photographs. Rank r takes crops
    r, r + ranks, …, so the batch is the same for any number of ranks and workers, and after
    resuming.

    Args:
        noise: whether it is drawn; all else is the same.

    Raises:
        ArgumentError: if the cache folder cannot be created; on reading.
        ImageError: if no photograph can be decoded.
    """

    photos: Photos
    settings: DataSettings
    _: KW_ONLY
    scale: int
    seed: int
    iterations: int
    noise: bool = True
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.settings.cache)
        self._broken: dict[Path, str] = {}

    def __len__(self) -> int:
        return self.iterations

    def __getitem__(self, iteration: int) -> Batch:
        return self.levels(iteration).floats()

    def levels(self, iteration: int) -> Batch:
        """The same batch with images in uint8, a quarter of their size, for another process."""
        if not 0 <= iteration < self.iterations:
            raise IndexError(f"iteration {iteration} of {self.iterations}")
        crops = [
            self._crop(np.random.default_rng([self.seed, iteration, index]))
            for index in range(self.rank, self.settings.batch, self.ranks)
        ]
        reduced = self._reduce([crop.window for crop in crops if crop.lr is None])
        lrs = [next(reduced) if crop.lr is None else crop.lr for crop in crops]
        problems = [f"skipped: {line}" for line in self._broken.values()]
        if self.decoder.failure:
            problems.append(self.decoder.failure)
        return Batch(
            hr=_stack([crop.turn_to_chw(crop.hr) for crop in crops]),
            lr=_stack([crop.turn_to_chw(lr) for crop, lr in zip(crops, lrs, strict=True)]),
            noise=torch.stack([crop.noise for crop in crops]),
            teacher=_stack([crop.turn_to_chw(crop.teacher) for crop in crops]),
            problems=tuple(problems),
        )

    def _crop(self, rng: Generator) -> _Crop:
        # more than 15 locals: the order in which random numbers are drawn is part of a run
        size = self.settings.crop
        pixels, lr_pixels, taught = self._draw(rng)
        top, left = self._place(rng, pixels, size)
        shift = self.settings.hr_shift
        down, right = rng.integers(-shift, shift + 1, size=2)
        hr = _square(pixels, top + down, left + right, size)
        teacher = hr[..., :0]
        if taught is not None:
            teacher = _square(taught, top, left, size)
        if lr_pixels is None:
            # leaves rng's own numbers as they are
            lr, window = self._make_lr(pixels, top, left, size, rng.spawn(1)[0])
        else:
            places = (side // self.scale for side in (top, left, size))
            lr = window = _square(lr_pixels, *places)
        flipped = tuple(axis for axis in _FLIPPED[self.settings.flip] if rng.random() < 0.5)
        transposed = self.settings.transposes and rng.random() < 0.5
        noise = torch.empty(0, size, size)
        if self.noise:
            noise = torch.from_numpy(rng.standard_normal((3, size, size), dtype=np.float32))
        return _Crop(hr, teacher, lr, window, flipped, transposed, noise)

    def _draw(self, rng: Generator) -> tuple[Pixels, Pixels | None, Pixels | None]:
        """The pixels of a photograph that can be decoded, of its LR file and of its teacher's."""
        while len(self._broken) < len(self.photos):
            photo = self.photos.draw(rng)
            if photo.path in self._broken:
                continue
            try:
                return self._decode(photo)
            except ImageError as error:
                self._broken[photo.path] = str(error)
        first = next(iter(self._broken.values()))
        raise ImageError(
            f"{self.photos.folder}: no photograph can be decoded; the first problem: {first}"
        )

    def _decode(self, photo: Photo) -> tuple[Pixels, Pixels | None, Pixels | None]:
        read = self.decoder.pixels
        rows = photo.height // self.scale
        columns = photo.width // self.scale
        pixels = read(
            photo.path,
            height=photo.height,
            width=photo.width,
            halvings=photo.halvings,
        )
        lr = None if photo.lr is None else read(photo.lr, height=rows, width=columns)
        taught = None
        if photo.teacher is not None:
            height = self.scale * rows
            taught = read(photo.teacher, height=height, width=self.scale * columns)
        return pixels, lr, taught

    def _place(self, rng: Generator, pixels: Pixels, crop: int) -> tuple[int, int]:
        """Top and left of the most detailed of `choose_of` random squares."""
        edge = self.photos.edge
        step = self.photos.step
        choices = [(size - crop - 2 * edge) // step + 1 for size in pixels.shape[:2]]
        places = [edge + step * rng.integers(choices) for _ in range(self.settings.choose_of)]

        def measure_detail(place: NDArray[np.int64]) -> float:
            return _detail(_square(pixels, place[0], place[1], crop))

        top, left = max(places, key=measure_detail)
        return int(top), int(left)

    def _make_lr(
        self,
        pixels: Pixels,
        top: int,
        left: int,
        size: int,
        rng: Generator,
    ) -> tuple[Pixels | None, Pixels]:
        """The damaged LR image of a square, or None for a clean one, and the square's HR window.

        A clean LR image is made of that window by reducing it.
        """
        degradation = self.settings.degradation
        clean = degradation is None or rng.random() < degradation.clean
        soft = degradation is not None and rng.random() < degradation.soft
        if degradation is None or (clean and not soft):
            window = _surroundings(pixels, top, left, size, _MARGIN * self.scale)
            return None, window
        window = _surroundings(pixels, top, left, size, MARGIN * self.scale)
        reduction = self.settings.reduction
        lr = degrade(
            to_image(window),
            degradation,
            scale=self.scale,
            rng=rng,
            reduction=reduction,
            clean=clean,
            soft=soft,
        )
        return to_pixels(lr), window

    def _reduce(self, windows: list[Pixels]) -> Iterator[Pixels]:
        """The squares' parts of the reduced photographs, which depend on the pixels around them."""
        if windows:
            images = from_8_bit(_stack([window.transpose(2, 0, 1) for window in windows]))
            reduced = reduce_window(
                images,
                self.scale,
                margin=_MARGIN,
                reduction=self.settings.reduction,
            )
            yield from to_8_bit(reduced).permute(0, 2, 3, 1).numpy()


def _stack(images: list[Pixels]) -> Tensor:
    """Images C×H×W as N×C×H×W, in this order in memory too."""
    stacked = np.empty((len(images), *images[0].shape), np.uint8)
    return torch.from_numpy(np.stack(images, out=stacked))


def _square(pixels: Pixels, top: int, left: int, side: int) -> Pixels:
    return pixels[top : top + side, left : left + side]


def _surroundings(
    pixels: Pixels,
    top: int,
    left: int,
    side: int,
    margin: int,
) -> Pixels:
    """A square with a margin around it.

    Beyond its borders the photograph is mirrored, as in reductions.
    """
    inside = []
    missing = []
    for start, size in zip((top, left), pixels.shape[:2], strict=True):
        first = start - margin
        end = start + side + margin
        inside.append(slice(max(0, first), min(end, size)))
        missing.append((max(0, -first), max(0, end - size)))
    part = pixels[inside[0], inside[1]]
    if missing == [(0, 0), (0, 0)]:
        return part
    return np.pad(part, [*missing, (0, 0)], mode="symmetric")


def _detail(crop: Pixels) -> float:
    """Mean absolute difference of neighbouring green pixels."""
    green = crop[..., 1].astype(np.int16)
    down = np.abs(np.diff(green, axis=0))
    right = np.abs(np.diff(green, axis=1))
    return float(down.mean() + right.mean())


def pairs_picture(batch: Batch) -> Tensor:
    """Draw LR (pixels as squares) beside HR, a row for each of eight crops: 3×H×W in [0, 1]."""
    hr = batch.hr[:_MOST]
    scale = hr.shape[3] // batch.lr.shape[3]
    lr = batch.lr[:_MOST].repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    rows = torch.cat([lr, hr], dim=3)
    return torch.cat(list(rows), dim=1)


def loader(crops: Crops, *, start: int, workers: int) -> Iterator[Batch]:
    """Yield the batches of iterations start, start + 1, … up to the last one, in order.

    Each problem found is reported once, through `Photos.report`.

    Args:
        workers: processes that prepare batches, two ahead and with one thread each, at most one per
            core; 0: this process prepares each batch when asked. The batches are the same for any
            number.

    Raises:
        the SRFlowError raised while preparing a batch, e.g. ImageError if no photograph can be
            decoded.
    """
    workers = min(workers, _cores())
    batches = DataLoader(
        _Outcomes(crops),
        batch_size=None,
        sampler=range(start, len(crops)),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),  # lets copies to a GPU overlap with its work
        # Children of this process, which end within seconds if it is killed; those of a fork server
        # would not.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_leave_interrupts_to_the_main_process,
        # otherwise it draws from PyTorch's global one, which training may use
        generator=torch.Generator(),
    )
    reported: set[str] = set()
    for outcome in batches:
        if isinstance(outcome, SRFlowError):
            raise outcome
        for problem in outcome.problems:
            if problem not in reported:
                reported.add(problem)
                crops.photos.report(problem)
        yield outcome.floats()


class _Outcomes(Dataset[Batch | SRFlowError]):
    """Returns errors as values: a DataLoader would put their traceback into their message."""

    def __init__(self, crops: Crops) -> None:
        self.crops = crops

    def __getitem__(self, iteration: int) -> Batch | SRFlowError:
        try:
            return self.crops.levels(iteration)
        except SRFlowError as error:
            return error


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _leave_interrupts_to_the_main_process(_worker: int) -> None:
    """Terminals, Slurm and systemd send a signal to all processes of a run.

    The main one ends its step and saves it.

    Until then it needs the workers, which it stops itself. One that it cannot stop ends after a
    minute.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":  # which has no such signals
        for each in (signal.SIGTERM, signal.SIGHUP):
            # ends the process unless it is handled
            signal.signal(each, lambda *_: signal.alarm(_GRACE_S))
