"""Follows links."""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """The absolute path with all links followed, as far as they lead; it need not exist. Raises nothing.

    ``Path.resolve`` raises for a link to itself: RuntimeError before Python 3.13, and OSError since.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a NUL in its name: opening it says so
        return Path.cwd() / path
