"""The machine: how its devices are named, its memory, processor, packages, and NVIDIA's GPUs.

Imports nothing heavy, because the commands' help lists the devices.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast, get_args

from srflow_sdk.errors import ArgumentError, MissingExtraError
from srflow_sdk.plain_text import short

# what ONNX Runtime's plug-in providers run, in the order of "auto"
PluginDevice = Literal["rtx", "webgpu"]
DeviceName = Literal["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]

Device: TypeAlias = DeviceName | str
"""A :data:`DeviceName`, or one of :data:`NUMBERED` with the number of a GPU, such as "cuda:1"."""

# a machine may have several; without a number it is the first, 0
NUMBERED = ("cuda", "tensorrt", "rtx")

ComputePrecision = Literal["bundle", "bf16", "int8"]
"""The encoder's arithmetic: as the bundle was exported, bfloat16 or int8."""

Precision = Literal["bundle", "bf16", "int8", "fastest"]
"""Values of `precision=` and `--precision`: "fastest" becomes one of the others, by a measurement
on this machine."""

# musl has none
_TRIM: Any = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
CAN_RETURN_MEMORY = _TRIM is not None

# A control group's files with its limits and its usage, and the statistic of what the kernel can
# drop.
_VERSION_1 = (["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = (["memory.max", "memory.high"], "memory.current", "inactive_file")
_RENDERERS = Path("/dev/dri"), "renderD*"  # the device files of GPUs, on Linux
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_MAJOR = 75
_MINOR = 76
_PROCESSOR = {  # lines of /proc/cpuinfo that say which kernels are used, on x86 and on ARM
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "flags",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "Features",
}


def split_device(device: object) -> tuple[DeviceName, int]:
    """The name and the GPU's number of a :data:`Device`: ("cuda", 1) for "cuda:1".

    Raises: ArgumentError.
    """
    name, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if name in get_args(DeviceName) and (
        not colon or (name in NUMBERED and re.fullmatch("0|[1-9][0-9]{0,2}", number))
    ):
        return cast(DeviceName, name), int(number or 0)
    raise ArgumentError(
        f"device is {short(device)}; it must be one of {', '.join(get_args(DeviceName))}, where "
        f"{', '.join(NUMBERED)} may have the number of a GPU, such as cuda:1"
    )


def is_installed(module: str) -> bool:
    """True if a module is there. Nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module without a spec, put there by other code
        return False


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an extra installs. Raises: MissingExtraError, with the pip command."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name or module} is not installed, but it is needed here: pip install "
            f'"srflow-sdk[{extra}]"'
        ) from error


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take, also by its control groups."""
    # Many names, as control groups of both versions are read at every depth.
    import psutil  # here, because the doctor's probe of the driver needs this module but not psutil

    left = [int(psutil.virtual_memory().available)]
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:  # no Linux
        groups = []
    for line in groups:
        controllers, _, path = line.partition(":")[2].partition(":")
        # Outside its own namespace, a group's path begins with "..": what is left of it cannot be
        # seen from here.
        names = [name for name in path.split("/") if name not in ("", ".", "..")]
        if not controllers:
            group = root / "sys/fs/cgroup"
            limits, used, droppable = _VERSION_2
        elif "memory" in controllers.split(","):
            group = root / "sys/fs/cgroup/memory"
            limits, used, droppable = _VERSION_1
        else:
            continue
        # In a container without a namespace, the path is the host's and the container's own group
        # is at the mount.
        for name in (".", *names):
            group /= name
            dropped = _number(group / "memory.stat", rf"^{droppable} (\d+)$") or 0
            in_use = max((_number(group / used) or 0) - dropped, 0)
            found = [_number(group / limit) for limit in limits]
            left += [limit - in_use for limit in found if limit is not None]
    return max(min(left), 0)


def return_freed_memory() -> None:
    """Return freed memory to the system: glibc keeps blocks of up to 32 MB."""
    if _TRIM is not None:
        _TRIM(ctypes.c_size_t(0))


@cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The kernel's lines about the first core.

    None if there are none, as on other systems than Linux.
    """
    with contextlib.suppress(OSError):
        lines = cpuinfo.read_text("utf-8", "replace").partition("\n\n")[0].splitlines()
        fields = (line.partition(":") for line in lines)
        return (
            " | ".join(value.strip() for name, _, value in fields if name.strip() in _PROCESSOR)
            or None
        )
    return None


def has_renderer() -> bool:
    """True if there may be a GPU: on Linux, if one has a device file."""
    folder, names = _RENDERERS
    return sys.platform != "linux" or any(folder.glob(names))


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    compute_capability: such as "8.9". cuda: the newest CUDA that its driver supports, such as
    "13.0".
    """

    name: str
    compute_capability: str
    cuda: str


def find_gpu(device: int = 0) -> Gpu | None:
    """A GPU by its number among those that CUDA shows.

    None without a driver or such a GPU. No context is created.
    """
    handle, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    try:
        cuda = cuda_driver()
        _call(cuda.cuInit, ctypes.c_uint(0))
        _call(cuda.cuDeviceGet, ctypes.byref(handle), ctypes.c_int(device))
        _call(cuda.cuDeviceGetName, name, ctypes.c_int(len(name)), handle)
        _call(cuda.cuDeviceGetAttribute, ctypes.byref(major), ctypes.c_int(_MAJOR), handle)
        _call(cuda.cuDeviceGetAttribute, ctypes.byref(minor), ctypes.c_int(_MINOR), handle)
        _call(cuda.cuDriverGetVersion, ctypes.byref(version))
    except (OSError, AttributeError):  # no driver, one without these functions, or no GPU
        return None
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def cuda_of_wheels(driver: str) -> int:
    """The CUDA, 12 or 13, whose wheels a driver and this Python run.

    driver: the newest that it supports, as "13.0".
    """
    return 13 if int(driver.partition(".")[0]) >= 13 and sys.version_info >= (3, 11) else 12


def gpu_free_memory(device: int = 0) -> int | None:
    """Bytes of free memory on a GPU according to its driver, by its primary context.

    None without a driver or GPU.
    """
    handle = ctypes.c_int()
    free = ctypes.c_size_t()
    total = ctypes.c_size_t()
    context = ctypes.c_void_p()
    try:
        cuda = cuda_driver()
        # Looked up first: without a way to release it, the context must not be retained.
        release = cuda.cuDevicePrimaryCtxRelease_v2
        pop = cuda.cuCtxPopCurrent_v2
        _call(cuda.cuInit, ctypes.c_uint(0))
        _call(cuda.cuDeviceGet, ctypes.byref(handle), ctypes.c_int(device))
        # the context that the CUDA runtime and so ONNX Runtime use
        with contextlib.ExitStack() as stack:
            _call(cuda.cuDevicePrimaryCtxRetain, ctypes.byref(context), handle)
            stack.callback(_call, release, handle)
            _call(cuda.cuCtxPushCurrent_v2, context)
            stack.callback(_call, pop, ctypes.byref(ctypes.c_void_p()))
            _call(cuda.cuMemGetInfo_v2, ctypes.byref(free), ctypes.byref(total))
    except (OSError, AttributeError):
        # no driver, one without these functions, no GPU, or a broken one
        return None
    return free.value


def cuda_driver() -> ctypes.CDLL:
    """NVIDIA's driver library. Raises: OSError if it is not installed."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _call(function: Any, *arguments: Any) -> None:
    """Raises: OSError if a function of the driver reports a failure."""
    if status := function(*arguments):
        raise OSError(f"the CUDA driver returned {status}")


def _number(path: Path, pattern: str = r"^(\d+)$") -> int | None:
    """The number that a line of a file has; None if there is none, such as "max"."""
    try:
        match = re.search(pattern, path.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None
