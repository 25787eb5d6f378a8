"""What takes seconds to make and tests of many files ask for: made once in a run, by the process that asks first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

FOLDER = "SRFLOW_TESTS_KEPT"
"""The environment variable that names the folder that a run's processes share; see tests/conftest.py."""


def kept(key: str | bytes, make: Callable[[], bytes]) -> bytes:
    """The result of make(), or of an earlier call in this run, by any process, that had the same key.

    Outside a run of tests nothing is kept.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return make()
    file = Path(folder) / hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()
    with FileLock(f"{file}.lock"):
        if not file.exists():
            part = file.with_suffix(".part")
            part.write_bytes(make())
            part.replace(file)
    return file.read_bytes()
