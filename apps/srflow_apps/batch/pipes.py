"""Standard input and standard output in the place of files, for one picture: `srflow-upscale - -o -`."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from srflow_apps.batch.finding import is_folder
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import open_image, spooled, write_image
from srflow_sdk.system.interrupts import STOPPING, raised_interrupts
from srflow_sdk.system.url_paths import UrlPath, as_path

STANDARD = "-"
"""The name of standard input among the inputs, and of standard output as the output."""

_INPUT, _OUTPUT = "stdin", "stdout"


@dataclass(frozen=True, kw_only=True)
class Pipes:
    """The inputs and the output of a command, with files in the place of standard input and output.

    inputs, output: as given on the command line, except for :data:`STANDARD`. target: the file that becomes standard
    output; None if that is not asked for. names: what to call the files in the place of pipes, by their paths. keep:
    files of which the inputs are parts.
    """

    inputs: tuple[Path, ...]
    output: str | None
    target: Path | None = None
    names: dict[str, str] = field(default_factory=dict)
    keep: tuple[Path, ...] = ()

    def in_words(self, line: str) -> str:
        """A line with the names of the pipes instead of their files' paths."""
        for path, name in self.names.items():
            line = line.replace(path, name)
        return line

    def send(self) -> None:
        """Copy the picture to standard output, if that was asked for. Raises: OSError."""
        if self.target is not None:
            with raised_interrupts(*STOPPING), self.target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def standard_input(max_pixels: int) -> Iterator[Path]:
    """Read standard input to its end: a file in its place, until the block ends.

    Raises: ArgumentError if it is a terminal or closed; what :func:`spooled` raises.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ArgumentError("- is standard input; pipe a picture into it: < photo.jpg")
    with contextlib.ExitStack() as stack:
        with raised_interrupts(*STOPPING):
            path = stack.enter_context(spooled(sys.stdin.buffer, name=_INPUT, max_pixels=max_pixels))
        yield path


@contextlib.contextmanager
def _frame(path: Path, number: int, *, max_pixels: int) -> Iterator[Path]:
    """A file with one frame of an animation or one page, as PNG, while the block runs. number: from 1.

    Raises: ImageError if there is no such frame, or more than max_pixels pixels, or the file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
        with open_image(path, max_pixels=max_pixels, page=number) as reader:
            ending = ".tif" if reader.dtype == np.float32 else ".png"
            local = Path(folder) / f"{path.stem}_frame{number}{ending}"
            write_image(local, reader.read_rows(reader.height), metadata=reader.metadata)
        yield local


@contextlib.contextmanager
def open_pipes(
    inputs: Sequence[str],
    output: str | None,
    *,
    ending: str,
    max_pixels: int,
    frame: int | None = None,
    sent: Path | None = None,
) -> Iterator[Pipes]:
    """Read standard input to its end if it is an input, and remove the files of both pipes at the end.

    ending: of the picture on standard output, such as ".png".
    max_pixels: as for :func:`spooled`.
    frame: takes the place of the one input that it is of.
    sent: a file in the place of standard input that is none of the inputs.
    Raises: ArgumentError if standard input is not the only input or a pipe is a terminal or closed; ImageError.
    """
    with contextlib.ExitStack() as stack:
        paths, target = tuple(map(as_path, inputs)), None
        if STANDARD in inputs:
            if len(inputs) > 1:
                raise ArgumentError("- is standard input, one picture; it must be the only input")
            if output is None:
                raise ArgumentError(
                    "- is standard input, which lies in no folder; name the output: -o large.png, or -o -"
                )
            sent = stack.enter_context(standard_input(max_pixels))
            paths = (sent,)
        names = {} if sent is None else {str(sent): _INPUT}
        keep: tuple[Path, ...] = ()
        if frame is not None:
            if len(paths) != 1 or isinstance(paths[0], UrlPath) or is_folder(paths[0]) or output is None:
                raise ArgumentError("--frame is of one file on this machine; name one INPUT, and the output with -o")
            framed = stack.enter_context(_frame(paths[0], frame, max_pixels=max_pixels))
            names[str(framed)] = f"{names.get(str(paths[0]), paths[0])} frame {frame}"
            keep, paths = paths, (framed,)
        if output == STANDARD:
            if sys.stdout is None or sys.stdout.isatty():
                raise ArgumentError("-o - is standard output; redirect it to a file or program: > large.png")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="srflow-"))
            target = Path(folder) / f"{_OUTPUT}{ending}"
            output = str(target)
            names[output] = _OUTPUT
        yield Pipes(inputs=paths, output=output, target=target, names=names, keep=keep)
