"""Standard streams, which may be closed, full or broken."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

import click


def abandon(stream: TextIO | None) -> None:
    """Redirect a broken stream to nowhere; otherwise Python complains about unwritten text when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed, None or not a file at all
        descriptor = stream.fileno()  # type: ignore[union-attr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def write_error(line: str, end: str = "\n") -> None:
    """Print on standard error, if that can be written."""
    try:
        click.echo(f"{line}{end}", nl=False, err=True)
    except OSError:
        abandon(sys.stderr)
