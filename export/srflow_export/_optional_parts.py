"""Parts that a bundle can do without: what ends one of them must not end the export."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INT8_ENCODER, Manifest
from srflow_sdk.system.plain_text import printable

FUSED = "fused.onnx"

_T = TypeVar("_T")
_LONGEST = 500
_logger = logging.getLogger(__name__)


class OptionalParts:
    """Makes and proves optional files. `say` receives a line for each that is left out, with the reason."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._left_out: dict[str, str] = {}

    def made(self, name: str, make: Callable[[], _T]) -> _T | None:
        """The result of `make`, or None if that failed."""
        try:
            return make()
        except Exception as error:  # of whichever library
            self._leave_out(name, error)
            return None

    def proved(self, name: str, bundle: Bundle, prove: Callable[[], _T], *, otherwise: _T) -> _T:
        """The result of `prove`. If the bundle does not have the file, or it fails and loses it, `otherwise`."""
        if name not in bundle.manifest.files:
            return otherwise
        try:
            return prove()
        except Exception as error:
            self._leave_out(name, error)
            (bundle.path / name).unlink()
            del bundle.manifest.files[name]
            return otherwise

    def _leave_out(self, name: str, error: Exception) -> None:
        _logger.debug("%s is left out", name, exc_info=error)
        text = str(error) or type(error).__name__
        reason = printable(" ".join(text.split()))[:_LONGEST]
        self._left_out[name] = reason
        self._say(f"{name} is left out: {reason}")

    def record(self) -> dict[str, Any]:
        """For a manifest's provenance: the reasons, by file."""
        return {"left_out": self._left_out} if self._left_out else {}


def say_what_is_missing(manifest: Manifest, *, fused: bool, also: Collection[str]) -> bool:
    """Print which optional parts that options ask for a written bundle does not have; whether there are any.

    Like engines that cannot be built: the bundle is good without them, but a script must notice.
    """
    asked = {FUSED: "--fused"} if fused else {}
    asked |= {INT8_ENCODER: "--also int8"} if "int8" in also else {}
    missing = [name for name in asked if name not in manifest.files]
    for name in missing:
        click.echo(f"error: the bundle has no {name}, which {asked[name]} asks for: it was left out", err=True)
    return bool(missing)
