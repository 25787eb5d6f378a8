"""Typed errors of the SDK. Every message says what failed, why, and how to mend it."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from types import ModuleType


class SRFlowError(Exception):
    """Base of every error that this software raises on purpose. Its message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(re.sub(r"\s*\n\s*", " ", message))


class ArgumentError(SRFlowError, ValueError):
    """A value that a caller passed is out of range, of the wrong shape or unknown."""


class ImageError(SRFlowError):
    """An image cannot be read, written or used."""


class BundleError(SRFlowError):
    """A bundle is missing, damaged, tampered with, or of a newer schema."""


class CheckpointError(SRFlowError):
    """A checkpoint is missing, truncated, unsafe, or holds another architecture."""


class ExportError(SRFlowError):
    """An export failed, or what it made is not equal to the checkpoint's network."""


class DeviceError(SRFlowError):
    """A device or execution provider cannot be used on this machine."""


class NonFiniteError(SRFlowError):
    """The network produced NaN or infinite values."""


class OutOfMemoryError(DeviceError):
    """A device's memory ran out."""


class CancelledError(SRFlowError):
    """The caller asked to stop."""


class MissingExtraError(SRFlowError):
    """An optional part of the installation is needed and absent."""


@contextlib.contextmanager
def memory_errors_typed(what: str) -> Iterator[None]:
    """Turn a MemoryError in the block into an OutOfMemoryError: "memory ran out {what}"."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"memory ran out {what}") from error


def require_extra(module: str, extra: str) -> ModuleType:
    """Import and return a module that an extra brings.

    Raises: MissingExtraError, one line that names the pip command, if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{error.name or module} is not installed, and this needs it: pip install "srflow-sdk[{extra}]"'
        ) from error
