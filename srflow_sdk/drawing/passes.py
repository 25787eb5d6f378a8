"""One pass over an image: rows of tiles become bands of the outputs, finished while the next ones are computed."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.finishing import Finishing
from srflow_sdk.drawing.low_resolution import LowResolution
from srflow_sdk.drawing.options import Progress
from srflow_sdk.drawing.painter import KeptTiles, Painter
from srflow_sdk.drawing.requests import Request
from srflow_sdk.drawing.tiles import Tile, tile_rows

_THREADS = 8  # that finish outputs at a time, if there are so many
Write = Callable[[NDArray[Any]], None]


def draw(
    lr: LowResolution,
    painter: Painter,
    tiles: Sequence[Tile],
    request: Request,
    outputs: Sequence[Finishing],
    kept: KeptTiles,
) -> None:
    """Draw every picture of a request into its output. tiles: from :meth:`Painter.plan`.

    Raises: whatever painting, reading, writing and the request's `progress` raise.
    """
    scale, dtype = painter.manifest.scale, outputs[0].band_dtype  # all are of one request
    samples, rows = len(request.samples) * (1 + request.mirrored), tile_rows(tiles)
    tell, before = counted(request.options.progress, len(tiles) * samples), 0
    with ThreadPoolExecutor(min(len(outputs), _THREADS), thread_name_prefix="srflow-finish") as pool:
        pending: list[Future[None]] = []  # of the last band: at most one waits
        for row, below in zip(rows, [*rows[1:], None], strict=True):
            top, bottom = row[0].window.top, row[0].window.top + row[0].window.height
            seen = lr.network_rows(top, bottom)
            wanted = dataclasses.replace(request, temperature=request.temperature.for_rows(lr, top, bottom))
            height = min(row[0].core.top + row[0].core.height, lr.height) - row[0].core.top
            bands = [np.empty((height * scale, lr.width * scale, lr.kind.colours), dtype) for _ in outputs]
            for tile in row:
                pictures = painter.draw(
                    tile,
                    seen[:, :, tile.window.slices[1]],
                    wanted,
                    channels=lr.kind.colours,
                    dtype=dtype,
                    kept=kept,
                    after_sample=functools.partial(tell, before),
                )
                before += samples
                columns = slice(tile.core.left * scale, (tile.core.left + tile.core.width) * scale)
                for band, picture in zip(bands, pictures, strict=True):
                    target = band[:, columns]  # smaller than the core where the image was padded
                    target[...] = picture[: target.shape[0], : target.shape[1]]
            for future in pending:
                future.result()
            pending = [pool.submit(output.push, band) for output, band in zip(outputs, bands, strict=True)]
            following = lr.height if below is None else below[0].window.top
            lr.forget(min(following - request.temperature.reach, *(output.needed_from for output in outputs)))
        for future in pending:
            future.result()


def counted(tell: Progress | None, total: int) -> Callable[[int, int], None]:
    """Tell `before + done` of a total, only upwards: a tile that is drawn again after memory ran out counts once."""
    told = 0

    def advance(before: int, done: int) -> None:
        nonlocal told
        if tell is not None and before + done > told:
            told = before + done
            tell(told, total)

    return advance


def pass_of(number: int, count: int, tell: Progress | None) -> Progress | None:
    """The progress of a pass over all tiles, told as a part of that of `count` such passes.

    Tiles that a pass leaves out are not told, and the count jumps.
    """
    return None if tell is None else lambda done, total: tell(number * total + done, count * total)


def together(count: int, write: Callable[[list[NDArray[Any]]], None]) -> list[Write]:
    """Functions that take the rows of `count` pictures by turns, in any order, and pass on the rows of all of them."""
    held, lock = list[NDArray[Any]](), threading.Lock()

    def take(rows: NDArray[Any]) -> None:
        with lock:
            held.append(rows)
            if len(held) == count:
                write(held)
                held.clear()

    return [take] * count


def in_order(low: Write, high: Write) -> list[Write]:
    """Such functions for the bounds of an interval. The smaller value is the low one: small profiles exchange some."""

    def write(both: list[NDArray[Any]]) -> None:
        low(np.minimum(*both))
        high(np.maximum(*both))

    return together(2, write)
