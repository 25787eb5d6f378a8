"""Draws pictures: one pass over an image's tiles, joined into bands of rows.

It also knows what to do without enough memory, and with values that are not finite.
"""

from __future__ import annotations

import functools
import gc
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar

import numpy as np

from srflow_sdk.backends import Backend, Conditioning, Drawing, Finish, OnnxRuntimeBackend
from srflow_sdk.drawing.finishing import Finishing, Write
from srflow_sdk.drawing.low_resolution import ChromaBounds, LowResolution
from srflow_sdk.drawing.options import DrawOptions, Request, make_request
from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.drawing.wrapping import cut_and_join_edges
from srflow_sdk.errors import DeviceError, NonFiniteError, OutOfMemoryError
from srflow_sdk.geometry.tiles import (
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
    tile_rows,
)
from srflow_sdk.model.bundle import Bundle, check_inverts
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.pixels.in_memory import FLOAT32, Floats, ImageKind, Pixels, from_unit, luma
from srflow_sdk.system.hardware import CAN_RETURN_MEMORY, available_memory, gpu_free_memory
from srflow_sdk.system.interrupts import begin_in_thread, cancelled_by, stop_if_set

_LARGEST = 65504  # of float16; a picture's values are in [0, 1], or little beyond
_LITTLE = 96 * 96  # pixels of a window, of which two samples are computed at once
_MOST_KEPT = 1 << 30  # bytes of conditioning in main memory
_THREADS = 8  # that finish outputs at a time, if there are so many
Noise = Callable[[], dict[int, Floats]]
"""What waits for the latents of a drawing, by level."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def draw_tiles(
    lr: LowResolution,
    painter: Painter,
    tiles: Sequence[Tile],
    request: Request,
    writes: Iterable[Write],
    kept: KeptTiles,
    *,
    measure: bool = False,
) -> list[float | None]:
    """Draw every picture of a request, and write its rows while the next ones are drawn.

    Args:
        tiles: The picture's, from :meth:`Painter.plan`.
        writes: For each picture, what takes its rows. They are asked for when the first rows are
            drawn, so that no file has to be open before.
        measure: Return the pictures' LR-PSNR in dB, but for bounds of an interval.
    """
    # Many names: rows are drawn, finished and dropped at a time.
    wrapped = [list[Pixels]() for _ in range(request.pictures) if request.options.wrap]
    targets: list[Write] = [parts.append for parts in wrapped]
    outputs = [
        Finishing(
            lr,
            painter.manifest,
            request,
            measure=measure and not (request.reduce == "interval" and place),
        )
        for place in range(request.pictures)
    ]
    # all are of one request
    request = replace(request, channels=lr.kind.colours, dtype=outputs[0].band_dtype)
    drawn = 0
    told = 0

    def tell(before: int, count: int) -> None:
        """Tell only what is more: a tile that is drawn again after memory ran out counts once."""
        nonlocal told
        done = drawn + before + count
        if request.options.progress is not None and done > told:
            told = done
            request.options.progress(done, len(tiles) * request.draws)

    rows = tile_rows(tiles)
    with ThreadPoolExecutor(
        min(len(outputs), _THREADS), thread_name_prefix="srflow-finish"
    ) as pool:
        finishing: list[Future[None]] = []  # of the last band: at most one waits
        for row, below in zip(rows, [*rows[1:], None], strict=True):
            bands = _draw_bands(lr, painter, row, request, kept, tell)
            drawn += len(row) * request.draws
            for finished in finishing:
                finished.result()
            targets = targets or list(writes)
            finishing = [
                pool.submit(output.push, band, write)
                for output, band, write in zip(outputs, bands, targets, strict=True)
            ]
            next_top = lr.height if below is None else below[0].window.top
            needed_from = (output.needed_from for output in outputs)
            lr.forget(min(next_top - request.temperature.reach, *needed_from))
        for finished in finishing:
            finished.result()
    for parts, write in zip(wrapped, writes, strict=False):
        picture = np.concatenate(parts)
        write(cut_and_join_edges(picture, (request.height, request.width), request.lr_size))
    return [None if output.meter is None else output.meter.db for output in outputs]


def _draw_bands(
    lr: LowResolution,
    painter: Painter,
    row: Sequence[Tile],
    request: Request,
    kept: KeptTiles,
    tell: Callable[[int, int], None],
) -> list[Pixels]:
    """Draw a row of tiles, and join the cores of each picture.

    tell: takes how many samples of the row are drawn before a tile, and how many of it.
    """
    # Many names: tiles are drawn, and their cores cut to the image and put side by side.
    scale = painter.manifest.scale
    window = row[0].window
    bounds = window.top, window.top + window.height
    seen = lr.network_rows(*bounds)
    request = replace(request, temperature=request.temperature.for_rows(lr, *bounds))
    height = min(row[0].core.height, lr.height - row[0].core.top)
    shape = (height * scale, lr.width * scale, request.channels)
    bands: list[Pixels] = [np.empty(shape, request.dtype) for _ in range(request.pictures)]
    for place, tile in enumerate(row):
        pictures = painter.draw(
            tile,
            seen[:, :, tile.window.slices[1]],
            request,
            kept,
            after_sample=functools.partial(tell, place * request.draws),
        )
        columns = slice(tile.core.left * scale, (tile.core.left + tile.core.width) * scale)
        for band, picture in zip(bands, pictures, strict=True):
            target = band[:, columns]  # smaller than the core where the image was padded
            target[...] = picture[: target.shape[0], : target.shape[1]]
    return bands


def clean_pixels(
    pixels: Pixels,
    kind: ImageKind,
    painter: Painter,
    cleaner: Painter,
    cancel: threading.Event | None,
) -> Pixels:
    """Draw pixels, H×W×C, with a cleaner in their own size, before a painter enlarges them.

    Alpha stays.
    """
    manifest = cleaner.manifest
    rows = list[Pixels]()
    lr = LowResolution.of(pixels, kind, multiple=manifest.size_multiple, reach=manifest.halo)
    options = DrawOptions(tau=0.0, scale=1, cancel=cancel)
    request = make_request(options, manifest, height=lr.height, width=lr.width)
    # Cores of the painter's size, which is recorded: so the picture can be made again.
    chooser = painter if cleaner.backend.window_limits is None else cleaner
    core = chooser.choose_core(*lr.network_size)
    core = None if core is None else padded_size(core, manifest.size_multiple)
    tiles = cleaner.plan(*lr.network_size, core)
    draw_tiles(lr, cleaner, tiles, request, [rows.append], KeptTiles())
    result = np.concatenate(rows)
    if kind.has_alpha:
        result[..., -1] = pixels[..., -1]
    return result


@dataclass
class KeptTiles:
    """A picture's tiles on the device: their conditioning, and their size once memory ran out."""

    tiles: dict[Tile, Conditioning] = field(default_factory=dict)
    largest_core: int | None = None
    _relieved: bool = False

    @property
    def nbytes(self) -> int:
        return sum(conditioning.nbytes for conditioning in list(self.tiles.values()))

    def relieve(self) -> bool:
        """Drop everything, because memory ran out.

        False if there was nothing, and it is not the first time.
        """
        dropped = len(self.tiles)
        again = self._relieved
        self._relieved = True
        self.tiles = {}
        if dropped:
            _log.warning(
                "memory ran out: %d tiles that were kept encoded are encoded again when needed",
                dropped,
            )
        return dropped > 0 or not again

    def allocate(self, make: Callable[[], _T]) -> _T:
        """Call `make`.

        If memory runs out in it, drop everything, collect garbage, and call it once more.
        """
        try:
            return make()
        except MemoryError:
            if not self.relieve():
                raise
        gc.collect()
        return make()


