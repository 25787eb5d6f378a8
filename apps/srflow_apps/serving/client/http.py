"""Triton's HTTP protocol, with the standard library: v2 of KServe's, with binary tensors, and nothing else of it.

Every exchange has one deadline, from the name's resolution to the last byte, and one limit on what is read. No
compression is asked for, none is accepted, and nothing redirects.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.answers import (
    DTYPES,
    MalformedError,
    error_of,
    json_of,
    outputs_of,
    parameters_of,
    ready_models,
    tensor_of,
)
from srflow_apps.serving.client.base_client import Address, Client, NotThereError, closed_meanwhile
from srflow_sdk.system.plain_text import short

NOT_HTTP = "it does not answer in HTTP"

_JSON_BYTES = "Inference-Header-Content-Length"
_PART = 1 << 16
_OK = 200


_Answer = tuple[bytearray, str | None]
"""A body, and how many of its bytes are JSON."""


class _Connection(http.client.HTTPConnection):
    """One that another thread may end at any moment, while it is made and while an answer is read, too."""

    ended = False
    reached: socket.socket | None = None  # also once http.client has given the socket to its response

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as error:
            raise NotThereError(f"no answer within {self.timeout:g} s") from error
        self.sock.settimeout(None)  # from here on the deadline is `end`
        self.reached = self.sock
        if self.ended:
            raise ConnectionAbortedError("it was ended")

    def end(self) -> None:
        self.ended = True
        if self.reached is not None:
            with contextlib.suppress(OSError):
                self.reached.shutdown(socket.SHUT_RDWR)


class HttpClient(Client):
    """Speaks HTTP. Each call has a connection of its own, which a balancer may give to any server."""

    failures = (OSError, http.client.HTTPException, UnicodeError)

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        super().__init__(address, timeout=timeout, max_message_bytes=max_message_bytes)
        self._open: set[_Connection] = set()

    def parameters(self, model: str) -> dict[str, str]:
        return parameters_of(json_of(self._asked("GET", f"/v2/models/{quote(model, safe='')}/config")[0]))

    def models(self) -> list[str]:
        return ready_models(json_of(self._asked("POST", "/v2/repository/index")[0]))

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], output: str, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        described = [
            {
                "name": name,
                "shape": value.shape,
                "datatype": DTYPES[value.dtype.name],
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in inputs.items()
        ]
        wanted = [{"name": output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": described, "outputs": wanted}).encode()
        body, json_bytes = self._asked(
            "POST",
            f"/v2/models/{quote(model, safe='')}/infer",
            b"".join([head, *(value.tobytes() for value in inputs.values())]),
            {"Content-Type": "application/octet-stream", _JSON_BYTES: str(len(head))},
            work=True,
        )
        return tensor_of(outputs_of(body, json_bytes), output, shape)

    def close(self) -> None:
        self._closed = True
        for connection in list(self._open):
            connection.end()

    def _asked(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, work: bool = False
    ) -> _Answer:
        """The answer of a server that has one."""
        connection = _Connection(self._address.host, self._address.port, timeout=self._seconds(work=False))

        def exchange() -> _Answer:
            with contextlib.closing(connection):
                connection.request(method, path, body, {"Connection": "close", **(headers or {})})
                return self._response(connection)

        self._open.add(connection)
        try:
            if self._closed:
                raise closed_meanwhile()
            return self._by_deadline(exchange, work=work, stop=connection.end)
        finally:
            self._open.discard(connection)

    def _response(self, connection: _Connection) -> _Answer:
        with connection.getresponse() as response:
            for name in ("Content-Encoding", "Transfer-Encoding"):
                if (response.headers[name] or "identity").lower() not in ("identity", "chunked"):
                    raise MalformedError(f"its {name} is {short(response.headers[name])}, which was not asked for")
            body = self._read(response)
        if response.status != _OK:
            raise self._typed(error_of(body) or f"HTTP status {response.status}", str(response.status))
        return body, response.headers[_JSON_BYTES]

    def _read(self, response: http.client.HTTPResponse) -> bytearray:
        """The body. Not by response.read, which has no limit if a chunk says that it has -1 bytes."""
        body, part = bytearray(), memoryview(bytearray(_PART))
        while (response.length or 0) + len(body) <= self._max_message_bytes and (count := response.readinto(part)):
            body += part[:count]
        if (response.length or 0) + len(body) > self._max_message_bytes:
            raise MalformedError(f"it has more than {self._max_message_bytes:,} bytes, the limit of max_message_bytes")
        if response.length:
            raise ConnectionResetError("the connection ended in the middle of an answer")
        return body

    def _meant(self, error: Any, *, work: bool) -> Exception:
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            return NotThereError(NOT_HTTP)
        if isinstance(error, (OSError, UnicodeError)):
            return NotThereError(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        if isinstance(error, http.client.IncompleteRead):
            return NotThereError("the connection ended in the middle of an answer")
        return MalformedError(f"its HTTP cannot be read: {error or type(error).__name__}")
