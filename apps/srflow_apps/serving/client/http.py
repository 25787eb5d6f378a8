"""Triton's HTTP protocol, with the standard library: v2 of KServe's, with binary tensors, and nothing else of it.

Every exchange has one deadline, from the name's resolution to the last byte, and one limit on what is read. No
compression is asked for, none is accepted, and nothing redirects.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.address import Address
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
from srflow_apps.serving.client.protocols import (
    FACTS_S,
    Call,
    NotThereError,
    cancelled_here,
    closed_meanwhile,
    late,
    silent,
    typed,
)
from srflow_sdk.system.interruptible import abandonable
from srflow_sdk.system.plain_text import short

NOT_HTTP = "it does not answer in HTTP"

_JSON_BYTES = "Inference-Header-Content-Length"
_PART = 1 << 16
_OK = 200


@dataclass(frozen=True, kw_only=True)
class _Answer:
    body: bytearray
    json_bytes: str | None


class _Connection(http.client.HTTPConnection):
    """One that another thread may end at any moment, while it is made and while an answer is read, too."""

    ended = False
    reached: socket.socket | None = None  # also once http.client has given the socket to its response

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError as error:
            raise silent(float(self.timeout or 0)) from error
        self.sock.settimeout(None)  # from here on the deadline is `end`
        self.reached = self.sock
        if self.ended:
            raise ConnectionAbortedError("it was ended")

    def end(self) -> None:
        self.ended = True
        if self.reached is not None:
            with contextlib.suppress(OSError):
                self.reached.shutdown(socket.SHUT_RDWR)


class HttpClient:
    """A :class:`~srflow_apps.serving.client.protocols.Client`. Connections are kept for later calls of any thread."""

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self._address = address
        self._timeout = timeout
        self._limit = max_message_bytes
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    def parameters(self, model: str) -> dict[str, str]:
        return parameters_of(json_of(self._asked("GET", f"/v2/models/{quote(model, safe='')}/config").body))

    def models(self) -> list[str]:
        return ready_models(json_of(self._asked("POST", "/v2/repository/index").body))

    def infer(self, call: Call) -> NDArray[np.float32]:
        described = [
            {
                "name": name,
                "shape": value.shape,
                "datatype": DTYPES[value.dtype.name],
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in call.inputs.items()
        ]
        wanted = [{"name": call.output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": described, "outputs": wanted}).encode()
        answer = self._asked(
            "POST",
            f"/v2/models/{quote(call.model, safe='')}/infer",
            b"".join([head, *(value.tobytes() for value in call.inputs.values())]),
            {"Content-Type": "application/octet-stream", _JSON_BYTES: str(len(head))},
            seconds=self._timeout,
        )
        return tensor_of(outputs_of(answer.body, answer.json_bytes), call.output, call.shape)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            open_ones, self._idle = [*self._busy, *self._idle], []
        for connection in open_ones:
            connection.end()

    def _asked(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, seconds: float = 0
    ) -> _Answer:
        """The answer of a server that has one. seconds: for its work; 0: it knows the answer."""
        connecting = min(self._timeout, FACTS_S)
        used: list[_Connection] = []
        left = threading.Event()

        def exchange() -> _Answer:
            while True:
                with self._connection(connecting) as (connection, kept):
                    used.append(connection)
                    try:
                        return self._exchanged(connection, method, path, body, headers or {})
                    except ConnectionError:
                        if not kept or left.is_set():
                            raise
                        connection.end()  # the server had closed it since the last call

        def stop() -> None:
            left.set()
            for connection in used:
                connection.end()

        try:
            return abandonable(exchange, seconds=seconds or connecting, stop=stop)
        except concurrent.futures.CancelledError as error:
            raise cancelled_here() from error
        except TimeoutError as error:
            raise (late(self._address, seconds) if seconds else silent(connecting)) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise self._meant(error) from error

    @contextlib.contextmanager
    def _connection(self, connecting: float) -> Iterator[tuple[_Connection, bool]]:
        """A connection for one exchange, and whether it had others before. It is kept unless the exchange fails."""
        with self._lock:
            if self._closed:
                raise closed_meanwhile()
            kept = bool(self._idle)
            connection = (
                self._idle.pop() if kept else _Connection(self._address.host, self._address.port, timeout=connecting)
            )
            self._busy.add(connection)
        try:
            yield connection, kept
        except BaseException:
            connection.end()
            raise
        finally:
            with self._lock:
                self._busy.remove(connection)
                if connection.ended or self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _exchanged(
        self, connection: _Connection, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> _Answer:
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            for name in ("Content-Encoding", "Transfer-Encoding"):
                if (response.headers[name] or "identity").lower() not in ("identity", "chunked"):
                    raise MalformedError(f"its {name} is {short(response.headers[name])}, which was not asked for")
            answer = _Answer(body=self._read(response), json_bytes=response.headers[_JSON_BYTES])
        if response.status != _OK:
            reason = error_of(answer.body) or f"HTTP status {response.status}"
            raise typed(reason, str(response.status), address=self._address, timeout=self._timeout)
        return answer

    def _read(self, response: http.client.HTTPResponse) -> bytearray:
        """The body. Not by response.read, which has no limit if a chunk says that it has -1 bytes."""
        body, part = bytearray(), memoryview(bytearray(_PART))
        while (response.length or 0) + len(body) <= self._limit and (count := response.readinto(part)):
            body += part[:count]
        if (response.length or 0) + len(body) > self._limit:
            raise MalformedError(f"it has more than {self._limit:,} bytes, the limit of max_message_bytes")
        if response.length:
            raise ConnectionResetError("the connection ended in the middle of an answer")
        return body

    def _meant(self, error: Exception) -> Exception:
        if self._closed:
            return closed_meanwhile()
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            return NotThereError(NOT_HTTP)
        if isinstance(error, (OSError, UnicodeError)):
            return NotThereError(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        if isinstance(error, http.client.IncompleteRead):
            return NotThereError("the connection ended in the middle of an answer")
        return MalformedError(f"its HTTP cannot be read: {error or type(error).__name__}")
