"""The photographs that a protocol measures on, each with its LR image, whole or its centre."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.model.manifest import Reduction
from srflow_sdk.system.local_files import file_sha256
from srflow_training.data import image_files, read_photo, size_of, to_image
from srflow_training.resampling import REDUCTIONS, reduce_in_passes, round_to_8_bit

LEAST_SIDE = 64
"""Photographs have at least this many pixels a side, so that every metric fits."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A photograph as it is measured.

    Attributes:
        hr: 1×3×sh×sw, 8-bit levels in [0, 1].
        lr: 1×3×h×w, likewise.
        reduction: that LR-PSNR is of.
        others: by name, the outputs of other methods for it, as `hr`.
        inputs: by option, what else a protocol needs of it, as `hr`.
    """

    name: str
    hr: Tensor
    lr: Tensor
    reduction: Reduction = "bicubic"
    others: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """Where a picture is read from.

    Attributes:
        name: its path in the folder, without suffix.
        lr: None: it is reduced from hr.
        inputs: by option.
        beside: another photograph, of any size, that a protocol uses with it.
    """

    name: str
    hr: Path
    lr: Path | None = None
    others: dict[str, Path] = field(default_factory=dict)
    inputs: dict[str, Path] = field(default_factory=dict)
    beside: Path | None = None

    @property
    def sha256(self) -> str:
        """Of all its files."""
        single = [path for path in (self.lr, self.beside) if path is not None]
        files = [self.hr, *single, *self.others.values(), *self.inputs.values()]
        digests = "".join(file_sha256(path) for path in files)
        return hashlib.sha256(digests.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How pictures are cut, so that a network takes them, and reduced.

    Attributes:
        multiple: HR sides become multiples of this; rows below and columns on the right are left
            out.
        centre: keep only the central part of at most this many pixels a side, or everything (None).
        in_passes: see `reduce_in_passes`.
    """

    scale: int
    multiple: int
    centre: int | None = None
    in_passes: bool = False

    def __post_init__(self) -> None:
        if self.centre is not None and (self.centre < LEAST_SIDE or self.centre % self.multiple):
            raise ArgumentError(
                f"--crop is {self.centre}; with this model it must be a multiple of "
                f"{self.multiple}, at least {LEAST_SIDE}"
            )

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an HR image that are kept."""
        return self._along(height), self._along(width)

    def reduce(self, hr: Tensor, reduction: Reduction) -> Tensor:
        """The LR image of an 8-bit image, in 8 bits."""
        if self.in_passes:
            return reduce_in_passes(hr, self.scale, reduction)
        return round_to_8_bit(REDUCTIONS[reduction](hr, self.scale))

    def _along(self, size: int) -> slice:
        whole = size // self.multiple * self.multiple
        length = min(whole, self.centre or whole)
        start = (whole - length) // 2 // self.scale * self.scale
        return slice(start, start + length)


def picture_files(
    hr: Path,
    *,
    lr: Path | None = None,
    others: Mapping[str, Path] = MappingProxyType({}),
    cut: Cut,
    most: int | None = None,
    inputs: Mapping[str, Path] = MappingProxyType({}),
) -> list[PictureFiles]:
    """List the photographs in a folder with the files that belong to each, by their headers.

    The file of an LR folder or another method's is named as the photograph, or that with "x4" (the
    scale) appended.

    Args:
        most: only this many, spread over the folder.
        inputs: further folders by option, as `degraded`.

    Raises:
        ImageError: if a file is missing, unreadable or of the wrong size.
    """
    paths = image_files(hr, option="--hr")
    if most is not None and most < len(paths):
        paths = [paths[number * len(paths) // most] for number in range(most)]
    of_lr = None if lr is None else _Folder(lr, "--lr", cut.scale)
    of_others = {}
    for name, folder in others.items():
        of_others[name] = _Folder(folder, f"--other {name}", cut.scale)
    of_inputs = {name: _Folder(folder, f"--{name}", cut.scale) for name, folder in inputs.items()}
    pictures: dict[str, PictureFiles] = {}
    for path in paths:
        name = path.relative_to(hr).with_suffix("").as_posix()
        if name in pictures:
            raise ImageError(f"{path} and {pictures[name].hr} have the same name: rename one")
        height, width = size_of(path)
        least = max(LEAST_SIDE, cut.multiple)
        if min(height, width) < least:
            raise ImageError(
                f"{path}: {width}×{height} pixels; at least {least} a side are needed: remove it"
            )
        lr_file = None
        if of_lr is not None:
            lr_file = of_lr.find(name, height // cut.scale, width // cut.scale, slack=0)
        other_files, input_files = (
            {
                key: folder.find(name, height, width, slack=cut.multiple)
                for key, folder in folders.items()
            }
            for folders in (of_others, of_inputs)
        )
        pictures[name] = PictureFiles(
            name=name,
            hr=path,
            lr=lr_file,
            others=other_files,
            inputs=input_files,
        )
    return list(pictures.values())


def read_picture(files: PictureFiles, cut: Cut, reduction: Reduction) -> Picture:
    """Read a picture and cut it.

    An LR image that it has no file for is reduced and rounded to 8 bits.
    """
    window = cut.window(*size_of(files.hr))
    hr = _read_part(files.hr, window)
    if files.lr is None:
        lr = cut.reduce(hr, reduction)
    else:
        small = [slice(part.start // cut.scale, part.stop // cut.scale) for part in window]
        lr = _read_part(files.lr, small)
    return Picture(
        name=files.name,
        hr=hr,
        lr=lr,
        reduction=reduction,
        others={name: _read_part(path, window) for name, path in files.others.items()},
        inputs={name: _read_part(path, window) for name, path in files.inputs.items()},
    )


def _read_part(path: Path, window: Sequence[slice]) -> Tensor:
    image = to_image(read_photo(path))
    return image[..., window[0], window[1]].contiguous()


def to_array(image: Tensor) -> npt.NDArray[np.float32]:
    """1×3×H×W as float32 H×W×3."""
    array: npt.NDArray[np.float32] = image[0].permute(1, 2, 0).contiguous().numpy()
    return array


def to_tensor(array: npt.NDArray[np.float32]) -> Tensor:
    """Float32 H×W×3 as 1×3×H×W."""
    return torch.from_numpy(array).permute(2, 0, 1)[None]


class _Folder:
    """Pictures that belong to photographs by their names."""

    def __init__(self, folder: Path, option: str, scale: int) -> None:
        self.folder = folder
        self.option = option
        self.scale = scale
        self.files = {
            path.relative_to(folder).with_suffix("").as_posix(): path
            for path in image_files(folder, option=option)
        }

    def find(self, name: str, height: int, width: int, *, slack: int) -> Path:
        """Find a photograph's file; its sides may be less than `slack` pixels shorter.

        Raises:
            ImageError.
        """
        marked = f"{name}x{self.scale}"
        path = self.files.get(marked) or self.files.get(name)
        if path is None:
            raise ImageError(
                f"{self.option} {self.folder}: no picture named {name} or {marked}: add it"
            )
        own_height, own_width = size_of(path)
        step = max(slack, 1)
        is_high_enough = height // step * step <= own_height <= height
        is_wide_enough = width // step * step <= own_width <= width
        if not is_high_enough or not is_wide_enough:
            raise ImageError(
                f"{self.option}: {path} is {own_width}×{own_height} pixels; {width}×{height} are "
                "needed: is it of this photograph and scale?"
            )
        return path
