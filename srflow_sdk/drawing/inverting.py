"""HR images: their reduction as training made it, and their inversion into latents."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import Progress
from srflow_sdk.drawing.painter import KeptTiles, Painter
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError
from srflow_sdk.geometry.tiles import Tile, Window, padded_size, tile_rows
from srflow_sdk.latents import arrays
from srflow_sdk.latents.picture_latents import Latents, check_made_by
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.in_memory import Floats, ImageKind, Pixels, from_unit, to_unit
from srflow_sdk.pixels.resizing import RowReducer
from srflow_sdk.pixels.transparency import fill_hidden
from srflow_sdk.system.interrupts import cancelled_by, stop_if_set

# "dequanti": no seed of latents, which have a sample beside them
_DEQUANTISATION_KEY = 0x6465_7175_616E_7469
# pixels of the reduced image: as far as two pixels that one of its pixels is made of lie apart
_REACH = 4


def high_resolution(
    pixels: NDArray[np.generic], kind: ImageKind, lr: LowResolution, *, scale: int
) -> LowResolution:
    """An HR image as the network sees it, padded.

    Raises: ImageError if it does not belong to the LR image.
    """
    height, width = pixels.shape[:2]
    if (-(-height // scale), -(-width // scale)) != (lr.height, lr.width):
        raise ImageError(
            f"hr has {width}×{height} pixels, but the image of {lr.width}×{lr.height} needs "
            f"{lr.width * scale}×{lr.height * scale}: encode its own reduction, or crop it"
        )
    return LowResolution.of(pixels, kind, multiple=scale * lr.multiple, reach=scale * lr.reach)


def invert(
    lr: LowResolution,
    hr: LowResolution,
    painter: Painter,
    tiles: Sequence[Tile],
    *,
    dequantise: bool,
    kept: KeptTiles,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Latents:
    """Find the latents of an HR image, on the CPU if the device has no inverter.

    Args:
        hr: From :func:`high_resolution`.
        dequantise: Spread its 8-bit levels evenly.
        kept: Conditioning of tiles.

    Raises:
        BundleError: The bundle has no inverter. Other errors are those of drawing.
    """
    manifest = painter.manifest
    scale = manifest.scale
    inversion = _Inversion(lr, hr, painter, kept, cancel)
    nats = 0.0
    done = 0
    for row in tile_rows(tiles):
        top, bottom = row[0].window.top, row[0].window.top + row[0].window.height
        seen = lr.network_rows(top, bottom)
        large = hr.network_rows(scale * top, scale * bottom)
        if dequantise:
            large = spread_levels(large, top=scale * top)
        for tile in row:
            left, right = tile.window.left, tile.window.left + tile.window.width
            nats += inversion.invert(
                tile, seen[:, :, left:right], large[:, :, left * scale : right * scale]
            )
            done += 1
            if progress is not None:
                progress(done, len(tiles))
    return Latents(
        arrays.read_only(inversion.levels),
        height=hr.height,
        width=hr.width,
        model_sha256=manifest.digest,
        log_likelihood=nats,
        precision=painter.backend.precision,
    )


class _Inversion:
    """Inverts the tiles of one picture, whose latents it gathers in `levels`."""

    def __init__(
        self,
        lr: LowResolution,
        hr: LowResolution,
        painter: Painter,
        kept: KeptTiles,
        cancel: threading.Event | None,
    ) -> None:
        self._painter = painter
        self._backend = painter.inverting_backend()
        self._manifest = painter.manifest
        self._kept = kept
        self._cancel = cancel
        self.levels = kept.allocate(lambda: arrays.allocate(level_shapes(painter.manifest, lr)))
        # Which part of each padded LR row and column is the image's own: 1, 0 in padding, or a
        # part of a pixel.
        scale = painter.manifest.scale
        height, width = lr.network_size
        self._rows = np.clip(hr.height / scale - np.arange(height), 0, 1)
        self._columns = np.clip(hr.width / scale - np.arange(width), 0, 1)

    def invert(self, tile: Tile, seen: Floats, large: Floats) -> float:
        """Write the latents of a tile's core, and return its nats.

        seen, large: its window, 3×h×w and 3×sh×sw.
        """
        self._painter.check_open()
        stop_if_set(self._cancel)
        return self._painter.compute_or_split(
            tile,
            self._kept,
            lambda: self._invert_whole(tile, seen, large),
            lambda: self._invert_parts(tile, seen, large),
        )

    def _invert_whole(self, tile: Tile, seen: Floats, large: Floats) -> float:
        backend = self._backend
        scale = self._manifest.scale
        with cancelled_by(self._cancel):
            kept = self._kept.tiles.get(tile) if backend is self._painter.backend else None
            latents, density = backend.invert(kept or backend.encode(seen[None]), large[None])
        core = tile.core.within(tile.window)
        cores = {level: array[0][_on_level(core, level, scale)] for level, array in latents.items()}
        nats = density[0, 0][core.slices]
        if not all(np.isfinite(array).all() for array in (*cores.values(), nats)):
            raise NonFiniteError(
                f"the network gave NaN or infinite latents for {tile.core} of the LR image; use "
                "another model"
            )
        for level, array in cores.items():
            self.levels[level][_on_level(tile.core, level, scale)] = array
        rows, columns = tile.core.slices
        return float(self._rows[rows] @ nats.astype(np.float64) @ self._columns[columns])

    def _invert_parts(self, tile: Tile, seen: Floats, large: Floats) -> float:
        nats = 0.0
        for part in self._painter.split(tile, self._kept, halo=round_trip_halo(self._manifest)):
            window = part.window.within(tile.window)
            small = (slice(None), *window.slices)
            big = (slice(None), *window.scaled(self._manifest.scale).slices)
            nats += self.invert(part, seen[small], large[big])
        return nats


def spread_levels(values: Floats, *, top: int = 0) -> Floats:
    """Spread 8-bit levels, 3×h×W in [0, 1], in [level, level + 1)/256, always alike.

    top: the first row's number.
    """
    spread = np.empty_like(values)
    for number in range(values.shape[1]):
        generator = np.random.Generator(
            np.random.Philox(counter=[0, 0, 0, top + number], key=_DEQUANTISATION_KEY)
        )
        spread[:, number] = generator.random((3, values.shape[2]), np.float32)
    spread += np.rint(values * np.float32(255))
    spread /= 256
    return spread


def reduced_image(pixels: Pixels, manifest: Manifest) -> Pixels:
    """Reduce an image, H×W×C, by the model's scale and kernel, in its own values and dtype.

    Sides are filled up.
    """
    height, width = pixels.shape[:2]
    size = padded_size(height, manifest.scale), padded_size(width, manifest.scale)
    to = size[0] // manifest.scale, size[1] // manifest.scale
    values = _visible(pixels, _REACH * manifest.scale)
    margins = (0, size[0] - height), (0, size[1] - width), (0, 0)
    padded = np.pad(values, margins, mode="edge")
    return from_unit(RowReducer(size, to, manifest.reduction).push(padded), pixels.dtype)


def opaque_image(pixels: Pixels, kind: ImageKind, manifest: Manifest) -> tuple[Pixels, ImageKind]:
    """An image without its alpha.

    Colours under full transparency come from visible ones, as in its reduction.
    """
    if not kind.has_alpha:
        return pixels, kind
    colours = _visible(pixels, manifest.scale * round_trip_halo(manifest))[..., :-1]
    return from_unit(colours, pixels.dtype), replace(kind, channels=kind.colours)


def round_trip_halo(manifest: Manifest) -> int:
    """Enough for drawing and for inverting, so that tiles are encoded once for both."""
    return max(manifest.halo, manifest.inverter_halo)


def inverting_tiles(
    painter: Painter, lr: LowResolution, tiles: Sequence[Tile], *, halo: int
) -> Sequence[Tile]:
    """Plan the tiles of an inversion: those of drawing, if their halo is enough.

    Their conditioning may be kept.
    """
    manifest = painter.manifest
    if manifest.inverter_halo <= halo:
        return tiles
    core = painter.choose_core(*lr.network_size, halo=manifest.inverter_halo)
    return painter.plan(*lr.network_size, core, halo=manifest.inverter_halo)


def level_shapes(manifest: Manifest, lr: LowResolution) -> dict[int, tuple[int, int, int]]:
    """The shapes of the latents of an LR image with its padding, by level."""
    height, width = (side * manifest.scale for side in lr.network_size)
    return {
        e.level: (e.channels, height >> e.level, width >> e.level) for e in manifest.latent_levels
    }


def check_latents(latents: Latents, manifest: Manifest, lr: LowResolution) -> None:
    """Raises: ArgumentError unless they are of this model and of a picture of this LR image's
    size.
    """
    if not isinstance(latents, Latents):
        raise ArgumentError(
            f"latents is {type(latents).__name__}; it must be Latents, as Encoding.invert gives "
            "them"
        )
    check_made_by(latents, manifest)
    size = tuple(-(-side // manifest.scale) for side in (latents.height, latents.width))
    shapes = level_shapes(manifest, lr)
    if (
        size != (lr.height, lr.width)
        or {level: array.shape for level, array in latents.levels.items()} != shapes
    ):
        raise ArgumentError(
            f"the latents are of a picture of {latents.width}×{latents.height}, which does not "
            "belong to an image of "
            f"{lr.width}×{lr.height}: decode them with the encoding that made them"
        )


def _on_level(window: Window, level: int, scale: int) -> tuple[slice, slice, slice]:
    """A rectangle in LR pixels as an index of a level's latents, C×H×W."""
    return (slice(None), *window.scaled(scale, 1 << level).slices)


def _visible(pixels: Pixels, reach: int) -> Floats:
    """An image in [0, 1], with nothing under transparency within reach of what is visible."""
    values = to_unit(pixels)
    if pixels.shape[2] in (2, 4):
        values[..., :-1] = fill_hidden(values[..., :-1], pixels[..., -1], reach)
    return values
