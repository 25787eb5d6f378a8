"""Turns Python's own errors into the SDK's where a user would see them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

from srflow_sdk.errors import MissingExtraError, OutOfMemoryError


@contextlib.contextmanager
def memory_errors_typed(what: str) -> Iterator[None]:
    """Turn a MemoryError in the block into an OutOfMemoryError: "memory ran out {what}"."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"memory ran out {what}") from error


def require_extra(module: str, extra: str) -> ModuleType:
    """Import and return a module that an extra installs.

    Raises: MissingExtraError, one line with the pip command, if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{error.name or module} is not installed, but it is needed here: pip install "srflow-sdk[{extra}]"'
        ) from error
