"""The processor, by the kernel, and the NVIDIA GPU that this process uses, by its driver; no context is created."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from pathlib import Path

from srflow_sdk.system.memory import cuda_driver

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU. compute_capability: such as "8.9". cuda: the newest CUDA that its driver supports, such as "13.0"."""

    name: str
    compute_capability: str
    cuda: str

    @property
    def in_file_names(self) -> str:
        """The name with hyphens in the place of what a file's name had better not have."""
        return "".join(character if character.isalnum() else "-" for character in self.name)


def find_gpu(device: int = 0) -> Gpu | None:
    """Find a GPU by its number among those that CUDA shows this process; None without a driver or such a GPU."""
    handle, major, minor, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    try:
        cuda = cuda_driver()
        failed = (
            cuda.cuInit(ctypes.c_uint(0))
            or cuda.cuDeviceGet(ctypes.byref(handle), ctypes.c_int(device))
            or cuda.cuDeviceGetName(name, ctypes.c_int(len(name)), handle)
            or cuda.cuDeviceGetAttribute(ctypes.byref(major), ctypes.c_int(_MAJOR), handle)
            or cuda.cuDeviceGetAttribute(ctypes.byref(minor), ctypes.c_int(_MINOR), handle)
            or cuda.cuDriverGetVersion(ctypes.byref(version))
        )
    except (OSError, AttributeError):  # no driver, or one without these functions
        return None
    if failed:
        return None
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def first_core(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The fields of the first core by name, in the kernel's order; empty where the system does not list them."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError), cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                break
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    return fields
