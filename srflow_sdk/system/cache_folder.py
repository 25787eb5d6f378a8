"""The cache folder, which keeps what can be computed again between runs: engines, kernels, timings."""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

import platformdirs

VARIABLE = "SRFLOW_CACHE_DIR"
"""Environment variable that names another folder."""

_log = logging.getLogger(__name__)
_complained = False


def cache_folder(*parts: str, missed: bool = True) -> Path | None:
    """A folder in the user's cache, created with access for this user only; None if it cannot be used.

    parts: names of nested folders in it. It is $SRFLOW_CACHE_DIR, or lies where the system keeps caches: on Linux in
    $XDG_CACHE_HOME or ~/.cache. Libraries load code from here, so a folder that belongs to another user, or that others
    can write to, is not used. Without a cache only startup is slower: a process warns once, at the first None, if the
    cache is missed, because startup then takes seconds or minutes.
    """
    global _complained
    try:
        folder = _root()
        folder.parent.mkdir(parents=True, exist_ok=True)
        for part in ("", *parts):
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
            if sys.platform != "win32" and hasattr(os, "geteuid"):
                found = folder.stat()
                if found.st_uid != os.geteuid():
                    raise PermissionError(f"{folder} belongs to another user")
                if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise PermissionError(f"{folder} is writable for others (chmod 700 fixes it)")
    except OSError as error:
        if missed and not _complained:
            _complained = True
            _log.warning(
                "continuing without a cache, which only costs time: %s; %s names another folder", error, VARIABLE
            )
        return None
    return folder


def cached_file(*parts: str) -> Path | None:
    """A file in the cache, whoever may write to it; None if it is not there. For data alone: code is not loaded so."""
    try:
        path = _root().joinpath(*parts)
    except OSError:
        return None
    return path if path.is_file() else None


def _root() -> Path:
    """Raises: OSError if the system has no place for this user's caches."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    folder = platformdirs.user_cache_path("srflow-sdk", appauthor=False)
    if not folder.is_absolute():  # a user without a home, as in some containers: it would lie in the current folder
        raise FileNotFoundError(f"this user has no home folder for {folder}")
    return folder
