"""What Triton's python backend loads, with a module in the place of the backend's own: see
tests/tritonserver."""

from __future__ import annotations

import logging
import os
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srflow_apps.serving.service import PictureService
from srflow_apps.serving.triton_model import TritonPythonModel, _check_place, _for_instance
from srflow_export.triton import MODEL_PY
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.serving_config import ServingOptions

PICTURE = np.full((10, 12, 3), 100, np.uint8)
ANSWER_BYTES = 40 * 48 * 3


class Tensor:
    def __init__(self, name: str, value: np.ndarray) -> None:
        self._name = name
        self.value = value

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self.value


class TritonError:
    CANCELLED = "cancelled"
    INVALID_ARG = "invalid"
    INTERNAL = "internal"

    def __init__(self, message: str, code: str = "") -> None:
        self._message = message
        self.code = code

    def message(self) -> str:
        return self._message


class Response:
    def __init__(self, tensors: Any = (), error: TritonError | None = None) -> None:
        self.tensors = list(tensors)
        self._error = error

    def error(self) -> TritonError | None:
        return self._error


class Sender:
    """Takes one response, as Triton's does, whether it can be sent or not."""

    def __init__(self, room: int, *, cancelled: bool) -> None:
        self.sent: list[Response] = []
        self._room = room
        self._tried = False
        self._cancelled = cancelled

    def is_cancelled(self) -> bool:
        return self._cancelled

    def send(self, response: Response, *, flags: int) -> None:
        assert flags == 1
        if self._tried:
            raise RuntimeError("Non-decoupled model cannot send more than one response.")
        self._tried = True
        if sum(tensor.value.nbytes for tensor in response.tensors) > self._room:
            raise RuntimeError("Failed to increase the shared memory pool size")
        self.sent.append(response)


def backend(room: int, log: list[str]) -> Any:
    """The module. room: bytes of shared memory."""

    class Request:
        def __init__(
            self, *, model_name: str, requested_output_names: list[str], inputs: list[Tensor]
        ) -> None:
            self._model = model_name
            self._bytes = sum(tensor.value.nbytes for tensor in inputs)

        def exec(self) -> Response:
            fits = self._bytes <= room
            reason = (
                f"Model '{self._model}' is not ready."
                if fits
                else "Failed to increase the shared memory pool size"
            )
            return Response(error=TritonError(reason))

    return SimpleNamespace(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=Response,
        InferenceRequest=Request,
        Logger=SimpleNamespace(log_info=log.append),
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
    )


def placed(kind: str, number: int) -> dict[str, str]:
    return {"model_instance_kind": kind, "model_instance_device_id": str(number)}


def test_an_instance_on_the_cpu_draws_there_unless_a_device_is_named() -> None:
    assert _for_instance(ServingOptions(), placed("CPU", 0)).device == "cpu"
    assert _for_instance(ServingOptions(device="openvino"), placed("CPU", 0)).device == "openvino"


@pytest.mark.parametrize(
    ("visible", "number", "own"), [("", 1, "1"), ("3,5", 1, "5"), ("GPU-1a", 0, "GPU-1a")]
)
def test_an_instance_on_a_gpu_sees_that_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, visible: str, number: int, own: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _for_instance(ServingOptions(), placed("GPU", number)).device == "auto"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own


def test_the_configuration_names_no_gpu() -> None:
    with pytest.raises(DeviceError, match=r"device is cuda:1, but Triton chooses.*instance_group"):
        _for_instance(ServingOptions(device="cuda:1"), placed("GPU", 0))


def test_an_instance_on_a_gpu_does_not_draw_on_the_cpu_unless_that_is_named(
    service: PictureService,
) -> None:
    for device, kind in (("auto", "CPU"), ("cpu", "GPU")):
        _check_place(place_of(service, device), placed(kind, 0))
    with pytest.raises(
        DeviceError,
        match="placed on a GPU, but this server would compute on the CPU: srflow-doctor",
    ):
        _check_place(place_of(service, "auto"), placed("GPU", 0))


def place_of(service: PictureService, device: str) -> Any:
    return SimpleNamespace(
        options=ServingOptions(device=device), backend=service.backend, close=lambda: None
    )


def answered(
    service: Any,
    *,
    room: int = 1 << 30,
    sending: int = 1 << 30,
    cancelled: bool = False,
    **inputs: np.ndarray,
) -> tuple[list[Response], list[str]]:
    """What the model sends for one request, and what it logs. room: of shared memory, before and
    while it sends."""
    log: list[str] = []
    model = TritonPythonModel()
    model.__dict__.update(
        _triton=backend(room, log), _service=service, _room=threading.Semaphore(0)
    )
    sender = Sender(sending, cancelled=cancelled)
    model._answer(
        SimpleNamespace(inputs=lambda: [Tensor(*entry) for entry in inputs.items()]), sender
    )
    assert model._room.acquire(blocking=False)  # the next request has room
    return sender.sent, log


def error_of(sent: list[Response]) -> tuple[str, str]:
    (response,) = sent
    error = response.error()
    assert error is not None
    return error.code, error.message()


def test_an_answer_is_sent_once_with_its_tensors(service: PictureService) -> None:
    ((response,), _) = answered(service, room=ANSWER_BYTES, image=PICTURE)
    assert response.error() is None
    assert [(tensor.name(), tensor.value.shape) for tensor in response.tensors] == [
        ("upscaled", (1, 40, 48, 3))
    ]


def test_an_answer_that_does_not_fit_shared_memory_is_an_error_for_the_client_and_in_the_log(
    service: PictureService, caplog: pytest.LogCaptureFixture
) -> None:
    less = ANSWER_BYTES - 1
    sent, _ = answered(service, room=less, sending=less, image=PICTURE)
    code, message = error_of(sent)
    assert code == "internal"
    assert message.startswith(
        "OutOfMemoryError: the answer of 5,760 bytes does not fit the memory that the server"
    )
    assert "Failed to increase the shared memory pool size" in caplog.text


def test_an_answer_that_cannot_be_sent_is_in_the_log(
    service: PictureService, caplog: pytest.LogCaptureFixture
) -> None:
    assert answered(service, sending=0, image=PICTURE)[0] == []
    assert caplog.records[0].levelno == logging.ERROR
    assert (
        "an answer cannot be sent, and its client waits for its own deadline: Failed to"
        in caplog.text
    )


def test_errors_reach_the_client_with_their_code(
    service: PictureService, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    def full(*_: object, **__: object) -> None:
        raise MemoryError("64 GB")

    code, message = error_of(answered(service, image=PICTURE, tau=np.array([9], np.float32))[0])
    assert (code, message.split(";")[0]) == ("invalid", "ArgumentError: tau: it is 9")
    sent, log = answered(service, cancelled=True, image=PICTURE)
    assert error_of(sent)[0] == "cancelled"
    assert log == ["srflow_upscale: the client cancelled the request; its work ended"]
    assert error_of(answered(SimpleNamespace(answer=full))[0]) == (
        "internal",
        "OutOfMemoryError: memory ran out for the answer (64 GB)",
    )
    assert "nobody" not in caplog.text
    assert error_of(answered(SimpleNamespace(answer=broken))[0])[1] == (
        "the server failed: ZeroDivisionError: nobody thought of this"
    )
    assert "ZeroDivisionError: nobody thought of this" in caplog.text


def test_a_repositorys_model_py_finds_the_model() -> None:
    names: dict[str, object] = {}
    exec(compile(MODEL_PY, "model.py", "exec"), names)
    assert names["TritonPythonModel"] is TritonPythonModel
