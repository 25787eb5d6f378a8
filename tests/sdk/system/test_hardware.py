"""Free memory and GPUs: control groups as files of real machines, and a driver that is not there, made up or ill."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from srflow_sdk.system import hardware
from srflow_sdk.system.hardware import Gpu, find_gpu

MIB = 1 << 20
MACHINE = 900 * MIB  # what psutil is made to find
NO_LIMIT_V1 = "9223372036854771712"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root folder of a machine without control groups."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=MACHINE))
    return tmp_path


def write(root: Path, **files: str | int) -> None:
    """Files by path, in which a double underscore stands for a slash."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def write_group(root: Path, group: str, **files: str | int) -> None:
    write(root / "sys/fs/cgroup" / group, **{f"memory.{name}": content for name, content in files.items()})


def test_without_control_groups_it_is_what_the_machine_has(root: Path) -> None:
    assert hardware.available_memory(root) == MACHINE


def test_a_containers_limit_counts_less_what_it_uses_and_cannot_drop(root: Path) -> None:
    write(root, proc__self__cgroup="0::/")
    write_group(root, "", max=500 * MIB, current=300 * MIB, stat=f"anon 1\ninactive_file {50 * MIB}\nactive_file 7")
    assert hardware.available_memory(root) == 250 * MIB


def test_the_tightest_group_on_the_way_up_decides(root: Path) -> None:
    write(root, proc__self__cgroup="0::/user.slice/app.scope")
    write_group(root, "user.slice/app.scope", max="max", current=100 * MIB)
    write_group(root, "user.slice", max=200 * MIB, high="max", current=120 * MIB)
    write_group(root, "other.slice", max=1, current=0)
    assert hardware.available_memory(root) == 80 * MIB


def test_the_limit_at_which_the_kernel_throttles_counts_too(root: Path) -> None:
    write(root, proc__self__cgroup="0::/app")
    write_group(root, "app", max=500 * MIB, high=400 * MIB, current=100 * MIB)
    assert hardware.available_memory(root) == 300 * MIB


@pytest.mark.parametrize("controllers", ["memory", "cpu,memory"])
def test_version_1_groups_count_by_their_own_names(root: Path, controllers: str) -> None:
    write(root, proc__self__cgroup=f"9:name=systemd:/\n4:{controllers}:/job/7\n3:cpuset:/tight\n0::/")
    stat = f"inactive_file 0\ntotal_inactive_file {10 * MIB}"
    write_group(root, "memory", limit_in_bytes=NO_LIMIT_V1, usage_in_bytes=800 * MIB)
    write_group(root, "memory/job", limit_in_bytes=300 * MIB, usage_in_bytes=100 * MIB, stat=stat)
    write_group(root, "memory/job/7", limit_in_bytes=NO_LIMIT_V1, usage_in_bytes=100 * MIB)
    write_group(root, "memory/tight", limit_in_bytes=1, usage_in_bytes=0)
    assert hardware.available_memory(root) == 210 * MIB


@pytest.mark.parametrize("path", ["/docker/0123abcd", "/../../elsewhere"])
def test_in_a_container_whose_path_is_the_hosts_the_mount_itself_decides(root: Path, path: str) -> None:
    write(root, proc__self__cgroup=f"4:memory:{path}\n0::{path}")
    write_group(root, "memory", limit_in_bytes=64 * MIB, usage_in_bytes=4 * MIB)
    write_group(root, "unified", max=70 * MIB, current=5 * MIB)
    assert hardware.available_memory(root) == 60 * MIB


def test_a_group_over_its_limit_leaves_nothing_rather_than_less(root: Path) -> None:
    write(root, proc__self__cgroup="0::/")
    write_group(root, "", max=100 * MIB, current=101 * MIB)
    assert hardware.available_memory(root) == 0


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
def test_what_cannot_be_read_limits_nothing(root: Path, files: dict[str, str | int]) -> None:
    write(root, proc__self__cgroup="0::/\nnonsense\n\n0::/" + "\N{SNOWMAN}")
    write_group(root, "", **files)
    assert hardware.available_memory(root) == MACHINE


def test_this_machine_has_some() -> None:
    assert 0 < hardware.available_memory() <= psutil.virtual_memory().total


def test_a_machine_without_driver_has_no_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> ctypes.CDLL:
        return ctypes.CDLL("no_such_library.so.1")

    monkeypatch.setattr(hardware, "cuda_driver", absent)
    assert hardware.gpu_free_memory() is None


