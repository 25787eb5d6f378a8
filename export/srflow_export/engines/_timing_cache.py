"""The file of TensorRT's kernel timings: read before anything is built, written once an engine is built."""

from __future__ import annotations

import logging
from pathlib import Path

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import write_atomically

logger = logging.getLogger(__name__)


def read_measurements(file: Path) -> bytes:
    """A timing cache's content, empty if the file does not exist. Raises: ArgumentError if it cannot be read."""
    fix = "name another file with --timing-cache"
    try:
        if file.is_file():
            return file.read_bytes()
        if file.exists():
            raise ArgumentError(f"{file} is not a file, so timings cannot be kept in it; {fix}")
    except OSError as error:
        raise ArgumentError(
            f"{file}: the timing cache cannot be read ({error.strerror or error}); make it readable, or {fix}"
        ) from error
    return b""


def keep_measurements(file: Path, content: bytes) -> None:
    """Write a timing cache. A failure is only logged, so that an engine that took minutes is not lost."""
    try:
        write_atomically(file, content)
    except OSError as error:
        logger.warning("%s: the timings cannot be kept (%s)", file, error.strerror or error)
