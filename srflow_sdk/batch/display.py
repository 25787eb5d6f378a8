"""What a batch shows: names of finished files on standard output; errors and progress on standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srflow_sdk.batch.planning import Job
from srflow_sdk.errors import SRFlowError
from srflow_sdk.files import open_image

if TYPE_CHECKING:
    from srflow_sdk.batch.running import JobResult

_CLEAR = "\r\x1b[K"
_BAR_WIDTH = 16
_BESIDES_NAME = 62  # columns of a line that are not the file's name: "[100/200] … tile 10/24  [bar]  100%  00:10:00"


class Display:
    """Watches a batch (see :class:`srflow_sdk.batch.running.Watcher`). Use it as a context manager.

    While it is open, warnings that are logged are shown as lines. While :meth:`progress` is, and standard error is a
    terminal, one line there says which input and tile is being worked on and how long all will take, by the inputs'
    pixels; everything else gets lines of its own.
    """

    def __init__(self) -> None:
        self._jobs: Sequence[Job] = ()
        self._pixels: list[int] = []
        self._bar: Any = None
        self._reached: list[int] = []
        self._lock = threading.RLock()
        self._handler = _Handler(self)

    def __enter__(self) -> Display:
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._handler)

    @contextlib.contextmanager
    def progress(self, jobs: Sequence[Job], *, max_pixels: int) -> Iterator[None]:
        """Show how far these jobs are, while the block runs."""
        self._jobs = jobs
        if not sys.stderr.isatty():
            yield
            return
        self._pixels = [_pixels(job.source, max_pixels) for job in jobs]
        self._reached = [0] * len(jobs)
        bar: Any = click.progressbar(
            length=sum(self._pixels),
            file=sys.stderr,
            width=_BAR_WIDTH,
            bar_template="%(label)s  [%(bar)s]  %(info)s",
        )
        if jobs:
            bar.label = self._label(1)
        with bar as self._bar:
            try:
                yield
            finally:
                self._bar = None

    def progressed(self, number: int, done: int, total: int) -> None:
        """Move the line."""
        with self._lock:
            if self._bar is not None:
                self._bar.label = f"{self._label(number)} tile {done}/{total}"
                self._move(number, self._pixels[number - 1] * done // total)
                self._bar.render_progress()  # a tile of a small image may be no step at all

    def finished(self, number: int, result: JobResult) -> None:
        """Print the files' names, or the error."""
        with self._lock:
            if self._bar is not None:
                if result.status != "done":  # the rest takes no such time, and says nothing about the others
                    self._bar.length -= self._pixels[number - 1] - self._reached[number - 1]
                    self._pixels[number - 1] = self._reached[number - 1]
                self._move(number, self._pixels[number - 1])
        if result.status == "failed":
            self.say(f"error: {result.error}")
        elif result.status == "done":
            with self._lock:
                self._clear()
                for target in result.job.targets:
                    # Bytes, so that names that are not Unicode arrive as they are.
                    click.echo(os.fsencode(target) if os.name == "posix" else str(target))

    def say(self, line: str) -> None:
        """Print a line on standard error."""
        with self._lock:
            self._clear()
            click.echo(line, err=True)

    def _move(self, number: int, reached: int) -> None:
        self._reached[number - 1] = reached
        self._bar.update(sum(self._reached) - self._bar.pos)

    def _clear(self) -> None:
        if self._bar is not None:
            click.echo(_CLEAR, nl=False, err=True)

    def _label(self, number: int) -> str:
        name = self._jobs[number - 1].source.name
        room = max(shutil.get_terminal_size().columns - _BESIDES_NAME, 12)
        shown = name if len(name) <= room else f"{name[: room - 8]}…{name[-7:]}"
        return f"[{number}/{len(self._jobs)}] {shown}" if len(self._jobs) > 1 else shown


class _Handler(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(f"warning: {' '.join(record.getMessage().split())}")


def _pixels(source: Path, max_pixels: int) -> int:
    """Of a file, by its header; 0 for one that will fail."""
    try:
        with open_image(source, max_pixels=max_pixels) as reader:
            return reader.width * reader.height
    except (SRFlowError, OSError):
        return 0
