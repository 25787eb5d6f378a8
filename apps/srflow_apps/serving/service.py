"""Answers requests: the pictures that :class:`~srflow_sdk.Upscaler` gives, and tiles that clients cut themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.request_tensors import ImageRequest, TileRequest, read_request
from srflow_sdk.backends import Backend, Conditioning, Drawing, open_backend
from srflow_sdk.drawing.options import DrawOptions, Request
from srflow_sdk.drawing.painter import KeptTiles, Painter
from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.drawing.tiles import Tile, Window
from srflow_sdk.encoding import Encoding
from srflow_sdk.errors import OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.serving_config import ServingOptions
from srflow_sdk.system.raising import memory_errors_typed

_SESSIONS = 2  # tiles at a time by default: one's Python parts leave the processor to the other


class PictureService:
    """Draws for any number of threads with one bundle.

    backend: None opens the pool that the options ask for. Raises: BundleError, DeviceError.
    """

    def __init__(self, bundle: Bundle, options: ServingOptions, *, backend: Backend | None = None) -> None:
        self.options = options
        self.manifest = bundle.manifest
        self.backend = backend or open_pool(bundle, options)
        self._painter = _ConstantPainter(bundle, self.backend, options.tile)

    def close(self) -> None:
        """Release the sessions."""
        self._painter.close()

    def answer(
        self, inputs: Mapping[str, NDArray[Any]], *, after_tile: Callable[[], None] = lambda: None
    ) -> dict[str, NDArray[Any]]:
        """The outputs, by name, for a request's inputs, by name; :mod:`srflow_apps.serving.request_tensors` says which.

        upscaled: uint8 samples×sH×sW×3, for `image` and `image_bytes`. tile_upscaled: float32 samples×sh×sw×3, for
        `tile`: sRGB as the network gives it, not clipped. after_tile: called after each tile of each sample; what it
        raises ends the work.

        Raises: SRFlowError; what concerns the request itself names the field.
        """
        request = read_request(inputs, self.manifest, self.options)
        if isinstance(request, TileRequest):
            return {"tile_upscaled": self._tile(request, after_tile)}
        return {"upscaled": self._pictures(request, after_tile)}

    def _pictures(self, request: ImageRequest, after_tile: Callable[[], None]) -> NDArray[np.uint8]:
        height, width = (side * self.manifest.scale for side in request.pixels.shape[:2])
        with memory_errors_typed(f"for {request.samples} pictures of {width}×{height}; ask for fewer samples"):
            encoding: Encoding[Any] = Encoding(request.pixels, request.kind, self._painter, memory_budget=0)
            pictures = encoding.samples(
                request.samples,
                tau=request.tau,
                seed=request.seed,
                sample=request.sample,
                progress=lambda _done, _total: after_tile(),
            )
            return np.stack([_rgb(np.asarray(picture)) for picture in pictures])

    def _tile(self, request: TileRequest, after_tile: Callable[[], None]) -> NDArray[np.float32]:
        _, height, width = request.lr.shape
        manifest = self.manifest
        window = Window(top=request.top, left=request.left, height=height, width=width)
        options = DrawOptions(tau=request.tau, seed=request.seed, sample=request.sample)
        temperature = Temperature(
            request.tau_map if request.tau_map is not None else options.tau_for(manifest),
            default=manifest.default_tau,
            height=height,
            width=width,
            multiple=manifest.size_multiple,
        )
        samples = range(request.sample, request.sample + request.samples)
        with memory_errors_typed("for the tile; send a smaller one, or ask for fewer samples"):
            pictures = self._painter.draw(
                Tile(core=window, window=window),
                request.lr,
                Request(options=options, temperature=temperature.placed(request.top, request.left), samples=samples),
                KeptTiles(),
                after_sample=lambda _done: after_tile(),
            )
            return np.stack(pictures)


class PooledBackend(Backend):
    """Runs each call on the next session that is free.

    backends: active ones of one bundle on one device; one may stand here several times, as backends are thread-safe.
    Conditioning must be usable by all of them. Calls of equal shapes are not joined into batches: that was slower.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        super().__init__()
        self._backends = list(backends)
        self.precision = self._backends[0].precision
        self._idle = SimpleQueue[Backend]()
        for backend in backends:
            self._idle.put(backend)
        self.activate()

    @property
    def device(self) -> str:
        return self._backends[0].device

    @property
    def gpu(self) -> int | None:
        return self._backends[0].gpu

    @property
    def window_limits(self) -> LrProfile | None:
        return self._backends[0].window_limits

    @property
    def can_draw(self) -> bool:  # otherwise the processor draws the noise before the call waits for its turn
        return self._backends[0].can_draw

    def activate_impl(self) -> None:
        """Nothing is left to load: the backends are active."""

    def deactivate_impl(self) -> None:
        for backend in self._backends:
            backend.deactivate()

    def encode_impl(self, lr: NDArray[np.float32]) -> Conditioning:
        with self._next() as backend:
            return backend.encode(lr)

    def sample_impl(
        self, conditioning: Conditioning, noise: Mapping[int, NDArray[np.float32]], tau: float
    ) -> NDArray[np.float32]:
        with self._next() as backend:
            return backend.sample(conditioning, noise, tau)

    def draw_impl(self, conditioning: Conditioning, drawing: Drawing) -> NDArray[Any]:
        with self._next() as backend:
            return backend.draw_impl(conditioning, drawing)

    @contextlib.contextmanager
    def _next(self) -> Iterator[Backend]:
        backend = self._idle.get()
        try:
            yield backend
        finally:
            self._idle.put(backend)


def open_pool(bundle: Bundle, options: ServingOptions) -> PooledBackend:
    """The sessions that the options ask for, active. Raises: BundleError, DeviceError."""
    threads, precision = options.threads or None, options.precision
    backends = [open_backend(bundle, device=options.device, threads=threads, precision=precision)]
    try:
        while len(backends) < (options.sessions or _SESSIONS):
            # Elsewhere than on the CPU, conditioning belongs to its session, which takes several calls at a time.
            own = backends[0].device == "cpu"
            more = open_backend(bundle, device="cpu", threads=threads, precision=precision) if own else backends[0]
            backends.append(more)
        return PooledBackend(backends)
    except BaseException:
        for backend in backends:
            backend.deactivate()
        raise


class _ConstantPainter(Painter):
    """A painter whose tiles never shrink: one request that needs too much must not change the others' pictures."""

    def shrink(self, tile: Tile, kept: KeptTiles, error: Exception) -> None:
        side = max(tile.window.height, tile.window.width)
        raise OutOfMemoryError(
            f"memory ran out on {self.backend.device} with tiles of {side} pixels; send a smaller picture or tile, or "
            "try again when fewer requests are worked on"
        ) from error


def _rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of any kind that :func:`read_request` lets through, H×W or H×W×C, as H×W×3."""
    if picture.ndim == 2 or picture.shape[2] <= 2:
        gray = picture if picture.ndim == 2 else picture[..., 0]
        return np.repeat(gray[..., None], 3, axis=2)
    return picture[..., :3]
