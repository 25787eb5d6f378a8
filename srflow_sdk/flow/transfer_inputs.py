"""The inputs of a transfer: target, source, mask and the target's LR image, checked to belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.file_upscaling import kind_of
from srflow_sdk.errors import ImageError
from srflow_sdk.files import ImageReader
from srflow_sdk.files.passed_images import EncodedImage, loaded
from srflow_sdk.pixels import Floats
from srflow_sdk.pixels.colour import conversion_for
from srflow_sdk.pixels.in_memory import ImageKind, InMemoryImage, Tensor, array_of, is_tensor, luma, to_unit

_HALF = 0.5

AnyImage = InMemoryImage | Tensor | EncodedImage


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image's pixels, H×W×channels, and its kind."""

    pixels: NDArray[Any]
    kind: ImageKind

    @classmethod
    def of(cls, image: AnyImage) -> Picture:
        pixels, kind = loaded(image)
        return cls(pixels=pixels, kind=kind)

    @classmethod
    def read(cls, reader: ImageReader) -> Picture:
        return cls(pixels=reader.read_rows(reader.height), kind=kind_of(reader))

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def alpha(self) -> Floats | None:
        """Float32 H×W in [0, 1], None if there is none."""
        return to_unit(self.pixels[..., -1]) if self.kind.has_alpha else None

    def colours(self, rows: slice = slice(None), columns: slice = slice(None)) -> Floats:
        """A part of the colours in the image's own profile: float32 h×w×1 or 3 in [0, 1]."""
        return to_unit(self.pixels[rows, columns, : self.kind.colours])

    def colours_for(self, kind: ImageKind, rows: slice, columns: slice) -> Floats:
        """A part of the colours as another kind of image has them: its profile, gray or RGB."""
        part = self.pixels[rows, columns, : self.kind.colours]
        own = conversion_for(self.kind.icc_profile, channels=self.kind.colours)
        other = conversion_for(kind.icc_profile, channels=kind.colours)
        if self.kind.colours == kind.colours and self.kind.icc_profile == kind.icc_profile:
            return to_unit(part)
        srgb = to_unit(part) if own is None else own.to_srgb(part)
        if kind.colours == 1:
            return luma(srgb) if self.kind.colours == 3 else srgb
        rgb = np.repeat(srgb, 3 // srgb.shape[2], axis=2)
        return rgb if other is None else other.from_srgb(rgb)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Pictures that belong together. mask: bool H×W; where it is true, content is taken from the source.

    lr: the target's true LR image, None if it is to be reduced from the target.
    """

    target: Picture
    source: Picture
    mask: NDArray[np.bool_]
    lr: Picture | None

    @classmethod
    def of(cls, target: Picture, source: Picture, mask: NDArray[np.bool_], lr: Picture | None, *, scale: int) -> Inputs:
        """Check the sizes, and leave out of the mask what is transparent in the source. Raises: ImageError."""
        size = f"{target.width}×{target.height}"
        if (source.height, source.width) != (target.height, target.width):
            raise ImageError(
                f"the source has {source.width}×{source.height} pixels and the target {size}; they must have one size: "
                "resize or pad the source so that its content lies where it is to appear"
            )
        if mask.shape != (target.height, target.width):
            raise ImageError(
                f"the mask has {mask.shape[1]}×{mask.shape[0]} pixels and the target {size}; draw it on the target"
            )
        needed = -(-target.height // scale), -(-target.width // scale)
        if lr is not None and (lr.height, lr.width) != needed:
            raise ImageError(
                f"the LR image has {lr.width}×{lr.height} pixels, but a target of {size} has one of "
                f"{needed[1]}×{needed[0]} with this ×{scale} model; leave it out to reduce the target instead"
            )
        if (alpha := source.alpha) is not None:
            mask = mask & (alpha >= _HALF)
        return cls(target=target, source=source, mask=mask, lr=lr)


def mask_of(mask: AnyImage | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask as bool H×W: an array or tensor of bool, or an image that is at least half as bright as white inside.

    Half is 128 of 255. Colours count by their luma; transparent pixels are outside. Raises: ImageError, ArgumentError.
    """
    if is_tensor(mask) and str(getattr(mask, "dtype", "")).rpartition(".")[2] == "bool":
        mask = array_of(mask)
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
        flat = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
        if flat.ndim != 2 or not flat.size:
            raise ImageError(f"the mask's shape is {mask.shape}; a mask of bool is H×W")
        return flat
    return mask_in(Picture.of(mask))


def mask_in(picture: Picture) -> NDArray[np.bool_]:
    """The mask that an image is: bool H×W."""
    white = _HALF if picture.pixels.dtype == np.float32 else (int(np.iinfo(picture.pixels.dtype).max) + 1) // 2
    colours = picture.pixels[..., : picture.kind.colours]
    gray = colours[..., 0] if picture.kind.colours == 1 else luma(colours.astype(np.float32))[..., 0]
    if colours.dtype != np.float32 and colours.max() == 1:
        raise ImageError(
            f"the mask's values are 0 and 1 of {np.iinfo(colours.dtype).max}, all of which are black; multiply the "
            "mask by 255, or make an array boolean: mask.astype(bool)"
        )
    inside: NDArray[np.bool_] = gray >= white
    if (alpha := picture.alpha) is not None:
        inside &= alpha >= _HALF
    return inside
