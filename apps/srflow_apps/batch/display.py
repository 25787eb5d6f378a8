"""Shows a batch to its user: names of finished files on standard output; errors and progress on standard error."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from srflow_apps.batch.storage import with_urls
from srflow_apps.commands.base_command import abandon, write_error
from srflow_sdk.system.plain_text import printable

if TYPE_CHECKING:
    from typing_extensions import Self

    from srflow_apps.batch.jobs import FolderFile
    from srflow_apps.batch.operations import Job
    from srflow_apps.batch.run import Pixels

_CLEAR = "\r\x1b[K"
_BAR_WIDTH = 16
_MEASURING = logging.getLogger("srflow_sdk.backends.ways")  # takes seconds, so people are told
_BESIDES_NAME = 62  # columns of a line that are not the file's name: "[100/200] … tile 10/24  [bar]  100%  00:10:00"


class Display:
    """Shows a batch's progress (see :class:`srflow_apps.batch.run.Watcher`). Use it as a context manager.

    While it is open, logged warnings are shown as lines. While :meth:`progress` is active and standard error is a
    terminal, one line there shows the current input and tile and how long everything will take, estimated by the
    inputs' pixels; all other output gets its own lines. Elsewhere, a line says the same now and then. A standard output
    or standard error that cannot be written does not end a batch.

    quiet: show only warnings and errors.
    names_lost: whether names of finished files could not be printed. shows_names: whether they are printed at all.
    unit: what :meth:`progressed` counts.
    in_words: changes every line about files; they may be called otherwise than by their paths.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.names_lost, self.unit = False, "tile"
        self.shows_names = not quiet
        self._quiet = quiet
        self.in_words: Callable[[str], str] = str
        self._jobs: Sequence[Job] = ()
        self._pixels: Pixels | None = None
        self._bar: Any = None
        self._lines: ProgressLines | None = None  # instead of a bar, without a terminal
        self._current = 1
        self._lock = threading.RLock()
        self._handler = _Handler(self)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._handler)
        if not self._quiet:
            _MEASURING.setLevel(logging.INFO)
        if not self._quiet and not _is_terminal(sys.stderr):
            self._lines = ProgressLines(self.say).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.__exit__()
            self._lines = None
        logging.getLogger().removeHandler(self._handler)
        _MEASURING.setLevel(logging.NOTSET)

    @contextlib.contextmanager
    def progress(
        self,
        jobs: Sequence[Job],
        *,
        max_pixels: int,
        check: Callable[[], None] = lambda: None,
        work: Sequence[int] | None = None,
    ) -> Iterator[None]:
        """Show how far these jobs are, while the block runs.

        check: called between files; may raise. work: how much each job is; None is its input's pixels.
        """
        self._jobs = jobs
        if not jobs or self._quiet or (self._lines is None and not _is_terminal(sys.stderr)):
            yield
            return
        self._pixels = self._measured(jobs, max_pixels=max_pixels, check=check, work=work)
        if self._lines is not None:
            self._lines.begin(length=self._pixels.total, label=self._label(1))
            self._bar = self._lines
        else:
            self._bar = click.progressbar(
                length=self._pixels.total,
                label=self._label(1),
                file=sys.stderr,
                width=_BAR_WIDTH,
                bar_template="%(label)s  [%(bar)s]  %(info)s",
            )
        self._render()
        try:
            yield
        finally:
            with self._lock:
                with contextlib.suppress(OSError):
                    self._bar.render_finish()
                self._bar = None

    def _measured(self, jobs: Sequence[Job], **how: Any) -> Pixels:
        """The jobs' pixels. A message is shown, because opening thousands of files takes seconds."""
        from srflow_apps.batch.run import Pixels

        doing = f"reading the headers of {len(jobs)} files"
        if self._lines is not None:
            self._lines.label = doing
        elif len(jobs) > 1:
            write_error(f"{doing} …", end="")
        try:
            return Pixels(jobs, **how)
        finally:
            if self._lines is None:
                write_error(_CLEAR, end="")

    def progressed(self, number: int, done: int, total: int) -> None:
        """Update the progress line."""
        with self._lock:
            if self._bar is not None:
                self._current = number
                self._bar.label = f"{self._label(number)} {self.unit} {done}/{total}"
                self._move(number, done / total)
                self._render()  # a tile of a small image may not move the bar

    def finished(self, number: int, file: FolderFile) -> None:
        """Print the files' names, or the error."""
        with self._lock:
            if self._bar is not None:
                if file.status != "done":  # its remaining pixels take no time, and would spoil the estimate
                    self._bar.length -= 0 if self._pixels is None else self._pixels.leave_out(number)
                self._move(number, 1)
                if number == self._current and number < len(self._jobs):
                    self._current += 1
                    self._bar.label = self._label(self._current)
        if file.status == "failed":
            self.say(f"error: {file.error}")
        elif file.status == "done" and self.shows_names:
            with self._lock:
                self._clear()
                for target in file.targets:
                    self._print(target)

    def printed(self, target: Path) -> None:
        """Print the name of a finished file that is no job's."""
        if self.shows_names:
            self._print(target)

    def tell(self, line: str) -> None:
        """Print a line on standard error that is neither a warning nor an error."""
        if not self._quiet:
            self.say(line)

    def answer(self, line: str) -> None:
        """Print a line on standard output, unless it is to be quiet. Raises: OSError."""
        if not self._quiet:
            click.echo(printable(self.in_words(line)))

    def say(self, line: str) -> None:
        """Print a line on standard error."""
        with self._lock:
            self._clear()
            write_error(printable(self.in_words(line)))

    def _print(self, target: Path) -> None:
        if self.names_lost:
            return
        try:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            exact = os.fsencode(target) if os.name == "posix" else str(target)  # names need not be Unicode
            click.echo(printable(str(target)) if _is_terminal(sys.stdout) else exact)
        except OSError as error:
            self.names_lost = True
            abandon(sys.stdout)
            if error.errno != errno.EPIPE:
                self.say(f"error: the files were written, but their names cannot be printed: {error.strerror or error}")

    def _move(self, number: int, part: float) -> None:
        assert self._pixels is not None  # for the type checker: there is a bar
        with contextlib.suppress(OSError):
            self._bar.update(self._pixels.reach(number, part))

    def _render(self) -> None:
        with contextlib.suppress(OSError):
            self._bar.render_progress()

    def _clear(self) -> None:
        if self._bar is not None and self._lines is None:
            write_error(_CLEAR, end="")

    def _label(self, number: int) -> str:
        name = printable(self._jobs[number - 1].source.name)
        room = len(name) if self._lines is not None else max(shutil.get_terminal_size().columns - _BESIDES_NAME, 12)
        shown = name if len(name) <= room else f"{name[: room - 8]}…{name[-7:]}"
        return f"[{number}/{len(self._jobs)}] {shown}" if len(self._jobs) > 1 else shown


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


