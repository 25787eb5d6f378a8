"""The SDK's front: :class:`Upscaler` turns images into larger ones, as many different answers as asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from PIL import Image

from srflow_sdk.backends import Device, open_backend
from srflow_sdk.bundle import Bundle
from srflow_sdk.encoding import Encoding, ImageT, Progress
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.image_files import read_image
from srflow_sdk.images import InMemoryImage, to_network
from srflow_sdk.tiles import TileSize, check_tile

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

PathLike = str | os.PathLike[str]

ENCODING_BUDGET_BYTES = 1 << 30
"""Conditioning that :meth:`Upscaler.encode` keeps by default."""


class Upscaler:
    """Super-resolution with one bundle on one device. Close it, or use it as a context manager.

    bundle: a bundle directory or an open :class:`~srflow_sdk.bundle.Bundle`; None is the model embedded in the SDK.
    device: "auto" (CUDA where it really starts, else the CPU), "cpu" or "cuda".
    tile: LR pixels a side that are computed at a time: "auto" bounds the memory, "none" takes the whole image at once,
    a number, at least 16, is rounded up to what the network needs. It changes memory and speed; the picture only by
    the halo's truncation.
    threads: CPU threads, at most one per core; None leaves the choice to the runtime.

    Thread-safe: any number of threads may share one. The same bundle, image, tau, seed and sample give the same
    picture in any call, and whatever other samples are drawn with it.

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
        if bundle is None:
            bundle = Bundle.embedded()
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self._tile: TileSize = tile
        self._backend = open_backend(self._bundle, device=device, threads=threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the model and the device memory. Later calls raise DeviceError; closing twice is harmless."""
        self._backend.deactivate()

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
        """Where it runs: "cpu" or "cuda"."""
        return self._backend.device

    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        tau: float | None = ...,
        seed: int = ...,
        sample: int = ...,
        samples: Literal[1] = ...,
        progress: Progress | None = ...,
    ) -> ImageT: ...
    @overload
    def upscale(
        self,
        image: ImageT,
        *,
        tau: float | None = ...,
        seed: int = ...,
        sample: int = ...,
        samples: int,
        progress: Progress | None = ...,
    ) -> list[ImageT] | Any: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        tau: float | None = ...,
        seed: int = ...,
        sample: int = ...,
        samples: Literal[1] = ...,
        progress: Progress | None = ...,
    ) -> Image.Image: ...
    @overload
    def upscale(
        self,
        image: PathLike,
        *,
        tau: float | None = ...,
        seed: int = ...,
        sample: int = ...,
        samples: int,
        progress: Progress | None = ...,
    ) -> list[Image.Image] | Any: ...
    def upscale(
        self,
        image: InMemoryImage | PathLike,
        *,
        tau: float | None = None,
        seed: int = 0,
        sample: int = 0,
        samples: int = 1,
        progress: Progress | None = None,
    ) -> Any:
        """Upscale an image: one answer, or a list of several.

        image: a PIL image, an array H×W, H×W×1, 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) of uint8, uint16 or
        float32 in [0, 1], or the path of an 8-bit file. The answer is of the same type, mode and dtype, `scale` times
        as large (palette, CMYK and YCbCr come back as RGB); a path gives a PIL image, upright. Alpha is enlarged by
        bicubic interpolation.
        tau: temperature, 0 … 2: the standard deviation of the latents. 0 is one smooth answer, larger values
        are sharper and differ more. None is the model's own default.
        seed: 0 … 2^64 - 1. sample: index of the first sample; samples: how many, at least 1: with more than 1 the
        answer is a list, of which item i is what `sample=sample + i` gives alone, bit for bit.
        progress: called as progress(done, total) after each tile of each sample, from the calling thread. An exception
        that it raises ends the call.

        Memory is bounded by the outputs and one tile: each tile is encoded once and all samples are drawn from it.

        Raises: ImageError, ArgumentError, DeviceError, NonFiniteError.
        """
        encoding: Encoding[Any] = self.encode(image, memory_budget=0)
        return encoding.sample(tau=tau, seed=seed, sample=sample, samples=samples, progress=progress)

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
        if isinstance(memory_budget, bool) or not isinstance(memory_budget, int) or memory_budget < 0:
            raise ArgumentError(f"memory_budget is {memory_budget!r}; it is a number of bytes, at least 0")
        if isinstance(image, (str, os.PathLike)):
            image = _read_eight_bit(image)
        rgb, kind = to_network(image)
        return Encoding(
            rgb=rgb,
            kind=kind,
            bundle=self._bundle,
            backend=self._backend,
            tile=self._tile,
            memory_budget=memory_budget,
        )


def _read_eight_bit(path: PathLike) -> Image.Image:
    file = read_image(path)
    if file.pixels.dtype != np.uint8:
        raise ImageError(
            f"{path}: the file has 16 bits per channel, which PIL images cannot hold; upscale the array instead: "
            "file = read_image(path); write_image(out, upscaler.upscale(file.pixels), icc_profile=file.icc_profile)"
        )
    image = Image.fromarray(file.pixels[..., 0] if file.pixels.shape[2] == 1 else file.pixels)
    if file.icc_profile is not None:
        image.info["icc_profile"] = file.icc_profile
    return image
