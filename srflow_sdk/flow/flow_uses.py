"""Methods of Upscaler that only a flow has: restore, transfer content, tell how likely pictures are."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import file_path
from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.drawing.options import Progress
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.encoding import Encoding, ImageT
from srflow_sdk.files import MAX_PIXELS, PathLike, WriteOptions
from srflow_sdk.files.passed_images import EncodedImage, loaded
from srflow_sdk.flow.inverting import opaque_image, reduced_image
from srflow_sdk.flow.options import RestoreKeywords, RestoreOptions, TransferKeywords, TransferOptions
from srflow_sdk.flow.restoring import restore_file, restore_pixels
from srflow_sdk.flow.transferring import AnyImage, Picture, mask_of, transfer_file, transferred
from srflow_sdk.pixels.in_memory import InMemoryImage, Layout, Tensor, TensorT
from srflow_sdk.system.raising import memory_errors_typed

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FlowUses:
    """The part of :class:`~srflow_sdk.upscaler.Upscaler` that needs the flow in its other direction."""

    if TYPE_CHECKING:
        _painter: Painter

    @overload
    def restore(self, image: ImageT, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]) -> ImageT: ...
    @overload
    def restore(
        self, image: EncodedImage, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]
    ) -> Image.Image: ...
    @overload
    def restore(self, image: TensorT, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]) -> TensorT: ...
    def restore(
        self,
        image: InMemoryImage | Tensor | EncodedImage,
        *,
        layout: Layout = "hwc",
        **options: Unpack[RestoreKeywords],
    ) -> InMemoryImage | Tensor:
        """Remove noise from a picture: one of its size and kind, whose latents are no larger than a true photograph's.

        Others come back as they were, to rounding: blur and the blocks of a JPEG stay. A bundle without an inverter is
        a BundleError; the other errors are those of :meth:`upscale`.

        Args:
            image, layout: as in :meth:`upscale`.
            options: tau, over, enlarge, seed, progress, cancel: `help(srflow_sdk.flow.options.RestoreOptions)`.
        """
        chosen = RestoreOptions(**options)
        with memory_errors_typed("for the image; use a smaller one"):
            pixels, kind = loaded(image, layout=layout)
        return kind.wrapped(restore_pixels(pixels, kind, self._painter, chosen))

    def restore_file(
        self,
        source: PathLike,
        target: PathLike,
        *,
        report: bool = False,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        **options: Unpack[RestoreKeywords],
    ) -> FileResult:
        """Restore an image file into another of its size, with its profile, metadata, alpha, and a record of how.

        `options` are those of :meth:`restore`, all else is as in :meth:`upscale_file`; `report` hashes the output.
        """
        return restore_file(
            file_path("source", source),
            file_path("target", target),
            self._painter,
            RestoreOptions(**options),
            WriteOptions(report=report, max_pixels=max_pixels, quality=quality, lossless=lossless),
        )

    @overload
    def transfer(
        self,
        target: ImageT,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> ImageT: ...
    @overload
    def transfer(
        self,
        target: EncodedImage,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> Image.Image: ...
    @overload
    def transfer(
        self,
        target: TensorT,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> TensorT: ...
    def transfer(
        self,
        target: AnyImage,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = None,
        **options: Unpack[TransferKeywords],
    ) -> InMemoryImage | Tensor:
        """Put what a mask selects of one picture into another of the same size: section 4.5 of the publication.

        Beyond 6 pixels outside of the mask the answer is the target, of its kind, and so is alpha. Errors are those of
        :meth:`restore`.

        Args:
            target, source: pictures of one size, as :meth:`upscale` takes images.
            mask: an array or tensor of bool, H×W, or an image, at least half as bright as white inside.
            lr: the target's true LR image, if it was upscaled from one; None reduces the target.
            options: blend, tau, seed, progress, cancel: `help(srflow_sdk.flow.options.TransferOptions)`.
        """
        chosen = TransferOptions(**options)
        with memory_errors_typed("for the pictures; use smaller ones"):
            into, content = Picture(*loaded(target)), Picture(*loaded(source))
            small = None if lr is None else Picture(*loaded(lr))
            return into.kind.wrapped(transferred(into, content, mask_of(mask), small, self._painter, chosen)[0])

    def transfer_file(
        self,
        target: PathLike,
        source: PathLike,
        mask: PathLike,
        output: PathLike,
        *,
        lr: PathLike | None = None,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        **options: Unpack[TransferKeywords],
    ) -> FileResult:
        """Put what a mask selects of one image file into another, with the target's metadata and a record of how.

        `options` are those of :meth:`transfer`, as are the inputs, in files; all else is as in :meth:`upscale_file`.
        """
        return transfer_file(
            self._painter,
            file_path("target", target),
            file_path("source", source),
            file_path("mask", mask),
            file_path("output", output),
            lr=None if lr is None else file_path("lr", lr),
            options=TransferOptions(**options),
            writing=WriteOptions(max_pixels=max_pixels, quality=quality, lossless=lossless),
        )

    def log_likelihood(
        self,
        hr: InMemoryImage | Tensor | EncodedImage,
        lr: InMemoryImage | Tensor | EncodedImage | None = None,
        *,
        dequantise: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> float:
        """Tell how likely an HR image is, given its LR image: log p(hr | lr) in nats, for values in [0, 1].

        Args:
            hr, lr: as :meth:`upscale` takes images; no `lr` is hr's reduction, as the model's training made them.
            dequantise, progress, cancel: as for :meth:`Encoding.invert`, whose errors it raises.
        """
        with memory_errors_typed("for the HR image; use a smaller one"):
            pixels, kind = loaded(hr)
            if lr is not None:
                small, its_kind = loaded(lr)
            else:
                pixels, kind = opaque_image(pixels, kind, self._painter.manifest)
                small, its_kind = reduced_image(pixels, self._painter.manifest), kind
            encoding: Encoding[Any] = Encoding(small, its_kind, self._painter, memory_budget=0)
            image = kind.wrapped(pixels)
        latents = encoding.invert(image, dequantise=dequantise, progress=progress, cancel=cancel)
        assert latents.log_likelihood is not None  # for the type checker: inverting gives it
        return latents.log_likelihood
