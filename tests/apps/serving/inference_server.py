"""An HTTP server in this process, with Triton's protocol: what it answers, the SDK's own serving
code draws.

Fast enough for `make test`, and it can be stopped in the middle of a picture. Every answer can be
spoiled before it is sent, as a hostile or broken server, or a proxy, would. tests/tritonserver runs
against Triton itself.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from srflow_apps.serving.service import PictureService
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import MODEL_PARAMETER, ServingOptions, described

NAME = "srflow_upscale"
DTYPES = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32}
OPTIONS = ServingOptions(device="cpu", threads=1, sessions=1, max_samples=16)
JSON_BYTES = "Inference-Header-Content-Length"

# by their manifests, with the files' hashes
_services: dict[tuple[str, ServingOptions], PictureService] = {}


def service_of(bundle: Bundle, options: ServingOptions) -> PictureService:
    """What draws this model: the same for all servers of this process, because its sessions take
    time to open."""
    key = bundle.manifest.to_json(), options
    if key not in _services:
        _services[key] = PictureService(bundle, options)
    return _services[key]


@dataclass
class Answer:
    """What is sent. kind: "config", "infer" or "index". head: the JSON before `tensors`, of "infer"
    alone."""

    kind: str
    status: int = 200
    head: Any = None
    tensors: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def raw(self, body: bytes | None = None) -> bytes:
        """The whole answer, with headers that fit its body."""
        head = json.dumps(self.head).encode()
        body = head + self.tensors if body is None else body
        headers = {"Content-Length": str(len(body)), **self.headers}
        if self.kind == "infer" and self.status == 200:
            headers = {JSON_BYTES: str(len(head)), **headers}
        lines = [
            f"HTTP/1.1 {self.status} Whatever",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        return "\r\n".join(lines).encode() + body


def as_it_is(answer: Answer) -> Iterable[bytes]:
    """Spoils nothing."""
    yield answer.raw()


class InferenceServer:
    """Serves a bundle on a port of the loopback, and counts what it is asked for.

    before: called with each request's inputs, by name; what it raises is answered. spoil: the bytes
    to send for each answer, part by part. requests: the inputs of each inference; models: whose
    they were; headers: of every request.
    sent: bytes that clients took. others: models of other names, which it then has alone.
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
        self.spoil: Callable[[Answer], Iterable[bytes]] = as_it_is
        self.requests: list[dict[str, Any]] = []
        self.models: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.message_sizes: list[int] = []
        self.sent = 0
        self.stopped = threading.Event()
        self.loaded = True  # a server that stops unloads its models first
        self._options = options
        self.load(bundle)
        opened = {name: Bundle.open(path) for name, path in (others or {}).items()}
        self._others = {
            name: (service_of(one, options), described(one)) for name, one in opened.items()
        }
        self._connections: list[socket.socket] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=lambda: self._server.serve_forever(0.05), daemon=True).start()

    def load(self, bundle: Path) -> None:
        """Serve this bundle from now on."""
        opened = Bundle.open(bundle)
        self._service = service_of(opened, self._options)
        self.parameters = {MODEL_PARAMETER: described(opened), **self._options.parameters()}

    def stop(self) -> None:
        """Stop as a killed server does: calls that it works on are broken off."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, path: str, body: bytes, json_bytes: int) -> Answer:
        names = list(self._others or [NAME])
        if path == "/v2/repository/index":
            return Answer(
                "index", head=[{"name": name, "version": "1", "state": "READY"} for name in names]
            )
        name, _, what = path.removeprefix("/v2/models/").partition("/")
        if name not in names or not self.loaded:
            return Answer(
                "index",
                status=404,
                head={"error": f"Request for unknown model: '{name}' is not found"},
            )
        if what == "config":
            own = {MODEL_PARAMETER: self._others[name][1]} if self._others else {}
            parameters = {
                key: {"string_value": text} for key, text in (self.parameters | own).items()
            }
            return Answer("config", head={"name": name, "parameters": parameters})
        inputs = {}
        begin = json_bytes
        for entry in json.loads(body[:json_bytes])["inputs"]:
            end = begin + entry["parameters"]["binary_data_size"]
            inputs[entry["name"]] = np.frombuffer(
                body[begin:end], DTYPES[entry["datatype"]]
            ).reshape(entry["shape"])
            begin = end
        self.requests.append(inputs)
        self.models.append(name)
        try:
            self.before(inputs)
            outputs = (self._others[name][0] if self._others else self._service).answer(inputs)
        except SRFlowError as error:
            status = 400 if isinstance(error, ArgumentError) else 500
            return Answer(
                "infer", status=status, head={"error": f"{type(error).__name__}: {error}"}
            )
        except RuntimeError as error:
            return Answer("infer", status=500, head={"error": str(error)})
        described = [
            {
                "name": output,
                "datatype": "FP32",
                "shape": list(value.shape),
                "parameters": {"binary_data_size": value.nbytes},
            }
            for output, value in outputs.items()
        ]
        content = b"".join(value.tobytes() for value in outputs.values())
        answer = Answer("infer", head={"model_name": name, "outputs": described}, tensors=content)
        self.message_sizes += [len(body), len(answer.raw())]
        return answer

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served._connections.append(self.connection)
                served.headers.append(dict(self.headers))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = served._answer(self.path, body, int(self.headers.get(JSON_BYTES, 0)))
                try:
                    for part in served.spoil(answer):
                        self.wfile.write(part)
                        served.sent += len(part)
                        if served.stopped.is_set():
                            break
                except OSError:
                    self.close_connection = True
                if served.spoil is not as_it_is:
                    self.close_connection = True

            do_POST = do_GET  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        return Handler
