from __future__ import annotations

import os

import pytest

from srflow_sdk._serving.description import ServingOptions
from srflow_sdk._serving.triton_model import _for_instance
from srflow_sdk.errors import DeviceError


def placed(kind: str, number: int) -> dict[str, str]:
    return {"model_instance_kind": kind, "model_instance_device_id": str(number)}


def test_an_instance_on_the_cpu_draws_there_unless_a_device_is_named() -> None:
    assert _for_instance(ServingOptions(), placed("CPU", 0)).device == "cpu"
    assert _for_instance(ServingOptions(device="openvino"), placed("CPU", 0)).device == "openvino"


@pytest.mark.parametrize(("visible", "number", "own"), [("", 1, "1"), ("3,5", 1, "5"), ("GPU-1a", 0, "GPU-1a")])
def test_an_instance_on_a_gpu_sees_that_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, visible: str, number: int, own: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _for_instance(ServingOptions(), placed("GPU", number)).device == "auto"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own


def test_an_instance_on_a_gpu_that_is_not_visible_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(DeviceError, match="placed on GPU 1, but CUDA_VISIBLE_DEVICES is 3"):
        _for_instance(ServingOptions(), placed("GPU", 1))
