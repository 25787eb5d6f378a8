"""Arrays of latents by level, C×h×w in float32, in memory or temporary files, and their positions in the picture."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError
from srflow_sdk.system.raising import memory_errors_typed

Levels = Mapping[int, NDArray[np.float32]]
Shape = tuple[int, ...]

MAPPED_BEYOND_BYTES = 256 << 20
"""Arrays that are larger than this together lie in memory-mapped temporary files."""

_CHUNK = 1 << 19  # values computed at a time: 4 MB in float64
_ZEROS_BYTES = 1 << 20


def allocate(shapes: Mapping[int, Shape]) -> dict[int, NDArray[np.float32]]:
    """Writable arrays of zeros. Beyond 256 MB in all they are memory-mapped files, which vanish with the arrays.

    Raises: ImageError if the folder of temporary files has no room, OutOfMemoryError.
    """
    mapped = 4 * sum(map(math.prod, shapes.values())) > MAPPED_BEYOND_BYTES
    make = _mapped_zeros if mapped else _zeros
    return {level: make(shape) for level, shape in sorted(shapes.items())}


def like(levels: Levels) -> dict[int, NDArray[np.float32]]:
    """Writable arrays of zeros of the same shapes, as from :func:`allocate`."""
    return allocate({level: array.shape for level, array in levels.items()})


def read_only(levels: Levels) -> dict[int, NDArray[np.float32]]:
    """Views of the same values that cannot be written."""
    views = {level: array.view() for level, array in levels.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def picture_positions(level: int, *, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a level that hold pixels of the picture, not only padding."""
    return -(-height >> level), -(-width >> level)


def mask_positions(mask: NDArray[np.bool_], level: int) -> NDArray[np.bool_]:
    """The positions of a level, without those of the padding, of which any pixel is inside an H×W mask."""
    step = 1 << level
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0)
    return np.asarray(np.logical_or.reduceat(rows, np.arange(0, mask.shape[1], step), axis=1))


def row_chunks(array: NDArray[np.float32], rows: int) -> Iterator[slice]:
    """Cut the first `rows` rows of C×h×w into runs that bound what float64 copies of them take."""
    channels, _, width = array.shape
    step = max(1, _CHUNK // (channels * width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _zeros(shape: Shape) -> NDArray[np.float32]:
    with memory_errors_typed("for the latents; close other programs or take a smaller picture"):
        zeros: NDArray[np.float32] = np.zeros(shape, np.float32)
    return zeros


def _mapped_zeros(shape: Shape) -> NDArray[np.float32]:
    size = 4 * math.prod(shape)
    try:
        # The file has no name, or loses it at once: it is gone when the last array that maps it is, even after a crash.
        with tempfile.TemporaryFile(prefix="srflow-latents-") as file:
            # Without its room on the disk, writing to the mapping would kill the process.
            if not _reserved(file.fileno(), size):
                for start in range(0, size, _ZEROS_BYTES):
                    file.write(bytes(min(_ZEROS_BYTES, size - start)))
                file.flush()
            return np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
    except OSError as error:
        where, why = tempfile.gettempdir(), error.strerror or error
        raise ImageError(
            f"the latents need {size / 1e9:.1f} GB in {where}: {why}; TMPDIR names another folder"
        ) from error


def _reserved(descriptor: int, size: int) -> bool:
    """Reserve zeros in an empty file without writing them; False if this system cannot. Raises: OSError."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot
            return False
        raise
    return True
