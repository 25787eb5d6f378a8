"""Lines that a terminal may show, and streams that cannot be written."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TextIO

import click

from srflow_sdk.system.urls import without_secrets

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # a terminal would interpret or refuse them


def printable(text: str) -> str:
    """Replace characters that a terminal would interpret; file names may contain any. URLs lose their secrets."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", without_secrets(text))


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
