"""Calls of one server by gRPC or HTTP, and what their failures mean."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from srflow_sdk._raising import require_extra
from srflow_sdk._system.interruptible import interruptible, is_cancelled
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    DeviceError,
    ImageError,
    NonFiniteError,
    OutOfMemoryError,
    RemoteError,
    SRFlowError,
)
from srflow_sdk.triton._address import Address

EXTRA = "triton"
DTYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}
"""Triton's names of the types of inputs."""

_SAID = {error.__name__: error for error in (ArgumentError, ImageError, NonFiniteError, OutOfMemoryError)}
_BUSY = ("StatusCode.UNAVAILABLE", "502", "503")  # 502: a proxy finds no server
_LATE = ("StatusCode.DEADLINE_EXCEEDED", "504")
_FACTS_S = 10.0  # what a server knows by heart takes it milliseconds, however busy its models are
_NO_CONNECTION = ("failed to connect to all addresses", "errors resolving")  # the reason is at the end
_UNREADABLE = "an exception occurred in the client while decoding"  # a page of a proxy's, for example
_UNKNOWN = ("StatusCode.NOT_FOUND", "404")


class NotThereError(Exception):
    """The server cannot be reached or says that it is unavailable: the same call may work later."""


class UnknownModelError(Exception):
    """The server has no such model."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request. inputs: by name. output: the one that is wanted."""

    model: str
    inputs: Mapping[str, NDArray[Any]]
    output: str


class Client(Protocol):
    """One server. Thread-safe.

    Raises: NotThereError, UnknownModelError, RemoteError, CancelledError, and what the server says as :func:`typed`.
    """

    def config(self, model: str) -> dict[str, Any]:
        """A model's config, as JSON values."""

    def models(self) -> list[str]:
        """Names of the models that the server can answer for."""

    def infer(self, call: Call) -> NDArray[Any] | None:
        """The output; None if the answer lacks it."""

    def close(self) -> None:
        """Close the connections."""


def open_client(address: Address, *, timeout: float, max_message_bytes: int) -> Client:
    """The client for an address. Nothing is sent yet. Raises: MissingExtraError."""
    make = _GrpcClient if address.protocol == "grpc" else _HttpClient
    return make(address, timeout=timeout, max_message_bytes=max_message_bytes)


class _GrpcClient:
    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self._triton: Any = require_extra("tritonclient.grpc", EXTRA)
        self._timeout = timeout
        # gRPC itself then refuses a message beyond the limit, in both directions. Its channels are thread-safe.
        limits = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._client = self._triton.InferenceServerClient(address.place, channel_args=limits)
        self._closed = False

    def config(self, model: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._asked("get_model_config", model, as_json=True)
        return dict(answer["config"])

    def models(self) -> list[str]:
        answer = self._asked("get_model_repository_index", as_json=True)
        return _ready(answer.get("models", []))

    def infer(self, call: Call) -> NDArray[Any] | None:
        answered = threading.Event()
        found: list[Any] = [None, None]

        def take(result: Any, error: Any) -> None:
            found[:] = result, error
            answered.set()

        inputs, outputs = _tensors(self._triton, call)
        try:
            pending = self._client.async_infer(call.model, inputs, take, outputs=outputs, client_timeout=self._timeout)
        except ValueError as error:
            raise _closed_meanwhile() from error
        interruptible(answered.wait, stop=pending.cancel)
        result, failure = found
        if failure is not None:
            raise self._meant(failure)
        output: NDArray[Any] | None = result.as_numpy(call.output)
        return output

    def close(self) -> None:
        self._closed = True
        self._client.close()

    def _asked(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        utils = require_extra("tritonclient.utils", EXTRA)
        seconds = min(self._timeout, _FACTS_S)
        try:
            return getattr(self._client, method)(*arguments, client_timeout=seconds, **keywords)
        except utils.InferenceServerException as error:
            if str(error.status()) in _LATE and not self._closed:
                raise _silent(seconds) from error
            raise self._meant(error) from error
        except ValueError as error:  # gRPC's word for a channel that another thread has closed
            raise _closed_meanwhile() from error

    def _meant(self, error: Any) -> Exception:
        if self._closed:
            return _closed_meanwhile()
        return typed(str(error.message()), str(error.status()), timeout=self._timeout)


class _HttpClient:
    """One connection for each call: those of tritonclient belong to the thread that made them."""

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self._triton: Any = require_extra("tritonclient.http", EXTRA)
        self._exception: Any = require_extra("tritonclient.utils", EXTRA).InferenceServerException
        self._address = address
        self._timeout = timeout

    def config(self, model: str) -> dict[str, Any]:
        config: dict[str, Any] = self._asked(lambda client: client.get_model_config(model))
        return config

    def models(self) -> list[str]:
        return _ready(self._asked(lambda client: client.get_model_repository_index()))

    def infer(self, call: Call) -> NDArray[Any] | None:
        inputs, outputs = _tensors(self._triton, call)
        result = self._asked(lambda client: client.infer(call.model, inputs, outputs=outputs), seconds=self._timeout)
        output: NDArray[Any] | None = result.as_numpy(call.output)
        return output

    def close(self) -> None:
        """Nothing is open between calls."""

    def _asked(self, ask: Callable[[Any], Any], *, seconds: float | None = None) -> Any:
        """What `ask` returns for a new client. seconds: that work may take; None: the server knows the answer."""
        connecting = min(self._timeout, _FACTS_S)
        begun = time.monotonic()
        client = self._triton.InferenceServerClient(
            self._address.place, connection_timeout=connecting, network_timeout=seconds or connecting
        )
        try:
            return ask(client)
        except self._exception as error:
            raise typed(str(error.message()), str(error.status()), timeout=self._timeout) from error
        except TimeoutError as error:
            if seconds is not None and time.monotonic() - begun >= 0.99 * seconds:
                raise _late(seconds) from error
            raise _silent(connecting) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotThereError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
        finally:
            client.close()


def typed(message: str, status: str, *, timeout: float) -> Exception:
    """What an error of the server's, or of the way there, means here."""
    if message.startswith(_UNREADABLE):
        message = f"HTTP status {status}"
    name, _, reason = message.partition(": ")
    if is_cancelled() or name == "CancelledError":
        return CancelledError("cancelled by the caller" if is_cancelled() else f"the server cancelled it: {reason}")
    if name in _SAID:
        error: SRFlowError = _SAID[name](f"the server says: {reason}")
        return error
    if status in _BUSY:
        connecting = message.startswith(_NO_CONNECTION)
        return NotThereError(message.rpartition(": ")[2].rstrip("]") if connecting else message)
    if status in _LATE:
        return _late(timeout)
    if status in _UNKNOWN:
        return UnknownModelError(message)
    return RemoteError(f"the server failed: {message}")


def _closed_meanwhile() -> DeviceError:
    return DeviceError("this Upscaler was closed while it was used: make another one")


def _silent(seconds: float) -> NotThereError:
    return NotThereError(f"no answer within {seconds:g} s")


def _late(timeout: float) -> RemoteError:
    return RemoteError(
        f"the server did not answer within {timeout:g} s; it may be busy, or the tile large: use a longer timeout, or "
        "smaller tiles"
    )


def _tensors(triton: Any, call: Call) -> tuple[list[Any], list[Any]]:
    inputs = []
    for name, value in call.inputs.items():
        tensor = triton.InferInput(name, list(value.shape), DTYPES[value.dtype.name])
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    return inputs, [triton.InferRequestedOutput(call.output)]


def _ready(index: list[dict[str, Any]]) -> list[str]:
    return sorted({entry["name"] for entry in index if entry.get("state") == "READY"})
