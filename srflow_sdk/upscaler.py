"""The SDK's entry point: :class:`Upscaler`, which gives as many answers as you ask for."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import file_path, keywords_of, whole
from srflow_sdk.backends import ComputePrecision, Device, Precision, open_backend
from srflow_sdk.drawing.file_upscaling import FileResult
from srflow_sdk.drawing.inverting import opaque_image, reduced_image
from srflow_sdk.drawing.options import (
    DrawKeywords,
    DrawOptions,
    EncodeKeywords,
    PictureKeywords,
    Progress,
    part_progress,
)
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.encoding import EncodedPicture, Encoding, ImageT
from srflow_sdk.engine import Engine
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError
from srflow_sdk.files import MAX_PIXELS, PathLike, WriteOptions
from srflow_sdk.files.passed_images import AnyImage, EncodedImage, load_image
from srflow_sdk.flow.options import (
    RestoreKeywords,
    RestoreOptions,
    TransferKeywords,
    TransferOptions,
)
from srflow_sdk.flow.restoring import restore_file, restore_pixels
from srflow_sdk.flow.transferring import Picture, mask_of, transfer_file, transfer_pixels
from srflow_sdk.geometry.tiles import TileSize, check_tile
from srflow_sdk.model.bundle import Bundle, verify
from srflow_sdk.model.model_choice import bundles_of
from srflow_sdk.pixels.in_memory import (
    Layout,
    StackT,
    Tensor,
    TensorT,
    array_of,
    is_tensor,
    tensor_maker,
    unpacked,
)
from srflow_sdk.plain_text import short
from srflow_sdk.system.interrupts import memory_errors_typed

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class Upscaler:
    """Super-resolution on one device. Close it, or use it as a context manager. Thread-safe.

    An image is a PIL image; an array or tensor of uint8, uint16, or floats in [0, 1], H×W or H×W×C
    with 1 (gray), 2 (and alpha), 3 (RGB) or 4 channels; or an 8-bit file: its path, bytes, or a
    file object. Answers are of its kind: type, mode, dtype and profile; of a file, an upright PIL
    image. With `layout="chw"` channels come first in both. `options` are
    :class:`~srflow_sdk.drawing.options.DrawOptions`, such as tau, seed and scale, or those of
    `flow`. The same bundle, image, tau, seed and sample give the same picture, bit for bit if the
    tiles have the same size.

    Args:
        bundle: "auto" (or None): the embedded model that suits each picture and `scale`
            (:func:`choose_model`), and x4-small for what only a flow does. Or one model: its name,
            directory or Bundle. Or Bundles to choose from.
        device: "cpu", "cuda", "tensorrt", "rtx", "webgpu" or "openvino"; "cuda:1" is the second
            GPU. "auto" is the first of engines, CUDA and other GPUs that really starts, else the
            CPU.
        tile: Side of tiles in LR pixels, from 16; "auto" fits them to the free memory, None takes
            the whole image.
        threads: CPU threads, at most one per core; None leaves the choice to the runtime.
        precision: "bundle" computes as exported; "bf16" and "int8" let the encoder compute in less,
            which changes pictures a little; "fastest" is the fastest of these here, measured once
            for each machine and model.

    Raises:
        ArgumentError: A value is wrong.
        BundleError: The bundle is damaged; also of `restore`, `transfer` and `log_likelihood` if it
            has no inverter.
        DeviceError: The device does not start. Methods raise ImageError, NonFiniteError and
            CancelledError, too.

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

        def open_painter(one: Bundle) -> Painter:
            if one is not bundle:
                verify(one)
            return Painter(
                one, open_backend(one, device=device, threads=threads, precision=precision), tile
            )

        self.engine = Engine(bundles_of(bundle), open_painter, tile)
        """Internal: the open models. Any version may change it."""

    def __enter__(self) -> Self:
        self.engine.painter.check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        models = " or ".join(self.engine.bundles)
        return (
            f"<{type(self).__name__}: {models}, device={self.device!r}, "
            f"precision={self.precision!r}>"
        )

    def close(self) -> None:
        """Release the model and the device memory.

        Later calls raise DeviceError; closing twice is harmless.
        """
        self.engine.close()

    @property
    def bundle(self) -> Bundle:
        """The bundle in use. Raises: ArgumentError if each picture has the one that suits it."""
        bundle, *others = self.engine.bundles.values()
        if others:
            names = " or ".join(map(repr, self.engine.bundles))
            raise ArgumentError(
                f"each picture has the model that suits it, so there is no one bundle; name {names}"
            )
        return bundle

    @property
    def scale(self) -> int:
        """How many times larger the sides are where no `scale` is named.

        Of one model, also the most.
        """
        return self.engine.painter.manifest.scale

    @property
    def device(self) -> str:
        """The device in use, such as "cpu", "cuda", "tensorrt" or "openvino"."""
        return self.engine.painter.backend.device

    @property
    def precision(self) -> ComputePrecision:
        """The encoder's arithmetic: "bundle", "bf16" or "int8", also after "fastest".

        Of "auto", x4-small's.
        """
        return self.engine.painter.backend.precision

    @overload
    def upscale(self, image: ImageT, **options: Unpack[PictureKeywords]) -> ImageT: ...
    @overload
    def upscale(self, image: EncodedImage, **options: Unpack[PictureKeywords]) -> Image.Image: ...
    @overload
    def upscale(self, image: TensorT, **options: Unpack[PictureKeywords]) -> TensorT: ...
    def upscale(
        self, image: AnyImage, *, layout: Layout = "hwc", **options: Unpack[DrawKeywords]
    ) -> Any:
        """Upscale an image into one of its kind.

        The keywords are :class:`~srflow_sdk.drawing.options.DrawOptions`.
        """
        draw = keywords_of(DrawOptions, options)
        if draw.value_range is not None:
            if not (isinstance(image, np.ndarray) or is_tensor(image)):
                raise ImageError(
                    "value_range is for arrays and tensors, and for TIFF files with upscale_file"
                )
            values, kind = unpacked(image, layout=layout, raw=True)
            return kind.wrapped(self.engine.enlarge_values(values, draw))
        return self.engine.encode(image, layout=layout, draw=draw).draw_images(draw)[0]

    @overload
    def upscale_many(
        self, images: Sequence[ImageT], **options: Unpack[PictureKeywords]
    ) -> list[ImageT]: ...
    @overload
    def upscale_many(self, images: StackT, **options: Unpack[PictureKeywords]) -> StackT: ...
    @overload
    def upscale_many(
        self, images: Sequence[Any], **options: Unpack[PictureKeywords]
    ) -> list[Any]: ...
    def upscale_many(
        self, images: Any, *, layout: Layout = "hwc", **options: Unpack[DrawKeywords]
    ) -> Any:
        """Upscale a list of images, or an array or tensor N×H×W×C, each as by :meth:`upscale`.

        Errors say which.
        """
        draw = keywords_of(DrawOptions, options)
        stacked = isinstance(images, np.ndarray) or is_tensor(images)
        if not stacked and (
            not isinstance(images, Sequence) or isinstance(images, (str, bytes, bytearray))
        ):
            raise ArgumentError(
                f"images is {short(images)}; it must be a list of images, or an array N×H×W×C"
            )
        if stacked and (len(images.shape) != 4 or not images.shape[0]):
            raise ImageError(
                f"the images' shape is {images.shape}; it must be N×H×W×C; or pass a list of arrays"
            )
        encoded = list[EncodedPicture]()
        pictures = list[Any]()
        for number, image in enumerate(array_of(images) if is_tensor(images) else images):
            with _name_image_in_errors(number):
                encoded.append(self.engine.encode(image, layout=layout, draw=draw))
        tell: Progress = draw.progress or (lambda *_: None)
        total = sum(len(picture.tiles) for picture in encoded)
        done = 0
        for number, picture in enumerate(encoded):

            def progress(now: int, of: int, at: int = done, picture: Any = picture) -> None:
                # Wrapped, a picture draws more tiles than it has.
                tell(at + now * len(picture.tiles) // of, total)

            with _name_image_in_errors(number):
                pictures += picture.draw_images(replace(draw, progress=progress))
            done += len(picture.tiles)
        if not stacked:
            return pictures
        maker = tensor_maker(images) if is_tensor(images) else None
        return np.stack(pictures) if maker is None else maker(np.stack(pictures))

    def upscale_file(
        self,
        source: PathLike,
        targets: PathLike | Sequence[PathLike],
        *,
        report: bool = False,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        interval: float | None = None,
        **options: Unpack[DrawKeywords],
    ) -> FileResult:
        """Upscale an image file, with its metadata, into one for each sample.

        The memory that it takes does not grow with the picture.

        Args:
            source: PNG, JPEG, WebP, TIFF, BMP, still GIF, AVIF, or HEIC with the extra `heic`; 8 or
                16 bits or float.
            targets: One path, or one for each sample, from `sample` on; endings set the format
                (:func:`write_image`).
            report: Measure each output's LR-PSNR, at the model's scale; below 40 dB a warning is
                logged.
            max_pixels: The largest source accepted, width × height.
            quality, lossless: As for :func:`write_image`.
            interval: A coverage, as of :meth:`Encoding.interval`, for three targets: picture, low,
                high, of 8 samples.
        """
        paths = (
            list(targets)
            if isinstance(targets, Sequence) and not isinstance(targets, (str, bytes))
            else [targets]
        )
        path = file_path("source", source)
        draw = keywords_of(DrawOptions, options)
        writing = WriteOptions(
            report=report, max_pixels=max_pixels, quality=quality, lossless=lossless
        )
        outputs = [file_path("a target", target) for target in paths]
        return self.engine.upscale_file(None, path, outputs, draw, writing, interval=interval)

    @overload
    def encode(self, image: ImageT, **options: Unpack[EncodeKeywords]) -> Encoding[ImageT]: ...
    @overload
    def encode(
        self, image: EncodedImage, **options: Unpack[EncodeKeywords]
    ) -> Encoding[Image.Image]: ...
    @overload
    def encode(self, image: Tensor, **options: Unpack[EncodeKeywords]) -> Encoding[Any]: ...
    def encode(
        self,
        image: AnyImage,
        *,
        layout: Layout = "hwc",
        memory_budget: int | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Encoding[Any]:
        """Compute what depends on the image alone, so that drawing samples from it is quick.

        Args:
            memory_budget: Bytes of conditioning to keep on the device; tiles beyond it are encoded
                for every draw. None is a third of a GPU's free memory, otherwise a quarter of what
                is free, at most 1 GiB.
        """
        if memory_budget is not None:
            memory_budget = whole(
                "memory_budget", memory_budget, least=0, also="None or ", of=" of bytes"
            )
        draw = DrawOptions(progress=progress, cancel=cancel)
        picture = self.engine.encode(
            image, layout=layout, draw=draw, memory_budget=memory_budget, copied=True
        )
        return Encoding(picture, self.engine.painter)

    @overload
    def best_of(
        self,
        image: ImageT,
        score: Callable[[ImageT], float],
        n: int,
        **options: Unpack[PictureKeywords],
    ) -> ImageT: ...
    @overload
    def best_of(
        self,
        image: EncodedImage,
        score: Callable[[Image.Image], float],
        n: int,
        **options: Unpack[PictureKeywords],
    ) -> Image.Image: ...
    @overload
    def best_of(
        self,
        image: TensorT,
        score: Callable[[TensorT], float],
        n: int,
        **options: Unpack[PictureKeywords],
    ) -> TensorT: ...
    def best_of(
        self,
        image: AnyImage,
        score: Callable[[Any], float],
        n: int,
        *,
        layout: Layout = "hwc",
        **options: Unpack[DrawKeywords],
    ) -> Any:
        """Draw `n` samples, 1 to 2^20, and return the one whose `score` is the highest.

        score: a function of a picture.
        """
        draw = keywords_of(DrawOptions, options)
        if not callable(score):
            raise ArgumentError(
                f"score is {score!r}; it must be a function of a picture that returns a number"
            )
        numbers = draw.numbers(n)
        painter, _ = self.engine.open_suited(None, draw)
        encoded = self.engine.encode(image, layout=layout, memory_budget=None, painter=painter)
        best = None
        highest = -math.inf
        for place, sample in enumerate(numbers):
            progress = part_progress(place, len(numbers), draw.progress)
            (picture,) = encoded.draw_images(replace(draw, sample=sample, progress=progress))
            answer = score(picture)
            try:
                value = float(answer)
            except (TypeError, ValueError, OverflowError):
                value = math.nan
            if math.isnan(value):
                raise ArgumentError(
                    f"score returned {short(answer)} for sample {sample}; it must return a number"
                )
            if best is None or value > highest:
                best = picture
                highest = value
        return best

    @overload
    def restore(
        self, image: ImageT, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]
    ) -> ImageT: ...
    @overload
    def restore(
        self, image: EncodedImage, *, layout: Layout = ..., **_: Unpack[RestoreKeywords]
    ) -> Image.Image: ...
    @overload
    def restore(
        self, image: TensorT, *, layout: Layout = ..., **options: Unpack[RestoreKeywords]
    ) -> TensorT: ...
    def restore(
        self, image: AnyImage, *, layout: Layout = "hwc", **options: Unpack[RestoreKeywords]
    ) -> Any:
        """Remove noise and dots, not blur and JPEG's blocks.

        The keywords are :class:`~srflow_sdk.flow.options.RestoreOptions`.
        """
        chosen = keywords_of(RestoreOptions, options)
        with memory_errors_typed("for the image; use a smaller one"):
            pixels, kind = load_image(image, layout=layout)
        return kind.wrapped(restore_pixels(pixels, kind, self.engine.painter, chosen)[0])

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
        """Restore an image file into another of its size.

        It is :meth:`restore` with the keywords of upscale_file.
        """
        return restore_file(
            file_path("source", source),
            file_path("target", target),
            self.engine.painter,
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
    ) -> Any:
        """Put what a mask selects of one picture into another.

        The keywords are :class:`~srflow_sdk.flow.options.TransferOptions`.

        Args:
            target, source: Of one size. Beyond 6 pixels around the mask, the answer is the target.
            mask: An array or tensor of bool, H×W, or an image, at least half as bright as white
                inside.
            lr: The target's true LR image, if it was upscaled from one; None reduces the target.
        """
        chosen = keywords_of(TransferOptions, options)
        with memory_errors_typed("for the pictures; use smaller ones"):
            into = Picture(*load_image(target))
            content = Picture(*load_image(source))
            small = None if lr is None else Picture(*load_image(lr))
            return into.kind.wrapped(
                transfer_pixels(into, content, mask_of(mask), small, self.engine.painter, chosen)[0]
            )

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
        """Put what a mask selects of one image file into another: :meth:`transfer`, else as
        upscale_file.
        """
        return transfer_file(
            self.engine.painter,
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
        hr: AnyImage,
        lr: AnyImage | None = None,
        *,
        dequantise: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> float:
        """Compute log p(hr | lr) in nats, of values in [0, 1], as by :meth:`Encoding.invert`.

        lr: None reduces hr.
        """
        painter = self.engine.painter
        with memory_errors_typed("for the HR image and its latents; use a smaller image"):
            pixels, kind = load_image(hr)
            if lr is not None:
                small, its_kind = load_image(lr)
            else:
                pixels, kind = opaque_image(pixels, kind, painter.manifest)
                small = reduced_image(pixels, painter.manifest)
                its_kind = kind
            encoded = EncodedPicture(small, its_kind, painter, memory_budget=0)
            latents = encoded.invert(
                pixels, kind, dequantise=dequantise, progress=progress, cancel=cancel
            )
        assert latents.log_likelihood is not None  # for the type checker: inverting gives it
        return latents.log_likelihood


@contextlib.contextmanager
def _name_image_in_errors(number: int) -> Iterator[None]:
    """Let errors that concern one image say which of several it is."""
    try:
        yield
    except (ArgumentError, ImageError, NonFiniteError) as error:
        raise type(error)(f"image {number}: {error}") from error
