"""The SDK's front: :class:`Upscaler` turns images into larger ones, as many different answers as asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._drawing.file_upscaling import FileResult, provenance_of, upscale_file
from srflow_sdk._drawing.painter import Painter
from srflow_sdk._drawing.passes import Progress
from srflow_sdk._drawing.requests import Reduce, check_numbers
from srflow_sdk._drawing.temperature import Tau, checked_number
from srflow_sdk._files import MAX_PIXELS, Provenance, read_image
from srflow_sdk.backends import Device, open_backend
from srflow_sdk.bundle import Bundle
from srflow_sdk.encoding import DrawOptions, Encoding, ImageT, Report
from srflow_sdk.errors import ArgumentError, ImageError, memory_errors_typed
from srflow_sdk.images import InMemoryImage, unpacked
from srflow_sdk.tiles import TileSize, check_tile

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

PathLike = str | os.PathLike[str]

ENCODING_BUDGET_BYTES = 1 << 30
"""Conditioning that :meth:`Upscaler.encode` keeps by default."""


class Upscaler:
    """Super-resolution with one bundle on one device. Close it, or use it as a context manager.

    bundle: a bundle directory or an open :class:`~srflow_sdk.bundle.Bundle`; None is the model embedded in the SDK.
    device: "cpu"; "cuda"; "tensorrt", the bundle's engines, or ONNX Runtime's TensorRT; "rtx", "webgpu" or "openvino",
    plug-in providers of ONNX Runtime; or "auto", the first of engines, CUDA and GPUs of plug-ins that really starts,
    else the CPU.
    tile: LR pixels a side that are computed at a time: "auto" fits the memory that is free, "none" takes the whole
    image at once, a number, at least 16, is rounded up to what the network needs. It changes memory and speed; the
    picture only by the halo's truncation.
    threads: CPU threads, at most one per core; None leaves the choice to the runtime.

    Thread-safe: any number of threads may share one. The same bundle, image, tau, seed and sample give the same
    picture in any call, and whatever other samples are drawn with it: to the bit with tiles of the same size, which
    "auto" chooses by the free memory.

    Raises: BundleError, DeviceError, ArgumentError.
    """

    def __init__(
        self,
        bundle: PathLike | Bundle | None = None,
        *,
        device: Device = "auto",
        tile: TileSize = "auto",
        threads: int | None = None,
    ) -> None:
        check_tile(tile)
        if not (bundle is None or isinstance(bundle, (str, os.PathLike, Bundle))) or bundle == "":
            raise ArgumentError(f"bundle is {bundle!r}; it is the path of a bundle, an open Bundle, or None")
        if bundle is None:
            bundle = Bundle.embedded()
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._painter = Painter(self._bundle, open_backend(self._bundle, device=device, threads=threads), tile)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """How many times larger the output's sides are."""
        return self._bundle.manifest.scale

    @property
    def device(self) -> str:
        """Where it runs, such as "cpu" or "cuda"."""
        return self._painter.device

    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        samples: Literal[1] = ...,
        reduce: None = ...,
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> ImageT: ...
    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        samples: int,
        reduce: None = ...,
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> list[ImageT] | Any: ...
    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        samples: int,
        reduce: Literal["mean"],
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> ImageT: ...
    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        samples: Literal[1] = ...,
        reduce: None = ...,
        report: Literal[True],
        **options: Unpack[DrawOptions],
    ) -> tuple[ImageT, Report]: ...
    @overload
    def upscale(
        self, image: ImageT, *, samples: int, reduce: None = ..., report: Literal[True], **options: Unpack[DrawOptions]
    ) -> tuple[list[ImageT] | Any, Report]: ...
    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        samples: int,
        reduce: Literal["mean"],
        report: Literal[True],
        **options: Unpack[DrawOptions],
    ) -> tuple[ImageT, Report]: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        samples: Literal[1] = ...,
        reduce: None = ...,
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> Image.Image: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        samples: int,
        reduce: None = ...,
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> list[Image.Image] | Any: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        samples: int,
        reduce: Literal["mean"],
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> Image.Image: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        samples: Literal[1] = ...,
        reduce: None = ...,
        report: Literal[True],
        **options: Unpack[DrawOptions],
    ) -> tuple[Image.Image, Report]: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        samples: int,
        reduce: None = ...,
        report: Literal[True],
        **options: Unpack[DrawOptions],
    ) -> tuple[list[Image.Image] | Any, Report]: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        samples: int,
        reduce: Literal["mean"],
        report: Literal[True],
        **options: Unpack[DrawOptions],
    ) -> tuple[Image.Image, Report]: ...
    @overload
    def upscale(
        self,
        image: InMemoryImage | PathLike,
        *,
        samples: int,
        reduce: Literal["std"],
        report: Literal[False] = ...,
        **options: Unpack[DrawOptions],
    ) -> NDArray[np.float32]: ...
    @overload
    def upscale(
        self,
        image: InMemoryImage | PathLike,
        *,
        samples: int = ...,
        reduce: Reduce | None = ...,
        report: bool = ...,
        **options: Unpack[DrawOptions],
    ) -> Any: ...
    def upscale(
        self,
        image: InMemoryImage | PathLike,
        *,
        tau: Tau | None = None,
        seed: int = 0,
        sample: int = 0,
        samples: int = 1,
        reduce: Reduce | None = None,
        consistent: bool = False,
        report: bool = False,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        """Upscale an image: one answer, or a list of several.

        image: a PIL image, an array H×W, H×W×1, 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) of uint8, uint16 or
        float32 in [0, 1], or the path of an 8-bit file. The answer is of the same type, mode and dtype, `scale` times
        as large (palette, CMYK, YCbCr and HSV come back as RGB, bilevel as L); a path gives a PIL image, upright.
        Colours with a profile other than sRGB are converted for the network and come back in that profile; arrays are
        sRGB. Alpha is enlarged by bicubic interpolation; what lies under wholly transparent pixels does not show.
        tau: temperature, 0 … 2: the standard deviation of the latents. 0 is one smooth answer, larger values
        are sharper and differ more. An array H×W gives each pixel of the input its own. None is the model's default.
        seed: 0 … 2^64 - 1. sample: index of the first sample; samples: how many, at least 1: with more than 1 the
        answer is a list, of which item i is what `sample=sample + i` gives alone, bit for bit.
        reduce: "mean" gives one image, the average of the samples; "std" their standard deviation (of n - 1), float32
        H×W×3 or 1 of values in [0, 1], without alpha. Neither holds the samples in memory; both need at least 2.
        consistent: change the answer as little as possible so that its bicubic reduction is the input, to within the
        rounding of its dtype, but where that would need values outside [0, 1].
        report: give (answer, :class:`Report`) with the PSNR between that reduction and the input; under 40 dB a
        warning is logged.
        progress: called as progress(done, total) after each tile of each sample, from the calling thread. An exception
        that it raises ends the call. cancel: once this event is set, from any thread, the call ends with
        CancelledError before its next tile.

        Memory is bounded by the outputs and one tile: each tile is encoded once and all samples are drawn from it.
        Where memory runs out all the same, tiles become smaller, and a warning says so once.

        Raises: ImageError, ArgumentError, DeviceError, OutOfMemoryError, NonFiniteError, CancelledError.
        """
        return self._encoding(image, memory_budget=0).sample(
            tau=tau,
            seed=seed,
            sample=sample,
            samples=samples,
            reduce=reduce,
            consistent=consistent,
            report=report,
            progress=progress,
            cancel=cancel,
        )

    def upscale_file(
        self,
        source: PathLike,
        targets: PathLike | Sequence[PathLike],
        *,
        tau: Tau | None = None,
        seed: int = 0,
        sample: int = 0,
        consistent: bool = False,
        report: bool = False,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> FileResult:
        """Upscale an image file into one file for each sample, in memory that does not grow with the picture.

        source: PNG, JPEG, WebP, TIFF, still GIF, or AVIF and HEIC where libvips has them; 8 or 16 bits or float. It is
        never overwritten. targets: one path, or one for each sample: target i holds sample `sample + i`. Their endings
        say the format; see :func:`write_image`. Colour profile, EXIF and the rest of the metadata are carried over, the
        resolution is scaled, and how the picture was made is added (:func:`read_provenance`). Each file appears whole,
        when all are finished; on an error none does, and older files of these names stay.
        max_pixels: largest source that is taken. report: measure each output's LR-PSNR. The rest as in :meth:`upscale`.

        Decoding, drawing and encoding overlap. Only the encoders of WebP and AVIF hold the whole picture in memory.

        Raises: as :meth:`upscale`; ImageError for files that cannot be read or written.
        """
        paths = list(targets) if isinstance(targets, Sequence) and not isinstance(targets, (str, bytes)) else [targets]
        return upscale_file(
            self._painter,
            _path("source", source),
            [_path("a target", path) for path in paths],
            tau=self._bundle.manifest.default_tau if tau is None else tau,
            seed=seed,
            sample=sample,
            consistent=consistent,
            report=report,
            max_pixels=max_pixels,
            progress=progress,
            cancel=cancel,
        )

    def provenance(
        self,
        source: PathLike,
        *,
        source_sha256: str,
        tau: float | None = None,
        seed: int = 0,
        sample: int = 0,
        consistent: bool = False,
    ) -> Provenance:
        """What :meth:`upscale_file` would say about how an output was made, but for its tiles (None here).

        Raises: ArgumentError for numbers out of range.
        """
        manifest = self._bundle.manifest
        check_numbers(seed=seed, sample=sample)
        return provenance_of(
            manifest,
            source=Path(source),
            source_sha256=source_sha256,
            tau=checked_number(manifest.default_tau if tau is None else tau),
            seed=seed,
            sample=sample,
            consistent=consistent,
            tile=None,
        )

    @overload
    def encode(self, image: ImageT, *, memory_budget: int = ...) -> Encoding[ImageT]: ...
    @overload
    def encode(self, image: PathLike, *, memory_budget: int = ...) -> Encoding[Image.Image]: ...
    def encode(self, image: InMemoryImage | PathLike, *, memory_budget: int = ENCODING_BUDGET_BYTES) -> Encoding[Any]:
        """Compute everything that depends on the image alone, so that drawing samples from it is quick.

        image: as in :meth:`upscale`. memory_budget: bytes of conditioning to keep on the device; tiles beyond it are
        encoded again for every draw, which is slower and gives the same picture.

        Raises: ImageError, ArgumentError, DeviceError.
        """
        if isinstance(memory_budget, bool) or not isinstance(memory_budget, Integral) or memory_budget < 0:
            raise ArgumentError(f"memory_budget is {memory_budget!r}; it is a number of bytes, at least 0")
        if isinstance(image, np.ndarray):
            image = image.copy()  # tiles that are not kept are encoded later, when the caller's may have changed
        return self._encoding(image, memory_budget=int(memory_budget))

    def _encoding(self, image: InMemoryImage | PathLike, *, memory_budget: int) -> Encoding[Any]:
        with memory_errors_typed("for the image; use upscale_file, or a smaller image"):
            if isinstance(image, (str, os.PathLike)):
                image = _read_eight_bit(image)
            pixels, kind = unpacked(image)
            return Encoding(pixels, kind, self._painter, memory_budget=memory_budget)


def _path(name: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ArgumentError(f"{name} is {value!r}; it is the path of a file")
    return Path(os.fsdecode(value))


def _read_eight_bit(path: PathLike) -> Image.Image:
    file = read_image(_path("image", path))
    if file.pixels.dtype != np.uint8:
        raise ImageError(
            f"{path}: the file holds {file.pixels.dtype}, which PIL images cannot; upscale it into a file: "
            "upscaler.upscale_file(path, target)"
        )
    image = Image.fromarray(file.pixels[..., 0] if file.pixels.shape[2] == 1 else file.pixels)
    if file.metadata.icc_profile is not None:
        image.info["icc_profile"] = file.metadata.icc_profile
    return image
