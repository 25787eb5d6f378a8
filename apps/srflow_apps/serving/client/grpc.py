"""Triton's gRPC protocol, with tritonclient's messages. gRPC itself holds the deadlines and the limit on messages."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.address import Address
from srflow_apps.serving.client.answers import DTYPES, MalformedError, Output, tensor_of
from srflow_apps.serving.client.protocols import FACTS_S, Call, cancelled_here, closed_meanwhile, late, silent, typed
from srflow_sdk.system.interruptible import abandonable
from srflow_sdk.system.raising import require_extra

EXTRA = "triton"

_LATE = "StatusCode.DEADLINE_EXCEEDED"
_MARGIN_S = 1.0  # beyond gRPC's own deadline


class GrpcClient:
    """A :class:`~srflow_apps.serving.client.protocols.Client`. Raises: MissingExtraError."""

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self._messages: Any = require_extra("tritonclient.grpc", EXTRA).service_pb2
        self._decode_error: Any = require_extra("google.protobuf.message", EXTRA).DecodeError
        self._grpc: Any = require_extra("grpc", EXTRA)
        self._address = address
        self._timeout = timeout
        # gRPC then refuses a message beyond the limit, in both directions. Its channels are thread-safe.
        limits = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = self._grpc.insecure_channel(address.place, limits)
        self._closed = False

    def parameters(self, model: str) -> dict[str, str]:
        found = self._asked("ModelConfig", self._messages.ModelConfigRequest(name=model)).config.parameters
        return {name: str(value.string_value) for name, value in found.items()}

    def models(self) -> list[str]:
        index = self._asked("RepositoryIndex", self._messages.RepositoryIndexRequest()).models
        return sorted({str(entry.name) for entry in index if entry.state == "READY"})

    def infer(self, call: Call) -> NDArray[np.float32]:
        request = self._messages.ModelInferRequest(
            model_name=call.model, raw_input_contents=[value.tobytes() for value in call.inputs.values()]
        )
        for name, value in call.inputs.items():
            request.inputs.add(name=name, datatype=DTYPES[value.dtype.name], shape=value.shape)
        request.outputs.add(name=call.output)
        answer = self._asked("ModelInfer", request, seconds=self._timeout)
        described, contents = answer.outputs, answer.raw_output_contents
        if len(described) != len(contents):
            raise MalformedError(f"{len(contents)} tensors for {len(described)} outputs")
        outputs = [
            Output(name=each.name, datatype=each.datatype, shape=list(each.shape), content=content)
            for each, content in zip(described, contents, strict=True)
        ]
        return tensor_of(outputs, call.output, call.shape)

    def close(self) -> None:
        self._closed = True
        self._channel.close()

    def _asked(self, method: str, request: Any, *, seconds: float = 0) -> Any:
        """The method's answer. seconds: for the server's work; 0: it knows the answer."""
        limit = seconds or min(self._timeout, FACTS_S)
        # Without a deserializer: gRPC would print the traceback of a message that is none.
        ask = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}", request_serializer=type(request).SerializeToString
        )
        try:
            pending = ask.future(request, timeout=limit)
            content = abandonable(pending.result, seconds=limit + _MARGIN_S, stop=pending.cancel)
            return getattr(self._messages, type(request).__name__.replace("Request", "Response")).FromString(content)
        except concurrent.futures.CancelledError as error:
            raise cancelled_here() from error
        except (TimeoutError, self._grpc.RpcError, self._grpc.FutureCancelledError) as error:
            raise self._meant(error, seconds, limit) from error
        except self._decode_error as error:
            raise MalformedError("no message of the protocol where one was expected") from error
        except ValueError as error:  # gRPC's word for a channel that another thread has closed
            raise closed_meanwhile() from error

    def _meant(self, error: Any, seconds: float, limit: float) -> Exception:
        if self._closed:
            return closed_meanwhile()
        if not isinstance(error, self._grpc.RpcError) or str(error.code()) == _LATE:
            return late(self._address, seconds) if seconds else silent(limit)
        return typed(str(error.details()), str(error.code()), address=self._address, timeout=self._timeout)
