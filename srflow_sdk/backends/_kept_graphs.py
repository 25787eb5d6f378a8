"""Graphs as ONNX Runtime rewrote them for this processor, kept in the user's cache. Linux only.

Whenever ONNX Runtime loads a graph, it optimises it and makes copies of the weights in the layouts of the processor's
kernels. What it made is kept in a folder of its own: the graph, its weights, and a record of what both were made from.
The next process loads that instead, several times as fast, and computes the same bits. ONNX Runtime maps the weights
into memory instead of reading them, so that all processes of this user share them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from srflow_sdk.backends._ort_providers import onnxruntime
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.hardware import first_core
from srflow_sdk.system.local_files import file_sha256

MOST_BYTES = 2 << 30
"""Kept in all: those not used for the longest time are deleted first."""

_GRAPH, _WEIGHTS, _RECORD = "graph.onnx", "weights.bin", "record.json"
_STALE_SECONDS = 3600  # what a killed process left
_PROCESSOR = {  # lines of /proc/cpuinfo that say which kernels are used, on x86 and on ARM
    *("vendor_id", "cpu family", "model", "model name", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeptGraph:
    """The place of one graph for this processor and this ONNX Runtime, whether it is there yet or not."""

    folder: Path
    made_from: dict[str, str]

    def load_options(self, options: Any) -> Path | None:
        """Change a session's options to load the kept graph, and return its path; None if it is not there, or damaged.

        Damaged ones are deleted.
        """
        try:
            record = json.loads((self.folder / _RECORD).read_text(encoding="utf-8"))
            sound = record == self._record(self.folder)
            if sound:
                os.utime(self.folder / _RECORD)  # the time of its last use
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            sound = False
        if not sound:
            self.discard()
            return None
        options.graph_optimization_level = onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
        return self.folder / _GRAPH

    def discard(self) -> None:
        """Delete it. Processes that have it in use keep what they mapped."""
        _log.info("%s is damaged, or of no use: deleting it", self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def saved_by(self, options: Any) -> Iterator[None]:
        """Change a session's options so that creating it in this block saves its graph, which then appears here whole.

        Raises: OSError if no folder can be made for it, and whatever the block raises; then nothing is left behind.
        """
        part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=self.folder.parent))
        try:
            options.optimized_model_filepath = str(part / _GRAPH)
            prefix = "session.optimized_model_external_initializers"
            options.add_session_config_entry(f"{prefix}_file_name", _WEIGHTS)
            options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
            yield
            with contextlib.suppress(OSError):  # no room for the record, or another process was faster
                (part / _RECORD).write_text(json.dumps(self._record(part)), encoding="utf-8")
                part.rename(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        _delete_oldest(self.folder.parent, keep=self.folder)

    def _record(self, folder: Path) -> dict[str, Any]:
        found = (folder / name for name in (_GRAPH, _WEIGHTS))  # a tiny graph has no weights outside it
        return {
            "made_from": self.made_from,
            "sha256": {path.name: file_sha256(path) for path in found if path.exists()},
        }


def kept_graph(graph_sha256: str) -> KeptGraph | None:
    """The place of a graph, by the sha256 of its file; None where none can be kept.

    Nothing says so to the user, as a start without it is only slower by tenths of a second.
    """
    processor = _processor()
    folder = cache_folder("graphs", missed=False) if processor else None
    if folder is None or processor is None:
        return None
    ort = onnxruntime()
    made_from = {
        "graph": graph_sha256,
        "onnxruntime": f"{ort.__version__} {ort.get_build_info() if hasattr(ort, 'get_build_info') else ''}",
        "processor": processor,
    }
    name = sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    return KeptGraph(folder=folder / name, made_from=made_from)


@cache
def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The kernel's lines about the first core; None if there are none, as on other systems than Linux."""
    if sys.platform != "linux":
        return None
    return " | ".join(value for name, value in first_core(cpuinfo).items() if name in _PROCESSOR) or None


def _delete_oldest(folder: Path, *, keep: Path) -> None:
    """Delete what killed processes left, and the graphs that were used longest ago if all take too much."""
    used: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            with contextlib.suppress(OSError):
                if entry.name.startswith("."):
                    if entry.stat().st_mtime < time.time() - _STALE_SECONDS:
                        shutil.rmtree(entry, ignore_errors=True)
                elif entry != keep:
                    used.append(((entry / _RECORD).stat().st_mtime, entry))
    left = MOST_BYTES - _bytes(keep)
    for _, entry in sorted(used, reverse=True):
        left -= _bytes(entry)
        if left < 0:
            shutil.rmtree(entry, ignore_errors=True)


def _bytes(folder: Path) -> int:
    size = 0
    for name in (_GRAPH, _WEIGHTS):
        with contextlib.suppress(OSError):
            size += (folder / name).stat().st_size
    return size
