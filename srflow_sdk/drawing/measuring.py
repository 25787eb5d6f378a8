"""LR-PSNR: how closely an answer reduces to the image that it was made from."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from srflow_sdk._checks import one_of
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.rows import ArrayRows, RowBuffer
from srflow_sdk.errors import ImageError
from srflow_sdk.files.passed_images import EncodedImage, loaded
from srflow_sdk.pixels.consistency import REDUCE_CONTEXT, LrPsnr, reduced
from srflow_sdk.pixels.in_memory import InMemoryImage, Tensor, to_unit
from srflow_sdk.pixels.resizing import LrKernel

_BAND = 64  # LR rows that are compared at a time, so that no copy of a large answer is made


def lr_psnr(
    answer: InMemoryImage | Tensor | EncodedImage,
    image: InMemoryImage | Tensor | EncodedImage,
    *,
    reduction: LrKernel = "bicubic",
) -> float:
    """PSNR in dB between an image and the reduction (MATLAB's) of an answer to it.

    answer, image: as :meth:`Upscaler.upscale` returns and takes them, the answer 2 to 16 times as large. Both are
    compared in [0, 1] and in the image's own profile; fully transparent pixels of the image do not count. Infinite if
    the two agree, NaN if nothing is visible. Below 40 dB an answer no longer reduces to its image: lower tau, or use
    `consistent=True`. reduction: "bicubic" or "bilinear", as the model was trained for (`bundle.manifest.reduction`).

    Raises: ImageError if one is not an image, or their sizes or colours do not match; ArgumentError.
    """
    one_of("reduction", reduction, LrKernel)
    large, its_kind = loaded(answer)
    pixels, kind = loaded(image)
    height, width = pixels.shape[:2]
    scale = large.shape[0] // height
    if large.shape[:2] != (height * scale, width * scale):
        raise ImageError(
            f"an answer of {large.shape[1]}×{large.shape[0]} pixels does not match an image of {width}×{height}: "
            "its sides are not the same multiple of the image's"
        )
    if its_kind.colours != kind.colours:
        raise ImageError(
            f"an answer with {its_kind.colours} colour channels does not match an image with {kind.colours}; convert "
            "one of them first"
        )
    lr = LowResolution(source=ArrayRows(pixels), kind=kind, height=height, width=width, multiple=1, reach=0)
    meter = LrPsnrMeter(lr, scale, reduction)
    for top in range(0, height, _BAND):
        meter.push(large[top * scale : (top + _BAND) * scale, :, : kind.colours])
    return meter.db


class LrPsnrMeter:
    """Takes the finished rows of an answer from the top down and compares their reduction with the LR image."""

    def __init__(self, lr: LowResolution, scale: int, kernel: LrKernel) -> None:
        self._lr = lr
        self._scale = scale
        self._kernel: LrKernel = kernel
        self._rows = RowBuffer()
        self._psnr = LrPsnr()
        self.needed_from = 0
        """The first LR row that is still needed."""

    @property
    def db(self) -> float:
        """LR-PSNR of all rows so far."""
        return self._psnr.db

    def push(self, band: NDArray[Any]) -> None:
        """Take the next rows, sh×sW×1 or 3 of any of the dtypes, without alpha."""
        scale, height = self._scale, self._lr.height
        self._rows.append(band)
        available = self._rows.bottom // scale
        ready = available if available == height else available - REDUCE_CONTEXT
        if ready <= self.needed_from:
            return
        top = max(self.needed_from - REDUCE_CONTEXT, 0)
        reduction = reduced(
            to_unit(self._rows.rows(top * scale, available * scale)),
            scale,
            kernel=self._kernel,
            top=top == 0,
            bottom=available == height,
        )
        self._psnr.push(
            self._lr.own_colours(self.needed_from, ready),
            reduction[self.needed_from - top : ready - top],
            self._lr.visible(self.needed_from, ready),
        )
        self.needed_from = ready
        self._rows.forget((ready - REDUCE_CONTEXT) * scale)
