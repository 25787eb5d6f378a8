"""The cache folder, which keeps what can be computed again between runs: engines, kernels, timings."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import platformdirs

VARIABLE = "SRFLOW_CACHE_DIR"  # names another folder
_log = logging.getLogger(__name__)
_complained = False


def cache_folder(*parts: str, missed: bool = True) -> Path | None:
    """A folder in the user's cache; None if it cannot be used, which is said once if it is missed: starts are slow."""
    global _complained
    try:
        chosen = os.environ.get(VARIABLE)
        folder = Path(chosen).absolute() if chosen else platformdirs.user_cache_path("srflow-sdk", appauthor=False)
        if not folder.is_absolute():  # as in some containers: it would lie in the current folder
            raise FileNotFoundError(f"this user has no home folder for {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        for part in ("", *parts):
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if missed and not _complained:
            _complained = True
            _log.warning(
                "continuing without a cache, which only costs time: %s; %s names another folder", error, VARIABLE
            )
        return None
    return folder
