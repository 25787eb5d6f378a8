"""Shows a batch to its user: names of finished files on standard output; errors and progress on
standard error.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from srflow_apps.batch.run import BatchProgress
from srflow_apps.batch.storage import show_names
from srflow_apps.commands.base_command import abandon, write_error
from srflow_sdk.plain_text import printable

if TYPE_CHECKING:
    from typing_extensions import Self

    from srflow_apps.batch.results import FolderFile

FIRST_AFTER_S = 2.0
THEN_EVERY_S = 10.0
_MEASURING = logging.getLogger("srflow_sdk.backends.ways")  # takes seconds, so people are told
# columns of a line that are not the file's name: "[100/200] … tile 10/24, 99%, about 00:10:00 left"
_BESIDES_NAME = 52
_CLEARING = "\r\x1b[K"  # empties the line; click does so on Windows' older consoles
_ALONE = 1_000_000  # parts of one input, of which each tile is some


class Display(logging.Handler):
    """Shows how far a batch is, what it finished, and logged warnings, while it is open.

    On a terminal, one line shows the current input and tile and how long everything will take.
    Elsewhere, a line says so 2 s after the work began and then every 10 s. names_lost: names of
    finished files could not be printed. unit: counted by :meth:`show_progress`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(logging.INFO)
        self.names_lost = False
        self.unit = "tile"
        self.shows_names = not quiet
        self._quiet = quiet
        self._lasting = sys.stderr is not None and sys.stderr.isatty()  # a bar stays in its line
        self._names: Sequence[str] = ()
        self._warnings = set[str]()
        self._pixels: BatchProgress | None = None
        self._skipped = 0  # pixels that take no time, and would spoil the estimate
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        if not self._quiet:
            _MEASURING.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        logging.getLogger().removeHandler(self)
        _MEASURING.setLevel(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a logged warning, once, and that of which people are told that it takes seconds."""
        warns = record.levelno >= logging.WARNING
        if warns or record.name == _MEASURING.name:  # other libraries talk, too
            line = f"{'warning: ' * warns}{' '.join(record.getMessage().split())}"
            if line not in self._warnings:  # a file is opened to choose its model, then to be drawn
                self._warnings.add(line)
                self.say(line)

    def begin(
        self, names: Sequence[str], measure: Callable[[], BatchProgress] | None = None
    ) -> None:
        """Show from now on how far the inputs of these names are. measure: tells how much work each
        of several is.
        """
        if names and not self._quiet:
            self._names = names
            self._pixels = measure() if measure and len(names) > 1 else BatchProgress([_ALONE])
            self._skipped = 0
            self._begun_s = time.monotonic()
            self._next_line_s = self._begun_s + FIRST_AFTER_S
            self._show(1)

    def show_progress(self, number: int, done: int, total: int) -> None:
        """Update the progress line."""
        with self._lock:
            if self._pixels is not None:
                self._pixels.reach(number, done / total)
                self._show(number, f" {self.unit} {done}/{total}")

    def show_result(self, number: int, file: FolderFile) -> None:
        """Print the files' names, or the error."""
        with self._lock:
            if self._pixels is not None:
                rest = self._pixels.reach(number, 1)
                self._skipped += rest if file.status != "done" else 0
                self._show(min(number + 1, len(self._names)))
            if file.status == "failed":
                self.say(f"error: {file.error}")
            for target in file.targets if file.status == "done" else ():
                self.print_name(target)

    def tell(self, line: str) -> None:
        """Print a line on standard error that is neither a warning nor an error."""
        if not self._quiet:
            self.say(line)

    def answer(self, line: str) -> None:
        """Print a line on standard output, unless it is to be quiet. Raises: OSError."""
        if not self._quiet:
            click.echo(printable(show_names(line)))

    def say(self, line: str) -> None:
        """Print a line on standard error."""
        with self._lock:
            self._clear()
            write_error(printable(show_names(line)))

    def print_name(self, target: Path) -> None:
        """Print the name of a finished file on standard output."""
        if self.names_lost or not self.shows_names:
            return
        self._clear()
        try:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            # names need not be Unicode
            exact = os.fsencode(target) if os.name == "posix" else str(target)
            click.echo(printable(str(target)) if sys.stdout.isatty() else exact)
        except OSError as error:
            self.names_lost = True
            abandon(sys.stdout)
            if error.errno not in (errno.EPIPE, errno.EINVAL):  # which Windows calls a broken pipe
                self.say(
                    "error: the files were written, but their names cannot be printed: "
                    f"{error.strerror or error}"
                )

    def _show(self, number: int, tile: str = "") -> None:
        """Say how far everything is, and which input is drawn: always on a terminal, elsewhere now
        and then.
        """
        now = time.monotonic()
        if self._pixels is None or (not self._lasting and now < self._next_line_s):
            return
        self._next_line_s = now + THEN_EVERY_S
        all_of_it = self._pixels.total - self._skipped
        part = (self._pixels.done - self._skipped) / all_of_it if all_of_it else 0.0
        name = printable(self._names[number - 1])
        count = len(self._names)
        room = (
            max(shutil.get_terminal_size().columns - _BESIDES_NAME, 12)
            if self._lasting
            else len(name)
        )
        short = name if len(name) <= room else f"{name[: room - 8]}…{name[-7:]}"
        line = f"[{number}/{count}] {short}{tile}" if count > 1 else f"{short}{tile}"
        line += f", {int(100 * part)}%" if part >= 0.01 else ""
        if 0 < part < 1:
            minutes, seconds = divmod(round((now - self._begun_s) * (1 / part - 1)), 60)
            line += f", about {minutes // 60:02}:{minutes % 60:02}:{seconds:02} left"
        if self._lasting:
            write_error(f"{_CLEARING}{line}", end="")
        else:
            self.say(line)

    def _clear(self) -> None:
        if self._lasting and self._pixels is not None:
            write_error(_CLEARING, end="")
