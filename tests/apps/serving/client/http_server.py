"""An HTTP server in this process, with Triton's protocol: what it answers, the SDK's own serving code draws.

Every answer can be spoiled before it is sent, as a hostile or broken server, or a proxy, would.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import MODEL_PARAMETER, ServingOptions, described

from .inference_server import service_of

NAME = "srflow_upscale"
DTYPES = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32}
OPTIONS = ServingOptions(device="cpu", threads=1, sessions=1, max_samples=16)
JSON_BYTES = "Inference-Header-Content-Length"


@dataclass
class Answer:
    """What is sent. kind: "config", "infer" or "index". head: the JSON before `tensors`, of "infer" alone."""

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
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body


def as_it_is(answer: Answer) -> Iterable[bytes]:
    """Spoils nothing."""
    yield answer.raw()


class HttpServer:
    """Serves a bundle on a port of the loopback. spoil: the bytes to send for each answer, part by part.

    requests: the inputs of each inference. sent: bytes that clients took.
    """

    def __init__(self, bundle: Path) -> None:
        self.spoil: Callable[[Answer], Iterable[bytes]] = as_it_is
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0
        self.stopped = threading.Event()
        self.load(bundle)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=lambda: self._server.serve_forever(0.05), daemon=True).start()

    def load(self, bundle: Path) -> None:
        """Serve this bundle from now on."""
        opened = Bundle.open(bundle)
        self._service = service_of(opened, OPTIONS)
        self.parameters = {MODEL_PARAMETER: described(opened), **OPTIONS.parameters()}

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, body: bytes, json_bytes: int) -> Answer:
        if path == "/v2/repository/index":
            return Answer("index", head=[{"name": NAME, "version": "1", "state": "READY"}])
        if not path.startswith(f"/v2/models/{NAME}/"):
            return Answer("index", status=404, head={"error": f"Request for unknown model: '{path}' is not found"})
        if path.endswith("/config"):
            parameters = {name: {"string_value": text} for name, text in self.parameters.items()}
            return Answer("config", head={"name": NAME, "parameters": parameters})
        inputs, begin = {}, json_bytes
        for entry in json.loads(body[:json_bytes])["inputs"]:
            end = begin + entry["parameters"]["binary_data_size"]
            inputs[entry["name"]] = np.frombuffer(body[begin:end], DTYPES[entry["datatype"]]).reshape(entry["shape"])
            begin = end
        self.requests.append(inputs)
        try:
            outputs = self._service.answer(inputs)
        except SRFlowError as error:
            status = 400 if isinstance(error, ArgumentError) else 500
            return Answer("infer", status=status, head={"error": f"{type(error).__name__}: {error}"})
        described = [
            {
                "name": name,
                "datatype": "FP32",
                "shape": list(value.shape),
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in outputs.items()
        ]
        content = b"".join(value.tobytes() for value in outputs.values())
        return Answer("infer", head={"model_name": NAME, "outputs": described}, tensors=content)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
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
