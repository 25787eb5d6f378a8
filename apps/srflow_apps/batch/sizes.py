"""How much work each input of a batch is, for progress: its pixels, from its header."""

from __future__ import annotations

from pathlib import Path

from srflow_sdk.files import count_pixels
from srflow_sdk.system.url_paths import UrlPath

UNKNOWN_PIXELS = 1_000_000
"""What an input with a URL counts for: its header is not fetched only to be counted."""


def weight(source: Path, *, max_pixels: int) -> int:
    """The pixels of an input; 0 if it cannot be used, :data:`UNKNOWN_PIXELS` for a URL."""
    return UNKNOWN_PIXELS if isinstance(source, UrlPath) else count_pixels(source, max_pixels=max_pixels)


def is_known(source: Path) -> bool:
    """Whether :func:`weight` is a number of pixels."""
    return not isinstance(source, UrlPath)
