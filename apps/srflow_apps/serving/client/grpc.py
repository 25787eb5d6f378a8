"""Triton's gRPC protocol, with tritonclient's messages. gRPC itself holds the deadlines and the limit on messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.answers import DTYPES, MalformedError, Output, tensor_of
from srflow_apps.serving.client.base_client import LATE, Address, Client, closed_meanwhile
from srflow_sdk.system.raising import require_extra

EXTRA = "triton"

_MARGIN_S = 1.0  # beyond gRPC's own deadline


class GrpcClient(Client):
    """Speaks gRPC. Raises: MissingExtraError."""

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        super().__init__(address, timeout=timeout, max_message_bytes=max_message_bytes)
        self._messages: Any = require_extra("tritonclient.grpc", EXTRA).service_pb2
        self._decode_error: Any = require_extra("google.protobuf.message", EXTRA).DecodeError
        grpc: Any = require_extra("grpc", EXTRA)
        self._rpc_error: Any = grpc.RpcError
        self.failures = (grpc.RpcError, grpc.FutureCancelledError, TimeoutError)
        # gRPC then refuses a message beyond the limit, in both directions. Its channels are thread-safe.
        limits = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.insecure_channel(address.place, limits)

    def parameters(self, model: str) -> dict[str, str]:
        found = self._asked("ModelConfig", self._messages.ModelConfigRequest(name=model)).config.parameters
        return {name: str(value.string_value) for name, value in found.items()}

    def models(self) -> list[str]:
        index = self._asked("RepositoryIndex", self._messages.RepositoryIndexRequest()).models
        return sorted({str(entry.name) for entry in index if entry.state == "READY"})

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], output: str, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        request = self._messages.ModelInferRequest(
            model_name=model, raw_input_contents=[value.tobytes() for value in inputs.values()]
        )
        for name, value in inputs.items():
            request.inputs.add(name=name, datatype=DTYPES[value.dtype.name], shape=value.shape)
        request.outputs.add(name=output)
        answer = self._asked("ModelInfer", request, work=True)
        described, contents = answer.outputs, answer.raw_output_contents
        if len(described) != len(contents):
            raise MalformedError(f"{len(contents)} tensors for {len(described)} outputs")
        outputs = [
            Output(name=each.name, datatype=each.datatype, shape=list(each.shape), content=content)
            for each, content in zip(described, contents, strict=True)
        ]
        return tensor_of(outputs, output, shape)

    def close(self) -> None:
        self._closed = True
        self._channel.close()

    def _asked(self, method: str, request: Any, *, work: bool = False) -> Any:
        """The method's answer."""
        # Without a deserializer: gRPC would print the traceback of a message that is none.
        ask = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}", request_serializer=type(request).SerializeToString
        )
        try:
            pending = ask.future(request, timeout=self._seconds(work=work))
        except ValueError as error:  # gRPC's word for a channel that another thread has closed
            raise closed_meanwhile() from error
        content = self._by_deadline(pending.result, work=work, stop=pending.cancel, margin=_MARGIN_S)
        try:
            return getattr(self._messages, f"{method}Response").FromString(content)
        except self._decode_error as error:
            raise MalformedError("no message of the protocol where one was expected") from error

    def _meant(self, error: Any, *, work: bool) -> Exception:
        if not isinstance(error, self._rpc_error) or str(error.code()) in LATE:
            return self._late(work=work)
        return self._typed(str(error.details()), str(error.code()))
