"""Turns Python's own errors into the SDK's where a user would see them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import threading
from collections.abc import Iterator
from types import ModuleType

from srflow_sdk.errors import CancelledError, DeviceError, MissingExtraError, OutOfMemoryError

NO_THREADS = (
    "the system starts no more threads for this process: raise its limits (ulimit -u, a "
    "container's pids.max)"
)


class PassingError(DeviceError):
    """A device fails here and now, but may work later or in another process."""


@contextlib.contextmanager
def memory_errors_typed(what: str) -> Iterator[None]:
    """Turn a MemoryError, and a thread that does not start, into the SDK's errors.

    The message is "memory ran out {what}".
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"memory ran out {what}") from error
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        raise PassingError(NO_THREADS) from error


def stop_if_set(cancel: threading.Event | None) -> None:
    """Raises: CancelledError if the caller's event is set."""
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled by the caller")


def is_installed(module: str) -> bool:
    """True if a module is there. Nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module without a spec, put there by other code
        return False


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an extra installs. Raises: MissingExtraError, with the pip command."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name or module} is not installed, but it is needed here: pip install "
            f'"srflow-sdk[{extra}]"'
        ) from error
