"""How much memory is free: main memory of this machine or its container, and a GPU's own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from srflow_sdk.errors import DeviceError

_NO_LIMIT = sys.maxsize
_TRIM: Any = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # musl has none

# A control group's files with its limits and its usage, and the statistic of what the kernel can drop.
_VERSION_1 = ["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file"
_VERSION_2 = ["memory.max", "memory.high"], "memory.current", "inactive_file"

# Where less is left, upscaling a file works sometimes, and sometimes a library ends the process: measured with the
# embedded model, for 1 and 2 threads. Most of it is only reserved, for the stacks and heaps of threads.
_ADDRESS_SPACE, _ADDRESS_SPACE_PER_THREAD = 750_000_000, 200_000_000
# Restoring 900×900 pixels with 2 threads: 1.4 GB were too little, 1.5 GB enough.
_ADDRESS_SPACE_TO_RESTORE = 1_100_000_000


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take without swapping or being killed, at least 0.

    The minimum of what the machine has left, what each control group around the process leaves (containers, systemd,
    batch systems; versions 1 and 2) and what RLIMIT_AS leaves. Page cache that the kernel can drop counts as free. This
    is a snapshot: other processes may take the memory. root: where /proc/self/cgroup and /sys/fs/cgroup lie.
    """
    import psutil  # here, because the doctor's probe of the driver needs this module but not psutil

    free = min(psutil.virtual_memory().available, _left_by_address_space(), _left_by_control_groups(root))
    return max(free, 0)


def check_address_space(needed: int, what: str) -> None:
    """Refuse to begin where RLIMIT_AS (ulimit -v) leaves fewer than `needed` bytes of address space.

    Native libraries that find none in the middle of their work end the process: with a signal, not an error.
    what: what needs it, for the message. Raises: DeviceError.
    """
    left = _left_by_address_space()
    if left < needed:
        raise DeviceError(
            f"{what} needs {needed / 1e9:.2f} GB of address space, but the limit on this process leaves "
            f"{max(left, 0) / 1e9:.2f} GB: raise it (ulimit -v unlimited)"
        )


def check_room(threads: int | None, *, restoring: bool = False) -> None:
    """Raises: DeviceError unless there is address space to upscale files, or to restore them, with so many threads."""
    count = min(threads or sys.maxsize, os.cpu_count() or 1)
    what = f"this command with {count} {'thread' if count == 1 else 'threads'}"
    fixed = _ADDRESS_SPACE_TO_RESTORE if restoring else _ADDRESS_SPACE
    check_address_space(fixed + count * _ADDRESS_SPACE_PER_THREAD, what)


def return_freed_memory() -> None:
    """Return what this process has freed to the system; milliseconds. On systems without glibc nothing happens.

    glibc keeps freed blocks of up to 32 MB for later ones, and hardly reuses them where sizes vary.
    """
    if _TRIM is not None:
        _TRIM(ctypes.c_size_t(0))


def can_return_freed_memory() -> bool:
    """True if :func:`return_freed_memory` does something here."""
    return _TRIM is not None


def gpu_free_memory(device: int = 0) -> int | None:
    """Bytes of free memory on a GPU according to its driver (cuMemGetInfo); None without a driver or GPU.

    device: its number among those that CUDA shows this process. Memory that a library of this process keeps in its own
    pool does not count as free. If the process does not use the GPU yet, CUDA's primary context is created for this and
    released again.
    """
    try:
        cuda, handle, free, total = cuda_driver(), ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
        _check(cuda.cuInit(ctypes.c_uint(0)))
        _check(cuda.cuDeviceGet(ctypes.byref(handle), ctypes.c_int(device)))
        with _current_context(cuda, handle):
            _check(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
    except (OSError, AttributeError, _DriverError):  # no driver, one without these functions, no GPU, or a broken one
        return None
    return free.value


def cuda_driver() -> ctypes.CDLL:
    """NVIDIA's driver library. Raises: OSError if it is not installed."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


class _DriverError(Exception):
    """A function of the driver reported a failure."""


@contextlib.contextmanager
def _current_context(cuda: ctypes.CDLL, device: ctypes.c_int) -> Iterator[None]:
    """Push the device's primary context, which the CUDA runtime and so ONNX Runtime use, onto this thread's stack."""
    # Looked up first: without a way to release it, the context must not be retained.
    release, pop = cuda.cuDevicePrimaryCtxRelease_v2, cuda.cuCtxPopCurrent_v2
    context = ctypes.c_void_p()
    _check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _check(cuda.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            _check(pop(ctypes.byref(ctypes.c_void_p())))
    finally:
        _check(release(device))


def _check(status: int) -> None:
    if status:
        raise _DriverError(f"the CUDA driver returned {status}")


def _left_by_address_space() -> int:
    """Bytes that RLIMIT_AS (ulimit -v) leaves."""
    try:
        import resource  # not on Windows
    except ImportError:
        return _NO_LIMIT
    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _NO_LIMIT if limit == resource.RLIM_INFINITY else limit - int(psutil.Process().memory_info().vms)


def _left_by_control_groups(root: Path) -> int:
    """Bytes that the tightest group on the path from this process's own to the root leaves."""
    left = [_NO_LIMIT]
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # Outside its own namespace, a group's path begins with "..": what is left of it cannot be seen from here.
        names = [name for name in path.split("/") if name not in ("", ".", "..")]
        if not controllers:
            mounts, files = ["sys/fs/cgroup", "sys/fs/cgroup/unified"], _VERSION_2
        elif "memory" in controllers.split(","):
            mounts, files = ["sys/fs/cgroup/memory"], _VERSION_1
        else:
            continue
        # In a container without a namespace, the path is the host's and the container's own group is at the mount.
        groups = [root.joinpath(mount, *names[:depth]) for mount in mounts for depth in range(len(names) + 1)]
        left += [_left(group, *files) for group in groups]
    return min(left)


def _left(group: Path, limits: Sequence[str], used: str, droppable: str) -> int:
    """Bytes that a group's limits, if there are any, leave; one whose usage is unknown counts as empty."""
    least = min((limit for name in limits if (limit := _number(group / name)) is not None), default=_NO_LIMIT)
    return least - max((_number(group / used) or 0) - _statistic(group, droppable), 0)


def _statistic(group: Path, name: str) -> int:
    """A value in memory.stat, 0 if it is not there."""
    for line in _lines(group / "memory.stat"):
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or it says "max"."""
    text = "".join(_lines(path))
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
