"""Kernels that TensorRT-RTX compiles when an engine runs, kept between runs of the program."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path
from typing import Any

from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.local_files import remove_stale_parts, write_atomically

_log = logging.getLogger(__name__)


class KernelCache:
    """TensorRT-RTX's runtime cache, shared by the contexts of a bundle's engines, and its file in the user's cache.

    name: the file's, which identifies the bundle and the GPU. The library ignores files of another GPU or version.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: Path | None = None
        self._cache: Any = None
        self._read = b""
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Let contexts made with an IRuntimeConfig use it."""
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                if (folder := cache_folder("tensorrt-rtx")) is not None:
                    self._path = folder / self._name
                    with contextlib.suppress(OSError):
                        self._read = self._path.read_bytes()
                if self._read and not self._cache.deserialize(self._read):
                    _log.debug("%s has no kernels that can be used here", self._path)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what is new since :meth:`attach`, completely or not at all; failures are only logged."""
        kernels = None if self._path is None else self._cache.serialize()
        if self._path is None or kernels is None or bytes(kernels) == self._read:
            return
        remove_stale_parts(self._path)
        try:
            write_atomically(self._path, kernels)
        except OSError as error:
            _log.debug("compiled kernels cannot be kept: %s", error)
