"""Turns Python's own errors into the SDK's where a user would see them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from types import ModuleType

from srflow_sdk.errors import CancelledError, DeviceError, MissingExtraError, OutOfMemoryError


class PassingError(DeviceError):
    """A device fails here and now, and may work in another process or moment, or once a package is repaired."""


_UNMAPPED = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")

_THREADS = 16
"""About how many threads upscaling a file has at a time, besides those of libvips and of the network's operators."""


@contextlib.contextmanager
def memory_errors_typed(what: str) -> Iterator[None]:
    """Turn a MemoryError in the block into an OutOfMemoryError: "memory ran out {what}".

    A thread that cannot be started becomes a DeviceError.
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"memory ran out {what}") from error
    except RuntimeError as error:
        if not is_lack_of_threads(error):
            raise
        raise PassingError(lack_of_threads(error)) from error


def stop_if_set(cancel: threading.Event | None) -> None:
    """Raises: CancelledError if the caller's event is set."""
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled by the caller")


def is_lack_of_threads(error: BaseException) -> bool:
    """True if the system refused to start a thread: Python has no error of its own for this."""
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def lack_of_threads(error: BaseException) -> str:
    needed = _THREADS + 2 * (os.cpu_count() or 1)
    return (
        f"the system starts no more threads for this process ({error}), which needs about {needed}, and 0.1 GB of "
        "address space for each: raise its limits (ulimit -u, ulimit -v, a container's pids.max)"
    )


def is_lack_of_memory(error: BaseException) -> bool:
    """True if a library could not be loaded because there was no memory or address space to map it."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _UNMAPPED)


def is_installed(module: str) -> bool:
    """True if a module is there. Nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module without a spec, put there by other code
        return False


def require_extra(module: str, extra: str) -> ModuleType:
    """Import and return a module that an extra installs.

    Raises: MissingExtraError, one line with the pip command, if it is not installed; OutOfMemoryError if there is no
    room to load it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{error.name or module} is not installed, but it is needed here: pip install "srflow-sdk[{extra}]"'
        ) from error
    except (ImportError, OSError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{module} cannot be loaded, because there is not enough memory or address space ({error}): close other "
            "programs, or raise the limit (ulimit -v unlimited)"
        ) from error
