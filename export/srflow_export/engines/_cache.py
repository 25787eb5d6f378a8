"""Keep built engines in the user's cache folder, so that the same input is not built twice.

An entry is two files, `<key>.engine` and `<key>.json`, which holds what the key was made of and the engine's sha256. An
entry whose engine has another hash is built again, so a damaged or incomplete one is never used.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from srflow_export._named_locks import acquired
from srflow_sdk.system.local_files import write_atomically

logger = logging.getLogger(__name__)

_FORMAT = 2  # of the key and the entry, and of what is built from a graph


class EngineCache:
    """Engines in a folder, found by what they were built from. Safe for any number of processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self,
        made_of: Mapping[str, Any],
        build: Callable[[], bytes],
        *,
        name: str,
        say: Callable[[str], None] = lambda _: None,
    ) -> bytes:
        """Return the engine of this input from the cache, or build it and keep it there.

        made_of: everything that decides what is built, as JSON values. While one process builds, others that want the
        same engine wait for it; the operating system frees the lock of one that dies. If the folder cannot be written,
        `say` receives a line and the engine is built without the cache. name: for lines of progress.
        """
        text = json.dumps({"format": _FORMAT, **made_of}, sort_keys=True, indent=1)
        key = hashlib.sha256(text.encode()).hexdigest()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            waiting = f"{name}: another export is building the same engine; waiting for it"
            lock = acquired(self.folder / f"{key}.lock", waiting=waiting, say=say)
        except OSError as error:
            say(f"{name}: {self.folder} cannot keep engines ({error.strerror or error}); building without the cache")
            return build()
        try:
            if (kept := self._read(key)) is not None:
                say(f"{name}: built before, {len(kept) / 1e6:.1f} MB from {self.folder}")
                return kept
            engine = build()
            self._write(key, made_of, engine)
            return engine
        finally:
            lock.release()

    def _read(self, key: str) -> bytes | None:
        try:
            record = json.loads((self.folder / f"{key}.json").read_bytes())
            engine = (self.folder / f"{key}.engine").read_bytes()
            if hashlib.sha256(engine).hexdigest() == record["sha256"]:
                return engine
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            pass
        logger.warning("%s: the cached engine is damaged; building it again", self.folder / f"{key}.engine")
        return None

    def _write(self, key: str, made_of: Mapping[str, Any], engine: bytes) -> None:
        record = {"sha256": hashlib.sha256(engine).hexdigest(), "bytes": len(engine), "made_of": made_of}
        try:
            write_atomically(self.folder / f"{key}.engine", engine)
            write_atomically(self.folder / f"{key}.json", (json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            logger.warning("%s: the engine cannot be cached (%s)", self.folder, error.strerror or error)
