"""One pass over an image: rows of tiles become bands of the outputs, finished while the next ones are computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from srflow_sdk.drawing.finishing import Finishing
from srflow_sdk.drawing.kept import KeptTiles
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.requests import DrawOptions, Progress, Request
from srflow_sdk.drawing.tiles import Tile, tile_rows
from srflow_sdk.model.manifest import Manifest

LOW_LR_PSNR_DB = 40.0
"""Below this an output no longer reduces to its input, and a warning says so."""

_log = logging.getLogger(__name__)


def draw(
    lr: LowResolution,
    painter: Painter,
    tiles: Sequence[Tile],
    request: Request,
    outputs: Sequence[Finishing],
    *,
    kept: KeptTiles | None = None,
    overlapped: bool = False,
) -> None:
    """Draw every picture of a request into its output.

    tiles: from :meth:`Painter.plan`. kept: conditioning of tiles. overlapped: finish and write each band in a
    thread of its own while the next is computed.

    Raises: whatever painting, reading, writing and the request's `progress` raise.
    """
    scale, dtype = painter.manifest.scale, outputs[0].band_dtype  # all are of one request
    told = TileCount(request.options.progress, tiles=len(tiles), samples=len(request.draws))
    rows = tile_rows(tiles)
    with ThreadPoolExecutor(len(outputs), thread_name_prefix="srflow-finish") as pool:
        pending: list[Future[None]] = []  # of the last band: at most one waits
        for number, row in enumerate(rows):
            seen_top, seen_height = row[0].window.top, row[0].window.height
            seen = lr.network_rows(seen_top, seen_top + seen_height)
            wanted = request.for_rows(lr, seen_top, seen_top + seen_height)
            height = min(row[0].core.top + row[0].core.height, lr.height) - row[0].core.top
            shape = (height * scale, lr.width * scale, lr.kind.colours)
            bands = [np.empty(shape, dtype) for _ in outputs]
            for tile in row:
                left, right = tile.window.left, tile.window.left + tile.window.width
                pictures = painter.draw(
                    tile,
                    seen[:, :, left:right],
                    wanted,
                    channels=lr.kind.colours,
                    dtype=dtype,
                    kept=kept,
                    after_sample=told.after_sample,
                )
                told.after_tile()
                columns = slice(tile.core.left * scale, (tile.core.left + tile.core.width) * scale)
                for band, picture in zip(bands, pictures, strict=True):
                    target = band[:, columns]  # smaller than the core where the image was padded
                    target[...] = picture[: target.shape[0], : target.shape[1]]
            _wait(pending)
            if overlapped:
                pending = [pool.submit(output.push, band) for output, band in zip(outputs, bands, strict=True)]
            else:
                for output, band in zip(outputs, bands, strict=True):
                    output.push(band)
            following = rows[number + 1][0].window.top if number + 1 < len(rows) else lr.height
            lr.forget(min(following - request.temperature.reach, *(output.needed_from for output in outputs)))
        _wait(pending)


def _wait(pending: Sequence[Future[None]]) -> None:
    """Wait for the ends of calls. Raises: what the first that failed raised."""
    for future in pending:
        future.result()


def warn_if_inconsistent(
    what: str, lr_psnr: Sequence[float | None], *, options: DrawOptions, tau: float | None, manifest: Manifest
) -> None:
    """Log one warning for the outputs whose LR-PSNR is below 40 dB.

    tau: the number in use, None for a map. manifest: the model's; one that removes damage should not match its inputs.
    """
    low = [f"{value:.1f}" for value in lr_psnr if value is not None and value < LOW_LR_PSNR_DB]
    if not low or (manifest.removes_damage and not options.consistent):
        return
    if options.consistent:
        advice = "a consistent output came no nearer, as pixels cannot be darker than black or brighter than white"
    elif tau == 0:
        advice = "ask for a consistent output"
    else:
        advice = "lower tau, or ask for a consistent output"
    _log.warning(
        "%s: reduced again, the output does not match the input (%s dB, below %.0f); %s",
        what,
        ", ".join(low),
        LOW_LR_PSNR_DB,
        advice,
    )


class TileCount:
    """Counts tiles of samples, only upwards: a tile that is drawn again after memory ran out counts once."""

    def __init__(self, tell: Progress | None, *, tiles: int, samples: int) -> None:
        self._tell = tell
        self._samples = samples
        self._total = tiles * samples
        self._tiles = self._told = 0

    def after_sample(self, done: int) -> None:
        self._advance(self._tiles * self._samples + done)

    def after_tile(self) -> None:
        self._tiles += 1
        self._advance(self._tiles * self._samples)

    def _advance(self, done: int) -> None:
        if done > self._told:
            self._told = done
            if self._tell is not None:
                self._tell(done, self._total)


def pass_of(number: int, count: int, tell: Progress | None) -> Progress | None:
    """The progress of a pass over all tiles, told as a part of that of `count` such passes.

    Tiles that a pass leaves out are not told, and the count jumps.
    """
    return None if tell is None else lambda done, total: tell(number * total + done, count * total)
