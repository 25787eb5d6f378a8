"""Rows of images that are larger than memory: read once, from the top down, and dropped when no longer needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayRows:
    """The rows of an array that is in memory anyway."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        return self._pixels[top:bottom]

    def forget(self, before: int) -> None:
        """Declare that rows above this number will not be requested again, which does nothing here."""


class RowBuffer:
    """Consecutive rows, appended below and dropped above, by their number in the whole image."""

    def __init__(self) -> None:
        self._held: NDArray[Any] | None = None
        self._top = 0

    @property
    def bottom(self) -> int:
        """One more than the number of the last row."""
        return self._top + (0 if self._held is None else self._held.shape[0])

    def append(self, rows: NDArray[Any]) -> None:
        self._held = rows if self._held is None or not len(self._held) else np.concatenate([self._held, rows])

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Rows top … bottom - 1, all of which must be held."""
        if self._held is None or top < self._top or bottom > self.bottom:
            raise IndexError(f"rows {top} to {bottom} are not among {self._top} to {self.bottom}")
        return self._held[top - self._top : bottom - self._top]

    def forget(self, before: int) -> None:
        if self._held is not None and before > self._top:
            # A copy: a view would keep the dropped rows alive.
            self._held = self._held[before - self._top :].copy()
            self._top = before


class StreamedRows(AbstractContextManager["StreamedRows"]):
    """Rows that a function decodes in order, a band ahead in a thread of its own. Use it in a with-block.

    read: returns the next n rows; called from one thread at a time. height: total number of rows. ahead: rows to decode
    in advance. Thread-safe.
    """

    def __init__(self, read: Callable[[int], NDArray[Any]], *, height: int, ahead: int) -> None:
        self._read = read
        self._height = height
        self._ahead = ahead
        self._buffer = RowBuffer()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="srflow-decode")
        self._requested = 0
        self._next: Future[NDArray[Any]] | None = self._requested_rows(ahead)
        self._lock = threading.Lock()

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Rows top … bottom - 1, decoded as needed. Raises: whatever `read` raises."""
        with self._lock:
            while self._buffer.bottom < bottom:
                coming = self._next or self._requested_rows(bottom - self._buffer.bottom)
                self._buffer.append(coming.result())  # a failed read stays, and fails again for every caller
                self._next = self._requested_rows(self._ahead) if self._requested < self._height else None
            return self._buffer.rows(top, bottom)

    def forget(self, before: int) -> None:
        with self._lock:
            self._buffer.forget(min(before, self._buffer.bottom))

    def __exit__(self, *_: object) -> None:
        """Wait for the thread and end it."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _requested_rows(self, count: int) -> Future[NDArray[Any]]:
        count = min(count, self._height - self._requested)
        self._requested += count
        return self._pool.submit(self._read, count)


Write = Callable[[NDArray[Any]], None]


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


RowSource = ArrayRows | StreamedRows
"""An image's rows by number: H×W×C arrays of one dtype."""
