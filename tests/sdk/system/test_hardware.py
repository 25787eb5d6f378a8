"""The GPU as its driver describes it, or none."""

import ctypes
from types import SimpleNamespace

import pytest

from srflow_sdk.system import hardware
from srflow_sdk.system.hardware import Gpu, find_gpu


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
