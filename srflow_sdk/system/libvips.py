"""libvips, loaded on first use, and its errors in one line."""

from __future__ import annotations

import os
import sys
from typing import Any

from srflow_sdk.errors import DeviceError, MissingExtraError

_process_with_threads = 0  # the process in which libvips has started its threads
_UNHELPFUL = ("unable to ", "bad seek", "vipspng: libpng read error")


def pyvips() -> Any:
    """Import pyvips, on first use.

    Silent and without a cache unless the app imported it. Raises: MissingExtraError.
    """
    is_first = "pyvips" not in sys.modules
    os.environ.setdefault("VIPS_WARNING", "1")  # any value: libvips drops its warnings
    try:
        import pyvips
    except (ImportError, OSError, MemoryError) as error:
        raise MissingExtraError(
            f"libvips, which reads and writes image files, cannot be loaded ({error}): pip install "
            "pyvips pyvips-binary"
        ) from error
    if is_first:
        # pyvips' handler would still pass warnings to logging, and print a traceback if one is not
        # UTF-8.
        getattr(pyvips, "_remove_log_handler", lambda: None)()
        # Kept operations hold their files open, which Windows then neither replaces nor deletes.
        pyvips.cache_set_max(0)
    return pyvips


def start_threads() -> None:
    """Call this before libvips uses threads.

    Raises: DeviceError after a fork: it would wait for ever for those.
    """
    global _process_with_threads
    if not _process_with_threads:
        _process_with_threads = os.getpid()
    elif _process_with_threads != os.getpid():
        raise DeviceError(
            "this process was forked from one that has already used libvips, whose threads do not "
            "exist here: start it "
            'with multiprocessing.get_context("spawn") (gunicorn: without --preload), or fork '
            "before the first file"
        )


def get_field(image: Any, name: str) -> Any:
    """A metadata field of an image; None if it has no such field."""
    return image.get(name) if image.get_typeof(name) else None


def reason(error: Exception) -> str:
    """The first cause that libvips gave, except those meant for programmers; "" if it gave none."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    causes = [line for line in lines if line and not any(words in line for words in _UNHELPFUL)]
    return causes[0][:200] if causes else ""