def test_a_driver_too_old_for_the_question_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cuda_driver", lambda: SimpleNamespace(cuInit=lambda _flags: 0))
    assert hardware.gpu_free_memory() is None


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        pytest.skip("gcc makes the driver of this test")
    target = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("fake_cuda_driver.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source], check=True)
    return target


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    cuda = ctypes.CDLL(str(library))
    monkeypatch.setattr(hardware, "cuda_driver", lambda: cuda)
    (ctypes.c_char * 1000).in_dll(cuda, "calls").value = b""
    (ctypes.c_char * 40).in_dll(cuda, "failing").value = b""
    return cuda


def calls(cuda: ctypes.CDLL) -> list[str]:
    return (ctypes.c_char * 1000).in_dll(cuda, "calls").value.decode().split()


ALL_CALLS = ["init(0)", "get(1)", "retain(41)", "push(1)", "memory(0)", "pop(0)", "release(41)"]


def test_the_driver_is_asked_in_the_devices_own_context_which_is_given_back(driver: ctypes.CDLL) -> None:
    assert hardware.gpu_free_memory(1) == 5 << 32
    assert calls(driver) == ALL_CALLS


@pytest.mark.parametrize(
    ("failing", "called"),
    [
        ("init", ALL_CALLS[:1]),
        ("get", ALL_CALLS[:2]),
        ("retain", ALL_CALLS[:3]),
        ("push", [*ALL_CALLS[:4], "release(41)"]),
        ("memory", ALL_CALLS),
        ("pop", ALL_CALLS),
        ("release", ALL_CALLS),
    ],
)
def test_a_failure_of_the_driver_gives_no_figure_and_leaves_no_context(
    driver: ctypes.CDLL, failing: str, called: list[str]
) -> None:
    (ctypes.c_char * 40).in_dll(driver, "failing").value = failing.encode()
    assert hardware.gpu_free_memory(1) is None
    assert calls(driver) == called


FREED = """
import re
from pathlib import Path

import numpy as np

from srflow_sdk.system.hardware import return_freed_memory

def resident():
    return int(re.search(r"VmRSS:\\s*(\\d+)", Path("/proc/self/status").read_text()).group(1)) << 10

kept = [np.ones(100_000, np.uint8) for _ in range(1000)]
del kept[:-1]
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory so")
def test_freed_memory_is_returned() -> None:
    """A block at the heap's end, in use, keeps all below it from the system otherwise."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 80_000_000


def fake_driver(*, failing=""):
    """Functions that write through their pointers, as the driver's do."""

    def function(name, work):
        def call(*arguments):
            work(*arguments)
            return 100 if name == failing else 0

        return call

    def store(pointer, value):
        pointer._obj.value = value

    def attribute(pointer, number, device):
        assert device.value == 41
        store(pointer, {75: 12, 76: 1}[number.value])

    def device_name(buffer, size, device):
        assert (size.value, device.value) == (len(buffer), 41)
        buffer.value = b"NVIDIA GeForce RTX 5090"

    return SimpleNamespace(
        **{
            name: function(name, work)
            for name, work in {
                "cuInit": lambda flags: None,
                "cuDeviceGet": lambda device, number: store(device, number.value + 40),
                "cuDeviceGetName": device_name,
                "cuDeviceGetAttribute": attribute,
                "cuDriverGetVersion": lambda version: store(version, 13020),
            }.items()
        }
    )


def test_name_capability_and_cuda_are_told(monkeypatch):
    monkeypatch.setattr(hardware, "cuda_driver", fake_driver)
    assert find_gpu(1) == Gpu(name="NVIDIA GeForce RTX 5090", compute_capability="12.1", cuda="13.2")


@pytest.mark.parametrize("failing", sorted(vars(fake_driver())))
def test_whatever_fails_there_is_no_gpu(monkeypatch, failing):
    monkeypatch.setattr(hardware, "cuda_driver", lambda: fake_driver(failing=failing))
    assert find_gpu(1) is None


def test_without_a_driver_or_its_functions_there_is_no_gpu(monkeypatch):
    def absent():
        raise OSError("no libcuda")

    monkeypatch.setattr(hardware, "cuda_driver", absent)
    assert find_gpu() is None
    monkeypatch.setattr(hardware, "cuda_driver", lambda: ctypes.CDLL(None))
    assert find_gpu() is None