class Painter:
    """Computes tiles with one bundle on one backend, for all threads of an Upscaler."""

    def __init__(self, bundle: Bundle, backend: Backend, tile: TileSize) -> None:
        self.manifest = bundle.manifest
        self._bundle = bundle
        self.backend = backend
        """The backend that computes the tiles."""
        self._tile = tile
        self._on_cpu: dict[str, Backend] = {}  # by what is said when one is made
        self._closed = threading.Event()
        limits = backend.window_limits
        self._least = (1, 1) if limits is None else limits.min  # height and width of windows
        self._lock = threading.Lock()
        self._free = 0  # of a GPU: the most that was free

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Upscaler holds open sessions and cannot be pickled: make one in each process"
        )

    def close(self) -> None:
        """Release the backends. Closing twice is harmless."""
        self.backend.deactivate()
        with self._lock:
            self._closed.set()
            for backend in self._on_cpu.values():
                backend.deactivate()
            self._on_cpu.clear()

    def check_open(self) -> None:
        """Raises: DeviceError once it was closed."""
        if self._closed.is_set():
            raise DeviceError(
                "this Upscaler was closed: make another one, or use it inside its `with` block"
            )

    def choose_core(self, height: int, width: int, *, halo: int | None = None) -> int | None:
        """Choose the side of the cores for a height×width image (whole size multiples).

        Args:
            halo: Of the tiles, in LR pixels; None is the manifest's.

        Returns:
            The side; None: the image is one tile.

        Raises:
            DeviceError: The painter is closed.
        """
        self.check_open()
        manifest = self.manifest
        # CPUs compute half precision in float32: activations are larger than the graphs' types say.
        widening = 2 if self.backend.gpu is None and manifest.precision in ("fp16", "bf16") else 1
        activations = GPU_ACTIVATIONS
        budget = AUTO_BUDGET_BYTES
        most = None
        if self._tile == "auto" and self.backend.gpu is not None:
            free_there = self._free_memory_of_gpu(self.backend.gpu)
            budget = budget if free_there is None else free_there // 2
        elif self._tile == "auto":
            free = available_memory()
            if self.backend.device.startswith("cpu"):
                activations = CPU_ACTIVATIONS
            elif self.backend.trims_memory and CAN_RETURN_MEMORY:
                activations = TRIMMED_ACTIVATIONS
            else:
                activations = OTHER_ACTIVATIONS
            # An eighth, because an app may draw several pictures at a time.
            budget = max(min(AUTO_BUDGET_BYTES, free // 2), min(AUTO_ROOMY_BYTES, free // 8))
            most = free // 2
        return core_size(
            self._tile,
            height=height,
            width=width,
            multiple=manifest.size_multiple,
            halo=manifest.halo if halo is None else halo,
            conditioning_bytes_per_pixel=manifest.conditioning_bytes_per_pixel * widening,
            activations=activations,
            budget=budget,
            most=most,
            limits=self.backend.window_limits,
        )

    def _free_memory_of_gpu(self, gpu: int) -> int | None:
        """The most that was free so far: the backend uses what it holds again."""
        free = gpu_free_memory(gpu)
        self._free = max(self._free, free or 0)
        return None if free is None else self._free

    def plan(
        self, height: int, width: int, core: int | None, *, halo: int | None = None
    ) -> list[Tile]:
        """Cut a height×width image into tiles. halo: in LR pixels; None is the manifest's."""
        multiple = self.manifest.size_multiple
        halo = self.manifest.halo if halo is None else halo
        return plan_tiles(height, width, core=core, halo=halo, multiple=multiple, least=self._least)

    def split(self, tile: Tile, kept: KeptTiles, *, halo: int) -> list[Tile]:
        """Cut a tile into ones that memory may be enough for."""
        core = kept.largest_core or MIN_TILE
        multiple = self.manifest.size_multiple
        return split_tile(tile, core=core, halo=halo, multiple=multiple, least=self._least)

    def draw(
        self,
        tile: Tile,
        lr: Floats,
        request: Request,
        kept: KeptTiles,
        *,
        after_sample: Callable[[int], None] = lambda _: None,
    ) -> list[Pixels]:
        """Draw the tile's core for every picture of a request: sh×sw×channels of its dtype.

        Args:
            lr: The tile's window, float32 3×h×w.
            kept: Of the picture.
            after_sample: Called with the number of those done.
        """
        self.check_open()

        def draw_parts() -> list[Pixels]:
            scale = self.manifest.scale
            shape = (tile.core.height * scale, tile.core.width * scale, request.channels)
            joined: list[Pixels] = [
                np.empty(shape, request.dtype or np.float32) for _ in range(request.pictures)
            ]
            for part in self.split(tile, kept, halo=self.manifest.halo):
                rows, columns = part.window.within(tile.window).slices
                pictures = self.draw(
                    part, lr[:, rows, columns], request, kept, after_sample=after_sample
                )
                rows, columns = part.core.within(tile.core).scaled(scale).slices
                for target, picture in zip(joined, pictures, strict=True):
                    target[rows, columns] = picture
            return joined

        return self.compute_or_split(
            tile,
            kept,
            lambda: self._draw_pictures(tile, lr, request, kept, after_sample),
            draw_parts,
        )

    def compute_or_split(
        self, tile: Tile, kept: KeptTiles, whole: Callable[[], _T], draw_parts: Callable[[], _T]
    ) -> _T:
        """Compute a tile whole, or in parts once memory ran out for tiles of its size.

        The first time that it runs out, what is kept is dropped, garbage is collected, and the tile
        is tried again. Raises: OutOfMemoryError if tiles are the smallest.
        """
        while tile in kept.tiles or kept.largest_core is None or tile.side <= kept.largest_core:
            try:
                return whole()
            except (OutOfMemoryError, MemoryError) as error:
                if not kept.relieve():
                    self.shrink(tile, kept, error)
            gc.collect()  # not in the handler: the error's traceback keeps the tile's memory alive
        return draw_parts()

    def shrink(self, tile: Tile, kept: KeptTiles, error: Exception) -> None:
        """Halve the picture's tiles after this one did not fit.

        Raises: OutOfMemoryError if they are the smallest.
        """
        half = padded_size(max(tile.side // 2, MIN_TILE), self.manifest.size_multiple)
        if half >= tile.side:
            raise OutOfMemoryError(
                f"memory ran out on {self.backend.device} with tiles of {tile.side} pixels, the "
                "smallest possible; close other programs, or use a machine with more memory"
            ) from error
        if kept.largest_core is None:
            _log.warning(
                "memory ran out with tiles of %d pixels; continuing with %d", tile.side, half
            )
        kept.largest_core = min(half, kept.largest_core or half)

    def _draw_pictures(
        self,
        tile: Tile,
        lr: Floats,
        request: Request,
        kept: KeptTiles,
        after_sample: Callable[[int], None],
    ) -> list[Pixels]:
        """Draw a tile's pictures: its samples, or their mean, deviation or interval."""
        reduce = request.reduce
        dtype = request.dtype or FLOAT32
        drawn = list[Pixels]()
        moments = None if reduce is None else _Moments()
        bounds = finish = None
        if request.hued and request.channels == 3:
            bounds = ChromaBounds(lr, tile.core.within(tile.window), self.manifest.halo)
        if reduce is None and request.channels == 3 and dtype != np.float32:
            finish = Finish(dtype, None if bounds is None else bounds.limits)
        for count, picture in enumerate(
            self.draw_samples(tile, lr, request, kept, finish), start=1
        ):
            values = luma(picture) if request.channels == 1 else picture
            if bounds is not None and picture.dtype == np.float32:
                values = bounds.limit(picture)
            if reduce is None or (reduce == "interval" and count == 1):
                drawn.append(_to_dtype(values, dtype))
            if moments is not None:
                moments.add(np.clip(values, 0, 1))
            after_sample(count)
        if moments is None:
            return drawn
        if reduce == "mean":
            drawn.append(moments.mean)
        elif request.band is not None:
            half = request.band(moments.deviation)
            drawn += [np.clip(moments.mean + side, 0, 1) for side in (-half, half)]
        else:
            drawn.append(moments.deviation)
        return [_to_dtype(picture, dtype) for picture in drawn]

    def draw_samples(
        self, tile: Tile, lr: Floats, request: Request, kept: KeptTiles, finish: Finish | None
    ) -> Iterator[Pixels]:
        """Encode a tile, and draw its core for each sample: RGB, h×w×3.

        It is float32 unless the device finished it.

        A sample is begun before the one ahead of it is copied and finished. Its latents are drawn
        meanwhile, those of the first beside the encoder. Of small tiles whole samples are, because
        few of their operators fill two cores.
        """
        # Many names: of two samples that are in progress, and of what decides how.
        cancel = request.options.cancel
        temperatures = [request.temperature]
        backend = self.backend
        if request.mirrored:
            temperatures.append(request.temperature.negate())
        draws = [
            (sample, temperature) for sample in request.samples for temperature in temperatures
        ]
        at_once = backend.samples_at_once and len(draws) > 1 and lr[0].size <= _LITTLE
        # What devices draw themselves does not repeat.
        by_device = backend.gpu is not None and request.latents is None and not request.options.wrap

        def begin(drawing: Drawing, noise: Noise | None = None) -> Callable[[], Pixels]:
            if by_device:
                return backend.begin(conditioning, drawing)
            noise = noise or begin_in_thread(drawing.noise, threads)
            draw_core = functools.partial(backend.draw_core, conditioning, drawing, noise)
            if not at_once:
                return draw_core
            return begin_in_thread(functools.partial(copy_context().run, draw_core), threads)

        with ExitStack() as threads:
            stop_if_set(cancel)
            with cancelled_by(cancel):
                first = self._make_drawing(tile, request, *draws[0], finish)
                noise = None if by_device else begin_in_thread(first.noise, threads)
                conditioning = kept.tiles.get(tile) or backend.encode(lr[None])
                compute = begin(first, noise)
            for draw, following in zip(draws, [*draws[1:], None], strict=True):
                stop_if_set(cancel)
                with cancelled_by(cancel):
                    compute_next = compute
                    if following is not None:
                        compute_next = begin(self._make_drawing(tile, request, *following, finish))
                    core = compute()
                    if core.dtype == np.float32 and not is_usable(core):
                        core = self._recompute_core(tile, lr, request, *draw)
                compute = compute_next
                yield core

    def _make_drawing(
        self,
        tile: Tile,
        request: Request,
        sample: int,
        temperature: Temperature,
        finish: Finish | None = None,
    ) -> Drawing:
        manifest = self.manifest
        window = tile.window
        levels = manifest.latent_levels
        scale = manifest.scale
        rows, columns = request.margins
        maps, tau = temperature.on_levels((entry.level for entry in levels), window, scale)
        return Drawing(
            levels=levels,
            scale=scale,
            seed=int(request.options.seed),
            sample=sample,
            window=replace(window, top=window.top - rows, left=window.left - columns),
            tau=tau if request.latents is None else 1.0,
            maps=maps,
            periods=request.lr_size if request.options.wrap else None,
            latents=None if request.latents is None else request.latents.levels,
            core=tile.core.within(window).scaled(scale),
            smoothed=request.smoothed,
            finish=finish,
        )

    def _recompute_core(
        self, tile: Tile, lr: Floats, request: Request, sample: int, temperature: Temperature
    ) -> Pixels:
        """The core in float32 on the CPU, after the backend gave values that are not finite."""
        graphs = self.manifest.float32_graphs or REQUIRED_FILES
        also = ""
        if (
            graphs != REQUIRED_FILES
            or self.backend.device != "cpu"
            or self.backend.precision != "bundle"
        ):
            fp32 = self._cpu_backend(
                graphs,
                "a tile had NaN or infinite values; computing it again in float32 on the CPU",
            )
            if fp32 is not None:
                drawing = self._make_drawing(tile, request, sample, temperature)
                core = fp32.begin(fp32.encode(lr[None]), drawing)()
                if is_usable(core):
                    return core
                also = ", in float32 too"
        raise make_nonfinite_error("the network", tile, request, sample, also=also)

    def _cpu_backend(self, graphs: tuple[str, str], warning: str) -> Backend | None:
        """Make a backend on the CPU, and say so, or return the one that was made.

        None if the painter is closed.
        """
        with self._lock:
            if warning not in self._on_cpu and not self._closed.is_set():
                backend = OnnxRuntimeBackend(self._bundle, device="cpu", graphs=graphs)
                backend.activate()
                self._on_cpu[warning] = backend
                _log.warning(warning)
            return self._on_cpu.get(warning)

    def inverting_backend(self) -> Backend:
        """Return the backend, or one on the CPU if it has no inverter.

        Raises: BundleError if the bundle has none.
        """
        if self.backend.can_invert:
            return self.backend
        check_inverts(self._bundle)
        warning = f"inverting on the CPU: {self.backend.device} has no inverter for this bundle"
        backend = self._cpu_backend(REQUIRED_FILES, warning)
        self.check_open()
        assert backend is not None  # for the type checker: only a closed painter has none
        return backend

    def conditioning_budget(self, asked: int | None = None) -> int:
        """Choose how many bytes of conditioning to keep beside tiles, which may take half.

        On a GPU a third of it; in main memory a quarter, but no more than other programs hardly
        miss. Or as many as were asked for.
        """
        if asked is not None:
            return asked
        if self.backend.gpu is None:
            return min(_MOST_KEPT, available_memory() // 4)
        free = self._free_memory_of_gpu(self.backend.gpu)
        return _MOST_KEPT if free is None else free // 3


class _Moments:
    """The mean and deviation of pictures, by Welford's update: no difference of large numbers."""

    def __init__(self) -> None:
        self.mean = np.zeros((), np.float32)
        self._squares = np.zeros((), np.float32)
        self._count = 0

    def add(self, picture: Floats) -> None:
        if not self._count:
            self.mean = picture
        self._count += 1
        change = picture - self.mean
        self.mean = self.mean + change / np.float32(self._count)
        self._squares = self._squares + change * (picture - self.mean)

    @property
    def deviation(self) -> Floats:
        deviation: Floats = np.sqrt(self._squares / np.float32(self._count - 1))
        return deviation


def _to_dtype(picture: Pixels, dtype: np.dtype[Any]) -> Pixels:
    return picture if picture.dtype == dtype else from_unit(picture, dtype)


def is_usable(values: Floats) -> bool:
    """Tell if a network's values can be a picture: finite, and within half precision's range."""
    return bool(values.min() >= -_LARGEST and values.max() <= _LARGEST)  # not so if one is NaN


def make_nonfinite_error(
    who: str, tile: Tile, request: Request, sample: int, *, also: str = ""
) -> NonFiniteError:
    """Make the error for values that are not usable, with their place in the picture.

    who: gave them.
    """
    how = f"at tau {request.temperature}, seed {request.options.seed}, sample {sample}"
    of = "input"
    fix = "use a lower tau, another seed, or another model"
    if request.latents is not None:
        how = "from latents"
        of = "LR image"
        fix = "normalise them to a lower tau, or use another model"
    return NonFiniteError(
        f"{who} gave NaN or infinite values, or some beyond ±{_LARGEST:,}, {how}, in {tile.core} "
        f"of the {of}{also}; {fix}"
    )
