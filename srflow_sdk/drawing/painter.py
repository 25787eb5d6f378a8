"""Draws tiles: latents, the network's two graphs, and what to do without enough memory or with non-finite values."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.backends import Backend, Conditioning, Drawing, OnnxRuntimeBackend
from srflow_sdk.backends._base import with_margins
from srflow_sdk.drawing.kept import KeptTiles
from srflow_sdk.drawing.requests import Request
from srflow_sdk.drawing.tiles import (
    AUTO_BUDGET_BYTES,
    AUTO_ROOMY_BYTES,
    CPU_ACTIVATIONS,
    GPU_ACTIVATIONS,
    MIN_TILE,
    OTHER_ACTIVATIONS,
    TRIMMED_ACTIVATIONS,
    Tile,
    TileSize,
    core_size,
    padded_size,
    plan_tiles,
    split_tile,
)
from srflow_sdk.drawing.values import Gathered, is_usable, not_finite
from srflow_sdk.errors import DeviceError, OutOfMemoryError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.model.round_trips import check_inverts, warn_of_round_trip
from srflow_sdk.system.device_names import ComputePrecision
from srflow_sdk.system.hardware import available_memory, can_return_freed_memory, gpu_free_memory
from srflow_sdk.system.interrupts import cancelled_by
from srflow_sdk.system.raising import stop_if_set

_FLOAT32 = np.dtype(np.float32)
_log = logging.getLogger(__name__)


class Painter:
    """Computes tiles with one bundle on one backend, for all images and threads of an Upscaler.

    tile: as for :class:`~srflow_sdk.upscaler.Upscaler`. When memory runs out, the tile is computed in parts, and so are
    all later ones of that size.
    """

    def __init__(self, bundle: Bundle, backend: Backend, tile: TileSize) -> None:
        self.manifest = bundle.manifest
        self._bundle = bundle
        self.backend = backend
        """The backend that computes the tiles."""
        self._tile = tile
        self._largest_core: int | None = None
        self._on_cpu: dict[str, Backend] = {}  # by what is said when one is made
        self._closed = False
        self._told_of_round_trip = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Release the backends. Closing twice is harmless."""
        self.backend.deactivate()
        with self._lock:
            self._closed = True
            for backend in self._on_cpu.values():
                backend.deactivate()
            self._on_cpu.clear()

    def check_open(self) -> None:
        """Raises: DeviceError once it was closed."""
        if self._closed:
            raise DeviceError("this Upscaler was closed: make another one, or use it inside its `with` block")

    @property
    def device(self) -> str:
        return self.backend.device

    @property
    def precision(self) -> ComputePrecision:
        return self.backend.precision

    def core(self, height: int, width: int, *, halo: int | None = None) -> int | None:
        """Choose the side of the tiles' cores for a height×width image (whole size multiples); None: one tile.

        halo: of the tiles, in LR pixels; None is the manifest's.

        Raises: DeviceError if the requested tiles are larger than the backend takes, or it was closed.
        """
        self.check_open()
        manifest = self.manifest
        return core_size(
            self._tile,
            height=height,
            width=width,
            multiple=manifest.size_multiple,
            halo=manifest.halo if halo is None else halo,
            conditioning_bytes_per_pixel=manifest.conditioning_bytes_per_pixel * self._widening(),
            activations=_activations(self.backend),
            limits=self.backend.window_limits,
            **(self._budget() if self._tile == "auto" else {}),
        )

    def plan(self, height: int, width: int, core: int | None, *, halo: int | None = None) -> list[Tile]:
        """Cut a height×width image into tiles. halo: in LR pixels; None is the manifest's."""
        manifest = self.manifest
        return plan_tiles(
            height,
            width,
            core=core,
            halo=manifest.halo if halo is None else halo,
            multiple=manifest.size_multiple,
            least=_least(self.backend),
        )

    def encode(self, lr: NDArray[np.float32], backend: Backend | None = None) -> Conditioning:
        """Encode a window, float32 3×h×w. If the backend takes none so small, the last row and column are repeated.

        backend: None is the painter's own.
        Raises: DeviceError, OutOfMemoryError.
        """
        backend = backend or self.backend
        bottom, right = self.margins(backend, *lr.shape[1:])
        if bottom or right:
            lr = np.pad(lr, ((0, 0), (0, bottom), (0, right)), mode="edge")
        return backend.encode(lr[None])

    def margins(self, backend: Backend, height: int, width: int) -> tuple[int, int]:
        """Count the rows and columns that a window lacks."""
        least = (padded_size(side, self.manifest.size_multiple) for side in _least(backend))
        bottom, right = (max(side - have, 0) for side, have in zip(least, (height, width), strict=True))
        return bottom, right

    def fits(self, tile: Tile) -> bool:
        """Tell if the tile is no larger than what memory was enough for, once it ran out."""
        return self._largest_core is None or max(tile.core.height, tile.core.width) <= self._largest_core

    def parts(self, tile: Tile, *, halo: int) -> list[Tile]:
        core, multiple = self._largest_core or MIN_TILE, self.manifest.size_multiple
        return split_tile(tile, core=core, halo=halo, multiple=multiple, least=_least(self.backend))

    def draw(
        self,
        tile: Tile,
        lr: NDArray[np.float32],
        request: Request,
        *,
        channels: int = 3,
        dtype: np.dtype[Any] = _FLOAT32,
        kept: KeptTiles | None = None,
        after_sample: Callable[[int], None] = lambda _: None,
    ) -> list[NDArray[Any]]:
        """Draw the tile's core for every picture of a request: sh×sw×channels of the dtype.

        lr: the tile's window, float32 3×h×w.
        channels: 1 (gray) or 3 (RGB). dtype: all but float32 are clipped to [0, 1] and rounded to its full range.
        kept: conditioning of tiles, which is dropped first if memory runs out.
        after_sample: called with the number of samples done.

        Raises: NonFiniteError, OutOfMemoryError if even the smallest tiles need too much, DeviceError, CancelledError.
        """
        self.check_open()
        while (found := kept.get(tile) if kept else None) is not None or self.fits(tile):
            steps = self._drawn(tile, lr, request, Gathered(request.reduce, channels, dtype, request.band), found)
            del found  # or it could not be dropped
            while True:
                try:
                    done = next(steps)
                except StopIteration as end:
                    pictures: list[NDArray[Any]] = end.value
                    return pictures
                except (OutOfMemoryError, MemoryError) as error:
                    if not (kept and kept.drop()):
                        self.shrink(tile, error)
                    break
                after_sample(done)  # not in the try block: its errors are the caller's
        # Here, not in the handler: the error's traceback keeps the tile's memory alive.
        return self._drawn_in_parts(tile, lr, request, channels=channels, dtype=dtype, kept=kept)

    def _drawn(
        self,
        tile: Tile,
        lr: NDArray[np.float32],
        request: Request,
        gathered: Gathered,
        kept: Conditioning | None,
    ) -> Generator[int, None, list[NDArray[Any]]]:
        """Yield how many samples are done, and return the pictures."""
        stop_if_set(request.options.cancel)
        with cancelled_by(request.options.cancel):
            conditioning = self.encode(lr) if kept is None else kept
        for done, (sample, drawn) in enumerate(request.draws, start=1):
            stop_if_set(request.options.cancel)
            with cancelled_by(request.options.cancel):
                core = self._core(self.backend, tile, conditioning, drawn, sample, rounded=gathered.takes_levels)
                if core.dtype == np.float32:
                    core = core if is_usable(core) else self._core_again(tile, lr, drawn, sample)
                    core = core.transpose(1, 2, 0)
            gathered.add(core)
            yield done
        return gathered.pictures()

    def _drawn_in_parts(
        self,
        tile: Tile,
        lr: NDArray[np.float32],
        request: Request,
        *,
        channels: int,
        dtype: np.dtype[Any],
        kept: KeptTiles | None,
    ) -> list[NDArray[Any]]:
        manifest = self.manifest
        window, scale = tile.window, manifest.scale
        parts = self.parts(tile, halo=manifest.halo)
        shape = (tile.core.height * scale, tile.core.width * scale, channels)
        whole: list[NDArray[Any]] = [np.empty(shape, dtype) for _ in range(request.pictures)]
        for part in parts:
            rows, columns = part.window.within(window).slices
            pictures = self.draw(part, lr[:, rows, columns], request, channels=channels, dtype=dtype, kept=kept)
            rows, columns = part.core.within(tile.core).scaled(scale).slices
            for target, picture in zip(whole, pictures, strict=True):
                target[rows, columns] = picture
        return whole

    def _core(
        self,
        backend: Backend,
        tile: Tile,
        conditioning: Conditioning,
        request: Request,
        sample: int,
        *,
        rounded: bool = False,
    ) -> NDArray[Any]:
        """The tile's core of one sample, float32 3×h×w; uint8 h×w×3 where the device rounds by itself."""
        manifest, window = self.manifest, tile.window
        levels, scale = manifest.latent_levels, manifest.scale
        margins = self.margins(backend, window.height, window.width)
        core = tile.core.within(window).scaled(scale)
        if request.latents is not None:
            latents = with_margins(request.latents.window(window, scale), margins, scale)
            rows, columns = core.slices
            drawn: NDArray[np.float32] = backend.sample(conditioning, latents, 1.0)[0, :, rows, columns]
            return drawn
        maps, tau = request.temperature.on_levels((entry.level for entry in levels), window, scale)
        drawing = Drawing(
            levels=levels,
            scale=scale,
            seed=request.seed,
            sample=sample,
            window=window,
            margins=margins,
            tau=tau,
            maps=maps,
            core=core,
            rounded=rounded,
        )
        return backend.draw(conditioning, drawing)

    def _core_again(self, tile: Tile, lr: NDArray[np.float32], request: Request, sample: int) -> NDArray[np.float32]:
        """The core in float32 on the CPU, after the backend gave values that are not finite."""
        fp32 = self._float32_backend()
        if fp32 is not None:
            core = self._core(fp32, tile, self.encode(lr, fp32), request, sample)
            if is_usable(core):
                return core
        raise not_finite("the network", tile, request, sample, also=", in float32 too" if fp32 is not None else "")

    def _float32_backend(self) -> Backend | None:
        """A backend that computes more precisely than the one in use, or None."""
        names = self.manifest.float32_graphs or REQUIRED_FILES
        if names == REQUIRED_FILES and self.backend.device == "cpu" and self.precision == "bundle":
            return None
        return self._cpu_backend(names, "a tile had NaN or infinite values; computing it again in float32 on the CPU")

    def _cpu_backend(self, graphs: tuple[str, str], warning: str) -> Backend | None:
        """Make a backend on the CPU, and say so, or return the one that was made; None if the painter is closed."""
        with self._lock:
            if warning not in self._on_cpu and not self._closed:
                backend = OnnxRuntimeBackend(self._bundle, device="cpu", graphs=graphs)
                backend.activate()
                self._on_cpu[warning] = backend
                _log.warning(warning)
            return self._on_cpu.get(warning)

    def inverting_backend(self) -> Backend:
        """Return the backend, or one on the CPU if it has no inverter. Raises: BundleError if the bundle has none."""
        if self.backend.can_invert:
            return self.backend
        check_inverts(self._bundle)
        warning = f"inverting on the CPU: {self.device} has no inverter for this bundle"
        backend = self._cpu_backend(REQUIRED_FILES, warning)
        self.check_open()
        assert backend is not None  # for the type checker: only a closed painter has none
        return backend

    def warn_of_round_trip(self) -> None:
        """Warn, the first time, if the network itself comes back badly from its latents."""
        with self._lock:
            told, self._told_of_round_trip = self._told_of_round_trip, True
        if not told:
            warn_of_round_trip(self.manifest)

    def shrink(self, tile: Tile, error: Exception) -> None:
        """Halve the tiles after this one did not fit. Raises: OutOfMemoryError if they are the smallest."""
        side = max(tile.core.height, tile.core.width)
        half = padded_size(max(side // 2, MIN_TILE), self.manifest.size_multiple)
        if half >= side:
            raise OutOfMemoryError(
                f"memory ran out on {self.device} with tiles of {side} pixels, the smallest possible; close other "
                "programs, or use a machine with more memory"
            ) from error
        with self._lock:
            first = self._largest_core is None
            self._largest_core = min(half, self._largest_core or half)
        if first:
            _log.warning("memory ran out with tiles of %d pixels; continuing with %d", side, half)

    def conditioning_budget(self, most: int) -> int:
        """Choose how many bytes of conditioning to keep: a quarter of what is free, at most `most`.

        Tiles may take half of what is free; pictures, latents and threads need the rest.
        """
        gpu = self.backend.gpu
        free = available_memory() if gpu is None else gpu_free_memory(gpu)
        return most if free is None else min(most, free // 4)

    def _widening(self) -> int:
        """How much larger activations are than the graphs' types say: CPUs compute half precision in float32."""
        return 2 if self.backend.gpu is None and self.manifest.precision in ("fp16", "bf16") else 1

    def _budget(self) -> dict[str, Any]:
        """How much memory a tile may take normally and at most: `budget` and `most` of :func:`core_size`."""
        gpu = self.backend.gpu
        if gpu is not None:
            free = gpu_free_memory(gpu)
            return {} if free is None else {"budget": free // 2}
        free = available_memory()
        # An eighth, because an app may draw several pictures at a time.
        budget = max(min(AUTO_BUDGET_BYTES, free // 2), min(AUTO_ROOMY_BYTES, free // 8))
        return {"budget": budget, "most": free // 2}


def _activations(backend: Backend) -> float:
    """Memory of a tile on a backend, in units of its conditioning."""
    if backend.gpu is not None:
        return GPU_ACTIVATIONS
    if backend.device.startswith("cpu"):
        return CPU_ACTIVATIONS
    return TRIMMED_ACTIVATIONS if backend.trims_memory and can_return_freed_memory() else OTHER_ACTIVATIONS


def _least(backend: Backend) -> tuple[int, int]:
    """Smallest height and width of windows."""
    return backend.window_limits.min if backend.window_limits is not None else (1, 1)
