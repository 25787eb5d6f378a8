"""An encoded image, from which samples are drawn tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.backends import Backend, Conditioning
from srflow_sdk.bundle import Bundle
from srflow_sdk.errors import ArgumentError, NonFiniteError
from srflow_sdk.images import ImageKind
from srflow_sdk.latents import standard_normal
from srflow_sdk.manifest import MAX_TAU
from srflow_sdk.tiles import Tile, TileSize, core_size, padded_size, plan_tiles

ImageT = TypeVar("ImageT", Image.Image, NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32])
Progress = Callable[[int, int], None]


class Encoding(Generic[ImageT]):
    """An image, encoded: samples, temperatures and seeds at a fraction of the price. Made by :meth:`Upscaler.encode`.

    Usable as long as its Upscaler is open; thread-safe. Device memory is released with the object.
    """

    def __init__(
        self,
        *,
        rgb: NDArray[np.float32],
        kind: ImageKind,
        bundle: Bundle,
        backend: Backend,
        tile: TileSize,
        memory_budget: int,
    ) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self._backend = backend
        self._kind = kind
        self._height, self._width = rgb.shape[:2]
        multiple = manifest.size_multiple
        height, width = padded_size(self._height, multiple), padded_size(self._width, multiple)
        core = core_size(
            tile,
            height=height,
            width=width,
            multiple=multiple,
            halo=manifest.halo,
            conditioning_bytes_per_pixel=manifest.conditioning_bytes_per_pixel,
        )
        margins = ((0, height - self._height), (0, width - self._width), (0, 0))
        self._lr = np.ascontiguousarray(np.pad(rgb, margins, mode="edge").transpose(2, 0, 1))
        self._tiles = plan_tiles(height, width, core=core, halo=manifest.halo, multiple=multiple)
        self._kept: list[Conditioning] = []
        self._nbytes = 0
        for planned in self._tiles:
            pixels = planned.window.height * planned.window.width
            if self._nbytes + pixels * manifest.conditioning_bytes_per_pixel > memory_budget:
                break
            conditioning = self._encoded(planned)
            self._kept.append(conditioning)
            self._nbytes += conditioning.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of conditioning kept on the device."""
        return self._nbytes

    @property
    def tiles(self) -> int:
        """Tiles of the image; :attr:`kept_tiles` of them are kept encoded."""
        return len(self._tiles)

    @property
    def kept_tiles(self) -> int:
        """Tiles that need not be encoded again."""
        return len(self._kept)

    @overload
    def sample(
        self,
        *,
        tau: float | None = ...,
        seed: int = ...,
        sample: int = ...,
        samples: Literal[1] = ...,
        progress: Progress | None = ...,
    ) -> ImageT: ...
    @overload
    def sample(
        self,
        *,
        tau: float | None = ...,
        seed: int = ...,
        sample: int = ...,
        samples: int,
        progress: Progress | None = ...,
    ) -> list[ImageT] | Any: ...
    def sample(
        self,
        *,
        tau: float | None = None,
        seed: int = 0,
        sample: int = 0,
        samples: int = 1,
        progress: Progress | None = None,
    ) -> Any:
        """Draw one answer, or a list of several; arguments, result and errors as in :meth:`Upscaler.upscale`."""
        temperature = self._temperature(tau)
        _check_whole("seed", seed, 0)
        _check_whole("sample", sample, 0)
        _check_whole("samples", samples, 1)
        indices = range(sample, sample + samples)
        if max(seed, indices[-1]) >> 64:
            raise ArgumentError("seed and sample must be below 2^64")
        canvases = self._draw(temperature, seed, indices, progress)
        images = [self._kind.finished(canvas, self._bundle.manifest.scale) for canvas in canvases]
        return images[0] if samples == 1 else images

    def _draw(self, tau: float, seed: int, indices: Sequence[int], progress: Progress | None) -> list[NDArray[Any]]:
        scale = self._bundle.manifest.scale
        shape = (self._height * scale, self._width * scale, self._kind.channels)
        canvases = [np.empty(shape, self._kind.dtype) for _ in indices]
        total = len(self._tiles) * len(indices)
        done = 0
        for number, tile in enumerate(self._tiles):
            conditioning = self._kept[number] if number < len(self._kept) else self._encoded(tile)
            rows, columns = tile.core.scaled(scale).slices
            for canvas, index in zip(canvases, indices, strict=True):
                core = self._sampled(tile, conditioning, tau, seed, index)
                target = canvas[rows, columns]  # smaller than the core where the image was padded
                target[...] = self._kind.quantised(core)[: target.shape[0], : target.shape[1]]
                done += 1
                if progress is not None:
                    progress(done, total)
            del conditioning  # before the next tile is encoded: two at once would double the memory
        return canvases

    def _encoded(self, tile: Tile) -> Conditioning:
        rows, columns = tile.window.slices
        return self._backend.encode(self._lr[None, :, rows, columns])

    def _sampled(
        self, tile: Tile, conditioning: Conditioning, tau: float, seed: int, index: int
    ) -> NDArray[np.float32]:
        """The tile's core of one sample, float32 3×h×w."""
        manifest = self._bundle.manifest
        noise = {}
        for entry in manifest.latent_levels:
            window = tile.latent_window(entry.level, manifest.scale)
            noise[entry.level] = standard_normal(
                seed,
                index,
                entry.level,
                channels=entry.channels,
                top=window.top,
                left=window.left,
                height=window.height,
                width=window.width,
            )[None]
        sr = self._backend.sample(conditioning, noise, tau)
        rows, columns = tile.core.within(tile.window).scaled(manifest.scale).slices
        core = sr[0, :, rows, columns]
        if not np.isfinite(core).all():
            place = tile.core
            raise NonFiniteError(
                f"the network gave NaN or infinite values at tau {tau:g}, seed {seed}, sample {index}, in rows "
                f"{place.top} to {place.top + place.height - 1} and columns {place.left} to "
                f"{place.left + place.width - 1} of the input; use a lower tau, another seed, or a bundle of higher "
                "precision"
            )
        return core

    def _temperature(self, tau: float | None) -> float:
        if tau is None:
            return self._bundle.manifest.default_tau
        if isinstance(tau, bool) or not isinstance(tau, Real):
            raise ArgumentError(f"tau is {tau!r}; it is a number from 0 to {MAX_TAU:g}")
        value = float(tau)
        if not math.isfinite(value) or not 0 <= value <= MAX_TAU:
            raise ArgumentError(f"tau is {value:g}; it is a finite number from 0 to {MAX_TAU:g}")
        return value


def _check_whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ArgumentError(f"{name} is {value!r}; it is a whole number from {low} on")
