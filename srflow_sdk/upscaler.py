"""The SDK's entry point: :class:`Upscaler` enlarges images, with as many different answers as you ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, overload

from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._checks import file_path, whole
from srflow_sdk.backends import ComputePrecision, Device, Precision, open_backend
from srflow_sdk.drawing.file_upscaling import FileResult, upscale_file
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.requests import DrawOptions, takes_draw_keywords
from srflow_sdk.drawing.tiles import TileSize, check_tile
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding, ImageT
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import MAX_PIXELS, PathLike, WriteOptions
from srflow_sdk.files.passed_images import EncodedImage
from srflow_sdk.flow.flow_uses import FlowUses
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import InMemoryImage, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from srflow_sdk.drawing.requests import DrawKeywords


class Upscaler(FlowUses):
    """Super-resolution with one bundle on one device. Close it, or use it as a context manager.

    bundle: a bundle directory, the name of an embedded model ("x4-small", "x4-photo"), or an open
    :class:`~srflow_sdk.model.bundle.Bundle`; None is x4-small. :func:`~srflow_sdk.choose_model` says which suits a
    picture.
    device: "cpu"; "cuda"; "tensorrt" (the bundle's engines, or ONNX Runtime's TensorRT); "rtx" or "webgpu" (plug-in
    providers of ONNX Runtime); "openvino"; or "auto": the first of engines, CUDA and other GPUs that really starts,
    otherwise the CPU.
    tile: side, in LR pixels, of the tiles computed at a time. "auto" fits them to the free memory, None takes the whole
    image at once, and a number (at least 16) is rounded up to what the network needs. Tiles affect memory and speed,
    and the picture only through the halo's truncation.
    threads: CPU threads, at most one per core; None leaves the choice to the runtime.
    precision: "bundle" computes as the bundle was exported. "bf16" and "int8" let the encoder compute in less, which is
    faster on some processors and makes the picture a little different. "fastest" is the fastest of these here whose
    pictures stay near enough to the exact ones: measured once for each machine and model, which takes some seconds.

    Thread-safe: any number of threads may share one. A process that is forked after this one wrote a file can upscale
    arrays, but not write files (DeviceError): fork before that, or start the process with "spawn". The same bundle,
    image, tau, seed and sample give the same picture in any call, whatever other samples are drawn with it; bit for bit
    if the tiles have the same size, which "auto" chooses by the free memory.

    Raises: BundleError, DeviceError, ArgumentError.
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
        precision: Precision = "bundle",
    ) -> None:
        check_tile(tile)
        if not (bundle is None or isinstance(bundle, (str, os.PathLike, Bundle))) or bundle == "":
            raise ArgumentError(
                f"bundle is {bundle!r}; it must be the path of a bundle, an embedded model's name, a Bundle or None"
            )
        if bundle == "auto":
            raise ArgumentError('bundle is "auto"; choose_model(picture).name is the model that suits a picture')
        if bundle is None:
            bundle = Bundle.embedded()
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._tile = tile
        self._painter = Painter(
            self._bundle, open_backend(self._bundle, device=device, threads=threads, precision=precision), tile
        )

    def __enter__(self) -> Self:
        self._painter.check_open()
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Upscaler holds open sessions and cannot be pickled: make one in each process")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the model and the device memory. Later calls raise DeviceError; closing twice is harmless."""
        self._painter.close()

    @property
    def bundle(self) -> Bundle:
        """The bundle in use."""
        return self._bundle

    @property
    def scale(self) -> int:
        """How many times larger the sides of the model's picture are: the largest `scale` of an output."""
        return self._bundle.manifest.scale

    @property
    def device(self) -> str:
        """The device in use, such as "cpu" or "cuda"."""
        return self._painter.device

    @property
    def precision(self) -> ComputePrecision:
        """The encoder's arithmetic: "bundle", "bf16" or "int8", also after "fastest"."""
        return self._painter.precision

    @property
    def tile(self) -> TileSize:
        """The tiles' size as it was asked for."""
        return self._tile

    @overload
    def upscale(self, image: ImageT, **options: Unpack[DrawKeywords]) -> ImageT: ...
    @overload
    def upscale(self, image: EncodedImage, **options: Unpack[DrawKeywords]) -> Image.Image: ...
    @overload
    def upscale(self, image: Tensor, **options: Unpack[DrawKeywords]) -> NDArray[Any]: ...
    @takes_draw_keywords
    def upscale(self, image: InMemoryImage | Tensor | EncodedImage, **options: Unpack[DrawKeywords]) -> InMemoryImage:
        """Upscale an image into one picture of its kind. :meth:`encode` gives several, their mean and deviation.

        image: a PIL image; an array or tensor, H×W, H×W×1, 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha), of uint8,
            uint16, or float32 or float64 in [0, 1]; or an 8-bit file: its path, its bytes, or a file object opened in
            binary mode. The answer has the same type, mode and dtype (palette, CMYK, YCbCr and HSV come back as RGB,
            bilevel as L); a tensor gives an array of its dtype, a file an upright PIL image. Colours with a profile
            other than sRGB are converted for the network and come back in that profile; arrays are sRGB. Alpha is
            enlarged by bicubic interpolation; colours under fully transparent pixels do not show.
        tau: temperature, 0 … 2: the standard deviation of the latents. 0 gives one smooth answer; larger values give
            sharper answers that differ more. An array H×W gives each input pixel its own. "auto" is the model's
            default number where the input has texture, and less on flat areas, text and line art. None is the model's
            default, which may be "auto".
        seed, sample: 0 … 2^64 - 1; they select the answer. Equal numbers give equal pictures.
        consistent: change the answer as little as possible so that its bicubic reduction equals the input within the
            rounding of its dtype, except where that needs values outside [0, 1]. :func:`~srflow_sdk.lr_psnr` measures
            it. It holds for the model's picture, before `scale` reduces that.
        scale: how many times larger the answer's sides are, any number up to the model's, such as 2 or 1.5; sides are
            rounded to whole pixels, halves up. Or an :class:`OutputSize` in pixels. None is the model's :attr:`scale`.
        reduction, linear_light: the model's picture is made smaller as MATLAB's imresize does it, by antialiased
            "bicubic" or "lanczos" (three lobes) interpolation with borders mirrored, in the image's own values or in
            light, by its profile's curves (sRGB's if it has none, or tables). Transparent pixels count by their alpha.
        progress: called as progress(done, total) after each tile of each sample, from the calling thread. An exception
            that it raises ends the call.
        cancel: once this event is set, from any thread, the call ends with CancelledError before its next tile.

        Memory is bounded by the output and one tile. If it still runs out, tiles become smaller, with one warning.

        Raises: ImageError, ArgumentError, DeviceError, OutOfMemoryError, NonFiniteError, CancelledError.
        """
        picture: InMemoryImage = self._encoding(image, memory_budget=0).sample(**options)
        return picture

    @takes_draw_keywords
    def upscale_file(
        self,
        source: PathLike,
        targets: PathLike | Sequence[PathLike],
        *,
        report: bool = False,
        max_pixels: int = MAX_PIXELS,
        quality: int | None = None,
        lossless: bool = False,
        **options: Unpack[DrawKeywords],
    ) -> FileResult:
        """Upscale an image file into one file for each sample, in memory that does not grow with the picture.

        source: PNG, JPEG, WebP, TIFF, BMP, still GIF, AVIF, or HEIC where libvips can decode it; 8 or 16 bits or float.
            It is never overwritten.
        targets: one path, or one for each sample: target i holds sample `sample + i`. Their endings set the format; see
            :func:`write_image`. Colour profile, EXIF and other metadata are carried over, the resolution is scaled, and
            a record of how the picture was made is added (:func:`read_provenance`). The files appear complete, once all
            are finished; on an error none appears, and older files with these names stay.
        report: measure each output's LR-PSNR, at the model's scale; below 40 dB a warning is logged.
        max_pixels: largest source accepted, width × height.
        quality, lossless: of JPEG, WebP and AVIF, as for :func:`write_image`.
        The other keywords are those of :meth:`upscale`.

        Decoding, drawing and encoding overlap. Only the encoders of WebP and AVIF hold the whole picture in memory.

        Raises: the errors of :meth:`upscale`, and ImageError for files that cannot be read or written.
        """
        paths = list(targets) if isinstance(targets, Sequence) and not isinstance(targets, (str, bytes)) else [targets]
        return upscale_file(
            self._painter,
            file_path("source", source),
            [file_path("a target", path) for path in paths],
            DrawOptions(**options),
            WriteOptions(report=report, max_pixels=max_pixels, quality=quality, lossless=lossless),
        )

    @overload
    def encode(self, image: ImageT, *, memory_budget: int = ...) -> Encoding[ImageT]: ...
    @overload
    def encode(self, image: EncodedImage, *, memory_budget: int = ...) -> Encoding[Image.Image]: ...
    @overload
    def encode(self, image: Tensor, *, memory_budget: int = ...) -> Encoding[Any]: ...
    def encode(
        self, image: InMemoryImage | Tensor | EncodedImage, *, memory_budget: int = ENCODING_BUDGET_BYTES
    ) -> Encoding[Any]:
        """Compute everything that depends on the image alone, so that drawing samples from it is quick.

        image: as in :meth:`upscale`.
        memory_budget: bytes of conditioning to keep on the device; tiles beyond it are encoded again for every draw,
            which is slower and gives the same picture.

        Raises: ImageError, ArgumentError, DeviceError.
        """
        budget = whole("memory_budget", memory_budget, least=0, of=" of bytes")
        return self._encoding(image, memory_budget=budget, copied=True)
