"""LR-PSNR: how closely an answer reduces to the image that it was made from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import one_of
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files.passed_images import EncodedImage, loaded
from srflow_sdk.pixels.in_memory import InMemoryImage, Layout, Tensor, to_unit
from srflow_sdk.pixels.resizing import LrKernel, RowReducer

_BAND = 64  # LR rows that are compared at a time, so that no copy of a large answer is made


def lr_psnr(
    answer: InMemoryImage | Tensor | EncodedImage,
    image: InMemoryImage | Tensor | EncodedImage,
    *,
    reduction: LrKernel = "bicubic",
    layout: Layout = "hwc",
) -> float:
    """PSNR in dB between an image and the reduction (MATLAB's) of an answer to it.

    answer, image: as :meth:`Upscaler.upscale` returns and takes them, the answer 2 to 16 times as large.
    layout: of both, as there.
    reduction: "bicubic" or "bilinear", as the model was trained for (`bundle.manifest.reduction`).

    Both are compared in [0, 1] and in the image's own profile; fully transparent pixels of the image do not count.
    Infinite if the two agree, NaN if nothing is visible. Below 40 dB an answer no longer reduces to its image: lower
    tau, or use `consistent=True`.

    Raises: ImageError if one is not an image, or their sizes or colours do not match; ArgumentError.
    """
    one_of("reduction", reduction, LrKernel)
    large, its_kind = loaded(answer, layout=layout)
    pixels, kind = loaded(image, layout=layout)
    height, width = pixels.shape[:2]
    scale = large.shape[0] // height
    if large.shape[:2] != (height * scale, width * scale):
        raise ImageError(
            f"an answer of {large.shape[1]}×{large.shape[0]} pixels does not match an image of {width}×{height}: "
            "its sides are not the same multiple of the image's"
        )
    if not 2 <= scale <= 16:
        raise ArgumentError(f"the scale is {scale}; it must be from 2 to 16")
    if its_kind.colours != kind.colours:
        raise ImageError(
            f"an answer with {its_kind.colours} colour channels does not match an image with {kind.colours}; convert "
            "one of them first"
        )
    lr = LowResolution.of(pixels, kind, multiple=1, reach=0)
    meter = LrPsnrMeter(lr, scale, reduction)
    for top in range(0, height, _BAND):
        meter.push(large[top * scale : (top + _BAND) * scale, :, : kind.colours])
    return meter.db


class LrPsnrMeter:
    """Takes the finished rows of an answer from the top down and compares their reduction with the LR image."""

    def __init__(self, lr: LowResolution, scale: int, kernel: LrKernel) -> None:
        self._lr = lr
        self._reducer = RowReducer((lr.height * scale, lr.width * scale), (lr.height, lr.width), kernel)
        self._squared_error = self._weights = 0.0
        self.needed_from = 0
        """The first LR row that is still needed."""

    @property
    def db(self) -> float:
        """−10·log10 of the mean squared error of all rows so far; infinite without error, NaN without pixels."""
        if self._weights == 0:
            return math.nan
        return -10 * math.log10(self._squared_error / self._weights) if self._squared_error else math.inf

    def push(self, band: NDArray[Any]) -> None:
        """Take the next rows, sh×sW×1 or 3 of any of the dtypes, without alpha."""
        reduced = self._reducer.push(to_unit(band))
        if not len(reduced):
            return
        top, self.needed_from = self.needed_from, self.needed_from + len(reduced)
        squares = np.square(reduced.astype(np.float64) - self._lr.own_colours(top, self.needed_from)).mean(axis=2)
        visible = self._lr.visible(top, self.needed_from)
        self._squared_error += float((squares if visible is None else squares * visible).sum())
        self._weights += squares.size if visible is None else float(visible.sum(dtype=np.float64))
