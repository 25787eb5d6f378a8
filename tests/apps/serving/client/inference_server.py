"""A gRPC server in this process, with Triton's protocol: what it answers, the SDK's own serving code draws.

Fast enough for `make test`, and it can be stopped in the middle of a picture. tests/tritonserver runs
against Triton itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from srflow_apps.serving.service import PictureService
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import MODEL_PARAMETER, ServingOptions, described

NAME = "srflow_upscale"
DTYPES = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}
OPTIONS = ServingOptions(device="cpu", threads=1, sessions=1, max_samples=16)


_services: dict[tuple[str, ServingOptions], PictureService] = {}  # by their manifests, with the files' hashes


def service_of(bundle: Bundle, options: ServingOptions) -> PictureService:
    """What draws this model: the same for all servers of this process, because its sessions take time to open."""
    key = bundle.manifest.to_json(), options
    if key not in _services:
        _services[key] = PictureService(bundle, options)
    return _services[key]


class InferenceServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves a bundle on a port of the loopback, and counts what it is asked for.

    before: called with each request's inputs, by name; what it raises is answered. spoil: changes an answer before it
    is sent, or returns the bytes to send instead. parameters: of the model's config, instead of those that
    srflow-export writes. others: models of other names, which it then has alone.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        options: ServingOptions = OPTIONS,
        port: int = 0,
        others: Mapping[str, Path] | None = None,
    ) -> None:
        self.before: Callable[[dict[str, Any]], None] = lambda inputs: None
        self.spoil: Callable[[Any], bytes | None] = lambda answer: None
        self.requests: list[dict[str, Any]] = []
        self.message_sizes: list[int] = []
        self.ended = threading.Event()  # once a request has ended, also if what answers it still works
        self._options = options
        self.loaded = True  # a server that stops unloads its models first
        self.load(bundle)
        opened = {name: Bundle.open(path) for name, path in (others or {}).items()}
        self._others = {name: (service_of(one, options), described(one)) for name, one in opened.items()}
        self.models: list[str] = []  # that were asked to draw
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)], interceptors=[_Raw()])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def load(self, bundle: Path) -> None:
        """Serve this bundle from now on."""
        opened = Bundle.open(bundle)
        self._service = service_of(opened, self._options)
        self.parameters = {MODEL_PARAMETER: described(opened), **self._options.parameters()}

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop as a killed server does: calls that it works on are broken off."""
        self._server.stop(grace=None).wait()

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        names = self._others or [NAME]
        if request.name not in names or not self.loaded:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        answer = service_pb2.ModelConfigResponse()
        answer.config.name = request.name
        own = {MODEL_PARAMETER: self._others[request.name][1]} if self._others else {}
        for name, text in (self.parameters | own).items():
            answer.config.parameters[name].string_value = text
        return answer

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = service_pb2.RepositoryIndexResponse()
        for name in self._others or [NAME]:
            answer.models.add(name=name, version="1", state="READY")
        return answer

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = {
            tensor.name: np.frombuffer(content, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        context.add_callback(self.ended.set)
        self.requests.append(inputs)
        self.models.append(request.model_name)
        service = self._others[request.model_name][0] if self._others else self._service
        if not self.loaded:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{NAME}' has no available versions")
        try:
            self.before(inputs)
            outputs = service.answer(inputs)
        except SRFlowError as error:
            code = grpc.StatusCode.INVALID_ARGUMENT if isinstance(error, ArgumentError) else grpc.StatusCode.INTERNAL
            context.abort(code, f"{type(error).__name__}: {error}")
        except RuntimeError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))
        answer = service_pb2.ModelInferResponse(model_name=NAME, model_version="1")
        for name, value in outputs.items():
            answer.outputs.add(name=name, datatype="FP32", shape=value.shape)
            answer.raw_output_contents.append(value.tobytes())
        self.message_sizes += [request.ByteSize(), answer.ByteSize()]
        return self.spoil(answer) or answer


class _Raw(grpc.ServerInterceptor):
    """Lets methods answer bytes as they are."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        return handler._replace(
            response_serializer=lambda answer: answer if isinstance(answer, bytes) else answer.SerializeToString()
        )
