"""Graphs as ONNX Runtime rewrote them for this processor, kept in the user's cache. Linux only.

Whenever ONNX Runtime loads a graph, it optimises it and makes copies of the weights in the layouts of the processor's
kernels. What it made is kept in a folder of its own: the graph, and its weights. The next process loads that instead,
several times as fast, and computes the same bits. ONNX Runtime maps the weights into memory instead of reading them, so
that all processes of this user share them.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from srflow_sdk.backends import _kept_folders
from srflow_sdk.backends._ort_providers import onnxruntime
from srflow_sdk.system.cache_folder import cache_folder
from srflow_sdk.system.hardware import first_core

_GRAPH, _WEIGHTS = "graph.onnx", "weights.bin"
_PROCESSOR = {  # lines of /proc/cpuinfo that say which kernels are used, on x86 and on ARM
    *("vendor_id", "cpu family", "model", "model name", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
}


def kept_graph(graph_sha256: str) -> Path | None:
    """The folder of a graph for this processor and this ONNX Runtime, there yet or not; None where none can be kept.

    graph_sha256: of its file in the bundle, and of those that hold its weights.

    Nothing says so to the user, as a start without it is only slower by tenths of a second.
    """
    folder = cache_folder("graphs", missed=False) if processor() else None
    if folder is None:
        return None
    ort = onnxruntime()
    made_from = {
        "graph": graph_sha256,
        "onnxruntime": f"{ort.__version__} {ort.get_build_info() if hasattr(ort, 'get_build_info') else ''}",
        "processor": processor(),
    }
    name = sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    return folder / name


@cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The kernel's lines about the first core; None if there are none, as on other systems than Linux."""
    if sys.platform != "linux":
        return None
    return " | ".join(value for name, value in first_core(cpuinfo).items() if name in _PROCESSOR) or None


def load_options(folder: Path, options: Any) -> Path | None:
    """Change a session's options to load the kept graph, and return its path; None if it is not there, or damaged."""
    if not _kept_folders.is_whole(folder):
        return None
    options.graph_optimization_level = onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
    return folder / _GRAPH


@contextlib.contextmanager
def saved_by(folder: Path, options: Any) -> Iterator[None]:
    """Change a session's options so that creating it in this block saves its graph, which then appears here whole.

    Raises: OSError if no folder can be made for it, and whatever the block raises; then nothing is left behind.
    """
    with _kept_folders.written(folder) as part:
        options.optimized_model_filepath = str(part / _GRAPH)
        prefix = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{prefix}_file_name", _WEIGHTS)
        options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
        yield