class _Handler(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__(logging.INFO)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        warns = record.levelno >= logging.WARNING
        if not warns and record.name != _MEASURING.name:  # other libraries talk, too
            return
        kind = "warning: " if warns else ""
        self._display.say(f"{kind}{with_urls(' '.join(record.getMessage().split()))}")


FIRST_AFTER_S = 2.0
THEN_EVERY_S = 10.0


class ProgressLines:
    """Says how far a run is, 2 s after it began and then every 10 s; shorter runs stay silent.

    A context manager, with what :class:`srflow_apps.batch.display.Display` uses of click's progress bar.

    say: prints a line; called from a thread. label: what is being done. length: the run's work, in any unit, 0 while
    that is not known. clock: the time in seconds.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.label = "preparing"
        self.length = 0
        self._say = say
        self._clock = clock
        self._begun = clock()
        self._done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="srflow-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def begin(self, *, length: int, label: str) -> None:
        """Begin the work whose time is estimated."""
        self.label, self.length, self._done = label, length, 0
        self._begun = self._clock()

    def update(self, step: int) -> None:
        """Count work that was done."""
        self._done += step

    def render_progress(self) -> None:
        """Do nothing: lines come by the clock."""

    def render_finish(self) -> None:
        """Stop saying how far the run is."""
        self._ended.set()

    def line(self) -> str:
        """The current work, how much of everything is done, and about how long the rest takes."""
        if self.length <= 0:
            return self.label
        text = f"{self.label}, {100 * self._done // self.length}%"
        if 100 * self._done < self.length:  # a first small picture says little about the rest
            return text
        left = round((self._clock() - self._begun) * (self.length - self._done) / self._done)
        return f"{text}, about {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

    def _run(self) -> None:
        pause = FIRST_AFTER_S
        while not self._ended.wait(pause):
            self._say(self.line())
            pause = THEN_EVERY_S
