"""What triton_python_backend_utils does with responses, for tests without a server: see tests/tritonserver for one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


class Tensor:
    def __init__(self, name: str, value: np.ndarray) -> None:
        self._name, self.value = name, value

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self.value


class TritonError:
    CANCELLED, INVALID_ARG, INTERNAL = "cancelled", "invalid", "internal"

    def __init__(self, message: str, code: str = "") -> None:
        self._message, self.code = message, code

    def message(self) -> str:
        return self._message


class Response:
    def __init__(self, tensors: Any = (), error: TritonError | None = None) -> None:
        self.tensors, self._error = list(tensors), error

    def error(self) -> TritonError | None:
        return self._error

    def has_error(self) -> bool:
        return self._error is not None

    def output_tensors(self) -> list[Tensor]:
        return self.tensors


class Sender:
    """Takes one response, as Triton's does, whether it can be sent or not."""

    def __init__(self, room: int, *, cancelled: bool) -> None:
        self.sent: list[Response] = []
        self._room, self._tried, self._cancelled = room, False, cancelled

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
        def __init__(self, *, model_name: str, requested_output_names: list[str], inputs: list[Tensor]) -> None:
            self._model, self._bytes = model_name, sum(tensor.value.nbytes for tensor in inputs)

        def exec(self) -> Response:
            fits = self._bytes <= room
            reason = (
                f"Model '{self._model}' is not ready." if fits else "Failed to increase the shared memory pool size"
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
