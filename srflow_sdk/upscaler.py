"""The SDK's entry point: :class:`Upscaler` enlarges images, with as many different answers as you ask for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import file_path, keywords_of
from srflow_sdk.backends import Device, Precision, open_backend
from srflow_sdk.base_upscaler import BaseUpscaler
from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.drawing.options import Progress
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.tiles import TileSize, check_tile
from srflow_sdk.encoding import Encoding, ImageT
from srflow_sdk.files import MAX_PIXELS, PathLike, WriteOptions
from srflow_sdk.files.passed_images import EncodedImage, loaded
from srflow_sdk.flow.inverting import opaque_image, reduced_image
from srflow_sdk.flow.options import RestoreKeywords, RestoreOptions, TransferKeywords, TransferOptions
from srflow_sdk.flow.restoring import restore_file, restore_pixels
from srflow_sdk.flow.transferring import AnyImage, Picture, mask_of, transfer_file, transferred
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import bundles_of
from srflow_sdk.pixels.in_memory import InMemoryImage, Layout, Tensor, TensorT
from srflow_sdk.system.raising import memory_errors_typed

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Upscaler(BaseUpscaler):
    """Super-resolution on one device. Close it, or use it as a context manager. Thread-safe.

    The same bundle, image, tau, seed and sample give the same picture, bit for bit if the tiles have the same size.

    Args:
        bundle: "auto" (or None): the embedded model that suits each picture and `scale` (:func:`choose_model`), and
            x4-small for what only a flow does. Or one model: its name, directory or Bundle. Or Bundles to choose from.
        device: "cpu", "cuda", "tensorrt", "rtx", "webgpu" or "openvino"; "cuda:1" is the second GPU. "auto" is the
            first of engines, CUDA and other GPUs that really starts, else the CPU.
        tile: Side of tiles in LR pixels, from 16; "auto" fits them to the free memory, None takes the whole image.
        threads: CPU threads, at most one per core; None leaves the choice to the runtime.
        precision: "bundle" computes as exported; "bf16" and "int8" let the encoder compute in less, which changes
            pictures a little; "fastest" is the fastest of these here, measured once for each machine and model.

    Raises:
        ArgumentError, BundleError, DeviceError: Methods raise ImageError, NonFiniteError and CancelledError, too.

    Example:
        >>> Upscaler().upscale("photo.jpg", tau=0.8, seed=1).save("large.png")
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | Iterable[Bundle] | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
    ) -> None:
        check_tile(tile)

        def opened(one: Bundle) -> Painter:
            if one is not bundle:
                one._verify()
            return Painter(one, open_backend(one, device=device, threads=threads, precision=precision), tile)

        super().__init__(bundles_of(bundle), opened, tile)

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
        """Remove noise, dots and scratches from a picture; blur, the blocks of a JPEG and a clean picture stay.

        Args:
            image, layout: As in :meth:`upscale`, as is the answer. A bundle without inverter is a BundleError.
            options: :class:`~srflow_sdk.flow.options.RestoreOptions`: tau, over, progress, cancel.
        """
        chosen = keywords_of(RestoreOptions, options)
        with memory_errors_typed("for the image; use a smaller one"):
            pixels, kind = loaded(image, layout=layout)
        return kind.wrapped(restore_pixels(pixels, kind, self._painter, chosen)[0])

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
        """Restore an image file into another of its size: :meth:`restore` with the keywords of upscale_file."""
        return restore_file(
            file_path("source", source),
            file_path("target", target),
            self._painter,
            keywords_of(RestoreOptions, options),
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
        """Put what a mask selects of one picture into another of its size: section 4.5 of the publication.

        Args:
            target, source: Of one size. The answer is the target, in its kind, beyond 6 pixels around the mask.
            mask: An array or tensor of bool, H×W, or an image, at least half as bright as white inside.
            lr: The target's true LR image, if it was upscaled from one; None reduces the target.
            options: :class:`~srflow_sdk.flow.options.TransferOptions`: blend, tau, seed, progress, cancel.
        """
        chosen = keywords_of(TransferOptions, options)
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
        """Put what a mask selects of one image file into another: :meth:`transfer`, else as upscale_file."""
        return transfer_file(
            self._painter,
            file_path("target", target),
            file_path("source", source),
            file_path("mask", mask),
            file_path("output", output),
            lr=None if lr is None else file_path("lr", lr),
            options=keywords_of(TransferOptions, options),
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
        """Tell how likely an HR image is, given its LR image or, without one, its reduction: log p(hr | lr) in nats.

        Values are in [0, 1]; the keywords are those of :meth:`Encoding.invert`.
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
