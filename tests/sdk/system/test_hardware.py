"""Free memory and GPUs: control groups as files of real machines, and a driver that is not there,
made up or ill."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import psutil
import pytest

from srflow_sdk.system import hardware
from srflow_sdk.system.hardware import Gpu, find_gpu

MIB = 1 << 20
MACHINE = 900 * MIB  # what psutil is made to find


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The root folder of a machine without control groups."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=MACHINE))
    return tmp_path


def write(root, **files):
    """Files by path, in which a double underscore stands for a slash."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")


def write_group(root, group, **files):
    write(
        root / "sys/fs/cgroup" / group,
        **{f"memory.{name}": content for name, content in files.items()},
    )


def test_a_containers_limit_counts_less_what_it_uses_and_cannot_drop(root):
    assert hardware.available_memory(root) == MACHINE
    write(root, proc__self__cgroup="0::/")
    write_group(
        root,
        "",
        max=500 * MIB,
        current=300 * MIB,
        stat=f"anon 1\ninactive_file {50 * MIB}\nactive_file 7",
    )
    assert hardware.available_memory(root) == 250 * MIB


def test_the_tightest_group_on_the_way_up_decides(root):
    write(root, proc__self__cgroup="0::/user.slice/app.scope")
    write_group(root, "user.slice/app.scope", max="max", current=100 * MIB)
    write_group(root, "user.slice", max=200 * MIB, high="max", current=120 * MIB)
    write_group(root, "other.slice", max=1, current=0)
    assert hardware.available_memory(root) == 80 * MIB
    write_group(root, "user.slice", high=170 * MIB)  # where the kernel throttles
    assert hardware.available_memory(root) == 50 * MIB
    write_group(root, "user.slice", current=201 * MIB)
    assert hardware.available_memory(root) == 0, "rather than less"


@pytest.mark.parametrize("path", ["/docker/0123abcd", "/../../elsewhere"])
def test_in_a_container_whose_path_is_the_hosts_the_mount_itself_decides(root, path):
    write(root, proc__self__cgroup=f"4:memory:{path}\n0::{path}")
    write_group(root, "memory", limit_in_bytes=64 * MIB, usage_in_bytes=4 * MIB)
    write_group(root, "unified", max=70 * MIB, current=5 * MIB)
    assert hardware.available_memory(root) == 60 * MIB


@pytest.mark.parametrize(
    "files",
    [
        {"max": ""},
        {"max": "-5"},
        {"max": "a lot", "current": 5},
        {"current": 5 * MIB},
        {"max": 2 * MACHINE, "current": "?", "stat": "inactive_file"},
    ],
)
def test_what_cannot_be_read_limits_nothing(root, files):
    write(root, proc__self__cgroup="0::/\nnonsense\n\n0::/" + "\N{SNOWMAN}")
    write_group(root, "", **files)
    assert hardware.available_memory(root) == MACHINE


class FakeDriver:
    """NVIDIA's driver: functions that write through their pointers, as its do. failing: the one
    that fails."""

    def __init__(self, failing=""):
        self.calls: list[str] = []
        self._failing = failing

    def __getattr__(self, name):
        def function(*arguments):
            self.calls.append(name)
            pointer, *rest = arguments
            if name == "cuDeviceGetName":
                pointer.value = b"NVIDIA GeForce RTX 5090"
            elif name in self.answers:
                pointer._obj.value = self.answers[name](
                    *(one.value for one in rest if hasattr(one, "value"))
                )
            return 100 if name == self._failing else 0

        return function

    answers: ClassVar[dict[str, Callable[..., int]]] = {
        "cuDeviceGet": lambda number: number + 40,
        "cuDeviceGetAttribute": lambda number, device: (
            {75: 12, 76: 1}[number] if device == 41 else 0
        ),
        "cuDriverGetVersion": lambda: 13020,
        "cuDevicePrimaryCtxRetain": lambda device: device,
        "cuMemGetInfo_v2": lambda: 5 << 32,
    }


IDENTITY = [
    "cuInit",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceGetAttribute",
    "cuDriverGetVersion",
]
CONTEXT = [
    "cuDevicePrimaryCtxRetain",
    "cuCtxPushCurrent_v2",
    "cuMemGetInfo_v2",
    "cuCtxPopCurrent_v2",
]
MEMORY = [*IDENTITY[:2], *CONTEXT, "cuDevicePrimaryCtxRelease_v2"]


def test_the_driver_tells_a_gpu_and_its_free_memory_in_a_context_that_is_given_back(monkeypatch):
    driver = FakeDriver()
    monkeypatch.setattr(hardware, "cuda_driver", lambda: driver)
    assert find_gpu(1) == Gpu(
        name="NVIDIA GeForce RTX 5090", compute_capability="12.1", cuda="13.2"
    )
    assert driver.calls == IDENTITY
    driver.calls.clear()
    assert hardware.gpu_free_memory(1) == 5 << 32
    assert driver.calls == MEMORY


@pytest.mark.parametrize("failing", [*IDENTITY[2:4], *MEMORY])
def test_whatever_fails_there_is_no_figure_and_no_context_left(monkeypatch, failing):
    driver = FakeDriver(failing)
    monkeypatch.setattr(hardware, "cuda_driver", lambda: driver)
    assert (find_gpu(1) is None) == (failing in IDENTITY)
    driver.calls.clear()
    assert (hardware.gpu_free_memory(1) is None) == (failing in MEMORY)
    retained, pushed = (name in driver.calls and name != failing for name in CONTEXT[:2])
    assert (CONTEXT[3] in driver.calls, MEMORY[-1] in driver.calls) == (pushed, retained)


@pytest.mark.parametrize(
    "library", ["no_such_library.so.1", "kernel32" if os.name == "nt" else None]
)
def test_without_a_driver_or_its_functions_there_is_no_gpu(monkeypatch, library):
    monkeypatch.setattr(hardware, "cuda_driver", lambda: ctypes.CDLL(library))
    assert (find_gpu(), hardware.gpu_free_memory()) == (None, None)


def test_processors_with_other_instructions_have_places_of_their_own(tmp_path):
    told = tmp_path / "cpuinfo"
    found = set()
    for flags in ("avx2", "avx2 avx512f"):
        told.write_text(
            f"processor : 0\nmodel name : X\nflags : {flags}\ncpu MHz : 1\n\nprocessor : 1\nflags "
            ": none\n"
        )
        found.add(hardware.processor.__wrapped__(told))
    assert found == {"X | avx2", "X | avx2 avx512f"}
    told.write_text("")
    assert hardware.processor.__wrapped__(told) is None
