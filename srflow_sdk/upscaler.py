"""The SDK's entry point: :class:`Upscaler` enlarges images, with as many different answers as you ask for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, NoReturn, overload

from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._choosing import best_of
from srflow_sdk._drawing.file_upscaling import FileResult, upscale_file
from srflow_sdk._drawing.inputs import EncodedImage, checked_path, loaded
from srflow_sdk._drawing.painter import Painter
from srflow_sdk._drawing.reducing import reduced_image
from srflow_sdk._drawing.requests import DrawOptions, takes_draw_keywords, takes_keywords_of
from srflow_sdk._drawing.restoring import RestoreOptions
from srflow_sdk._files import MAX_PIXELS, PathLike
from srflow_sdk._images import InMemoryImage, Tensor
from srflow_sdk._raising import memory_errors_typed
from srflow_sdk._restoring import restore_file, restore_pixels
from srflow_sdk._transferring.files import transfer_file
from srflow_sdk._transferring.inputs import AnyImage, Inputs, Picture, mask_of
from srflow_sdk._transferring.options import TransferOptions
from srflow_sdk._transferring.pixels import transferred
from srflow_sdk.backends import Device, open_backend
from srflow_sdk.bundle import Bundle
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding, ImageT
from srflow_sdk.errors import ArgumentError
from srflow_sdk.tiles import TileSize, check_tile

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from typing_extensions import Self, Unpack

    from srflow_sdk._drawing.requests import DrawKeywords, Progress
    from srflow_sdk._drawing.restoring import RestoreKeywords
    from srflow_sdk._transferring.options import TransferKeywords


class Upscaler:
    """Super-resolution with one bundle on one device. Close it, or use it as a context manager.

    bundle: a bundle directory or an open :class:`~srflow_sdk.bundle.Bundle`; None is the model embedded in the SDK.
    device: "cpu"; "cuda"; "tensorrt" (the bundle's engines, or ONNX Runtime's TensorRT); "rtx", "webgpu" or "openvino"
    (plug-in providers of ONNX Runtime); or "auto": the first of engines, CUDA and plug-ins' GPUs that really starts,
    otherwise the CPU.
    tile: side, in LR pixels, of the tiles computed at a time. "auto" fits them to the free memory, None takes the whole
    image at once, and a number (at least 16) is rounded up to what the network needs. Tiles affect memory and speed,
    and the picture only through the halo's truncation.
    threads: CPU threads, at most one per core; None leaves the choice to the runtime.

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
    ) -> None:
        check_tile(tile)
        if not (bundle is None or isinstance(bundle, (str, os.PathLike, Bundle))) or bundle == "":
            raise ArgumentError(f"bundle is {bundle!r}; it must be the path of a bundle, an open Bundle, or None")
        if bundle is None:
            bundle = Bundle.embedded()
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._tile = tile
        self._painter = Painter(self._bundle, open_backend(self._bundle, device=device, threads=threads), tile)

    def __enter__(self) -> Self:
        self._painter.check_open()
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Upscaler holds open sessions and cannot be pickled: make one in each process")

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
        """How many times larger the sides of the model's picture are: the largest `scale` of an output."""
        return self._bundle.manifest.scale

    @property
    def device(self) -> str:
        """The device in use, such as "cpu" or "cuda"."""
        return self._painter.device

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

        image: a PIL image, an array H×W, H×W×1, 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) of uint8, uint16, or
        float32 or float64 in [0, 1], a tensor of another library like that, such as a torch.Tensor, in the machine's
        memory, or an 8-bit file: its path, its bytes, or a file object opened in binary mode. The answer has the same
        type, mode and dtype (palette, CMYK, YCbCr and HSV come back as RGB, bilevel as L); a tensor gives an array of
        its dtype, a file an upright PIL image.
        Colours with a profile other than sRGB are converted for the network and come back in that profile; arrays are
        sRGB. Alpha is enlarged by bicubic interpolation; colours under fully transparent pixels do not show.
        tau: temperature, 0 … 2: the standard deviation of the latents. 0 gives one smooth answer; larger values give
        sharper answers that differ more. An array H×W gives each input pixel its own. "auto" is the model's default
        number where the input has texture, and less on flat areas, text and line art. None is the model's default,
        which may be "auto".
        seed, sample: 0 … 2^64 - 1; they select the answer. Equal numbers give equal pictures.
        consistent: change the answer as little as possible so that its bicubic reduction equals the input within the
        rounding of its dtype, except where that needs values outside [0, 1]. :func:`~srflow_sdk.lr_psnr` measures it.
        scale: how many times larger the answer's sides are, any number up to the model's, such as 2 or 1.5; sides are
        rounded to whole pixels, halves up. Or an :class:`OutputSize` in pixels. None is the model's :attr:`scale`. The
        model's picture is reduced as MATLAB's imresize does it: by antialiased bicubic or, with reduction="lanczos",
        Lanczos (three lobes) interpolation, with borders mirrored, in the image's own values or, with linear_light, in
        light by its profile's curves (sRGB's if it has none, or tables). Transparent pixels count by their alpha. What
        `consistent` holds for is the model's picture, before it is reduced.
        progress: called as progress(done, total) after each tile of each sample, from the calling thread. An exception
        that it raises ends the call. cancel: once this event is set, from any thread, the call ends with
        CancelledError before its next tile.

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
        It is never overwritten. targets: one path, or one for each sample: target i holds sample `sample + i`. Their
        endings set the format; see :func:`write_image`. Colour profile, EXIF and other metadata are carried over, the
        resolution is scaled, and a record of how the picture was made is added (:func:`read_provenance`). The files
        appear complete, once all are finished; on an error none appears, and older files with these names stay.
        report: measure each output's LR-PSNR, at the model's scale; below 40 dB a warning is logged. max_pixels:
        largest source accepted, width × height. quality, lossless: of JPEG, WebP and AVIF, as for :func:`write_image`.
        The other keywords are those of :meth:`upscale`.

        Decoding, drawing and encoding overlap. Only the encoders of WebP and AVIF hold the whole picture in memory.

        Raises: the errors of :meth:`upscale`, and ImageError for files that cannot be read or written.
        """
        paths = list(targets) if isinstance(targets, Sequence) and not isinstance(targets, (str, bytes)) else [targets]
        return upscale_file(
            self._painter,
            checked_path("source", source),
            [checked_path("a target", path) for path in paths],
            DrawOptions(**options),
            report=report,
            max_pixels=max_pixels,
            quality=quality,
            lossless=lossless,
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

        image: as in :meth:`upscale`. memory_budget: bytes of conditioning to keep on the device; tiles beyond it are
        encoded again for every draw, which is slower and gives the same picture.

        Raises: ImageError, ArgumentError, DeviceError.
        """
        if isinstance(memory_budget, bool) or not isinstance(memory_budget, Integral) or memory_budget < 0:
            raise ArgumentError(f"memory_budget is {memory_budget!r}; it must be a number of bytes, at least 0")
        return self._encoding(image, memory_budget=int(memory_budget), copied=True)

    @overload
    def best_of(
        self, image: ImageT, score: Callable[[ImageT], float], n: int, **options: Unpack[DrawKeywords]
    ) -> ImageT: ...
    @overload
    def best_of(
        self, image: EncodedImage, score: Callable[[Image.Image], float], n: int, **options: Unpack[DrawKeywords]
    ) -> Image.Image: ...
    @overload
    def best_of(
        self, image: Tensor, score: Callable[[NDArray[Any]], float], n: int, **options: Unpack[DrawKeywords]
    ) -> NDArray[Any]: ...
    @takes_draw_keywords
    def best_of(
        self,
        image: InMemoryImage | Tensor | EncodedImage,
        score: Callable[[Any], float],
        n: int,
        **options: Unpack[DrawKeywords],
    ) -> InMemoryImage:
        """Draw `n` samples and return the one that `score` likes best.

            sharpest = upscaler.best_of(photo, lambda picture: np.asarray(picture, float).std(), 10)

        image: as in :meth:`upscale`; the answer is of its kind. score: called with each picture, of that kind, in the
        order of the samples; returns a number, higher is better. It must not change the picture. n: 1 to 2^20; they are
        the samples `sample` … `sample + n - 1`. Of equal scores the first sample wins, so a score that gives equal
        pictures equal numbers makes the same choice in every run. The other keywords are those of :meth:`upscale`;
        progress counts the tiles of all samples. Two pictures are held at a time, whatever `n` is.

        Raises: the errors of :meth:`upscale`; ArgumentError if a score is NaN or no number; whatever `score` raises.
        """
        draw = DrawOptions(**options)
        if not callable(score):
            raise ArgumentError(f"score is {score!r}; it must be a function of a picture that returns a number")
        encoding = self._encoding(image, memory_budget=ENCODING_BUDGET_BYTES)
        best: InMemoryImage = best_of(encoding, score, n, draw)
        return best

    @overload
    def restore(self, image: ImageT, **options: Unpack[RestoreKeywords]) -> ImageT: ...
    @overload
    def restore(self, image: EncodedImage, **options: Unpack[RestoreKeywords]) -> Image.Image: ...
    @overload
    def restore(self, image: Tensor, **options: Unpack[RestoreKeywords]) -> NDArray[Any]: ...
    @takes_keywords_of(RestoreOptions)
    def restore(
        self, image: InMemoryImage | Tensor | EncodedImage, **options: Unpack[RestoreKeywords]
    ) -> InMemoryImage:
        """Remove noise from a picture: one of its size and kind, whose latents are no larger than a true photograph's.

        image: as in :meth:`upscale`. It is reduced to its LR image, inverted given that (:meth:`Encoding.invert`), its
        latents are made smaller where they are too large, and decoded. Alpha stays as it is. A picture whose latents
        are not too large comes back as it was, to rounding: blur and the blocks of a JPEG do not go away.
        tau: the largest root mean square of latents, 0 … 2, for all levels or by level; levels that are not named stay
        as they are. Smaller is smoother. None is what was measured as best: at positions 1; otherwise 1.1 on the finest
        level and 1.7 - r/6, from 0.7 to 1.4, on the others, where r is the root mean square of the finest.
        over: which latents count together: "spatial", a channel at all positions, against noise; "local", all channels
        at one position, against dots and scratches; "global", a level. "auto" is "local" if the latents of level 1 are
        large and a few of them far larger than their neighbours (root mean square above 1, kurtosis within 8×8
        positions above 4.5), otherwise "spatial".
        enlarge: normalise as the publication does instead (:meth:`Latents.normalised`): latents that are too small are
        enlarged, too. It harms most pictures. seed: of what that draws at random; without it nothing is random.
        progress, cancel: as in :meth:`upscale`; the tiles of both passes count.

        Memory holds two pictures and the latents, which are as large as the picture in float32 and lie in temporary
        files beyond 256 MB.

        Raises: BundleError if the bundle has no inverter, and the errors of :meth:`upscale`.
        """
        chosen = RestoreOptions(**options)
        with memory_errors_typed("for the image; use a smaller one"):
            pixels, kind = loaded(image)
        return kind.wrapped(restore_pixels(pixels, kind, self._painter, chosen))

    @takes_keywords_of(RestoreOptions)
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
        """Restore an image file into another of its size, with its profile, metadata, resolution and alpha.

        source, target, max_pixels, quality, lossless: as in :meth:`upscale_file`. report: hash the output. The other
        keywords are those of :meth:`restore`. A record of how it was made is added (:func:`read_provenance`).

        Raises: the errors of :meth:`restore`, and ImageError for files that cannot be read or written.
        """
        return restore_file(
            checked_path("source", source),
            checked_path("target", target),
            self._painter,
            RestoreOptions(**options),
            report=report,
            max_pixels=max_pixels,
            quality=quality,
            lossless=lossless,
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
        target: Tensor,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = ...,
        **options: Unpack[TransferKeywords],
    ) -> NDArray[Any]: ...
    @takes_keywords_of(TransferOptions)
    def transfer(
        self,
        target: AnyImage,
        source: AnyImage,
        mask: AnyImage | NDArray[np.bool_],
        lr: AnyImage | None = None,
        **options: Unpack[TransferKeywords],
    ) -> InMemoryImage:
        """Put what a mask selects of one picture into another of the same size: content transfer.

            upscaler.transfer("portrait.png", "other.png", "mask.png").save("both.png")

        The content is pasted, inverted (:meth:`Encoding.invert`), its latents are normalised position by position
        inside the mask, as the publication does it, and decoded. Only the mask's surroundings are computed. Beyond
        6 pixels outside of the mask the answer is the target, value for value
        (float64 as float32); alpha is the target's everywhere.

        target, source: pictures of one size, each as :meth:`upscale` takes images; content keeps its place. The source
        is converted to the target's kind and colour profile. The answer is of the target's kind.
        mask: bool H×W, or an image: at least half as bright as white (128 of 255) is inside. Any shape, with several
        parts, also at the border. What is transparent in the source is outside. With an empty mask the answer is the
        target, and a warning is logged.
        lr: the target's true LR image, if the target was upscaled from one; None reduces the target.
        blend: "gradient" first shifts the content's brightness and colour smoothly so that no step is left at the
        mask's edge (Poisson image editing), and changes the LR image by what that changes. It suits any two
        photographs. "none" is the publication's way: the content is pasted as it is and the LR image stays the
        target's, so brightness and shapes that contradict it vanish. It suits pictures that agree at LR size: aligned
        faces, or two samples or the true photo of one LR image.
        tau: temperature of the normalised latents, 0 … 2, or by level; levels that are not named stay as they are. None
        is 0.8 on the finest level alone for "gradient", which keeps the content sharp, and 0.9 on all levels for
        "none", as published. seed: of the statistics that normalising draws.
        progress, cancel: as in :meth:`upscale`; tiles count when encoded, inverted and decoded.

        Raises: BundleError if the bundle has no inverter, ImageError also for sizes that differ, and the errors of
        :meth:`upscale`.
        """
        chosen = TransferOptions(**options)
        with memory_errors_typed("for the pictures; use smaller ones"):
            into = Picture.of(target)
            inputs = Inputs.of(
                into, Picture.of(source), mask_of(mask), None if lr is None else Picture.of(lr), scale=self.scale
            )
            return into.kind.wrapped(transferred(inputs, self._painter, chosen).pixels)

    @takes_keywords_of(TransferOptions)
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
        """Put what a mask selects of one image file into another, and write the result to a third.

        target, source, mask, lr: image files as :meth:`upscale_file` reads them, of any depth, used as :meth:`transfer`
        does; none is ever overwritten. output: its ending sets the format. Profile, EXIF and other metadata are the
        target's, and a record of how the picture was made, with the name and sha256 of every input, is added
        (:func:`read_provenance`). max_pixels: largest input accepted. quality, lossless: as in :meth:`upscale_file`.
        The other keywords are those of :meth:`transfer`.

        Raises: the errors of :meth:`transfer`, and ImageError for files that cannot be read or written.
        """
        return transfer_file(
            self._painter,
            checked_path("target", target),
            checked_path("source", source),
            checked_path("mask", mask),
            checked_path("output", output),
            lr=None if lr is None else checked_path("lr", lr),
            options=TransferOptions(**options),
            max_pixels=max_pixels,
            quality=quality,
            lossless=lossless,
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
        """How likely the model finds an HR image, given its LR image: log p(hr | lr) in nats, for values in [0, 1].

        hr: as :meth:`upscale` takes images. lr: its LR image; None: its reduction, as the model's training made them.
        dequantise, progress, cancel: as for :meth:`Encoding.invert`, which gives the latents as well, and the bits for
        each of the image's values.

        Raises: the errors of :meth:`Encoding.invert`.
        """
        with memory_errors_typed("for the HR image; use a smaller one"):
            pixels, kind = loaded(hr)
            small, its_kind = loaded(lr) if lr is not None else (reduced_image(pixels, self._bundle.manifest), kind)
            encoding: Encoding[Any] = Encoding(small, its_kind, self._painter, memory_budget=0)
            image = kind.wrapped(pixels)
        latents = encoding.invert(image, dequantise=dequantise, progress=progress, cancel=cancel)
        assert latents.log_likelihood is not None  # for the type checker: inverting gives it
        return latents.log_likelihood

    def _encoding(
        self, image: InMemoryImage | Tensor | EncodedImage, *, memory_budget: int, copied: bool = False
    ) -> Encoding[Any]:
        with memory_errors_typed("for the image; use upscale_file, or a smaller image"):
            pixels, kind = loaded(image)
            if copied and kind.pil_mode is None:
                # Tiles that are not kept are encoded later, when the caller's array may have changed.
                pixels = pixels.copy()
            return Encoding(pixels, kind, self._painter, memory_budget=memory_budget)
