"""Triton's HTTP protocol, with the standard library: v2 of KServe's, with binary tensors, and
nothing else of it.

Every exchange has one deadline, from the name's resolution to the last byte, and one limit on what
is read. No compression is asked for, none is accepted, and nothing redirects. An answer that is not
the protocol's is one RemoteError.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import math
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

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
from srflow_sdk.plain_text import is_plain, short
from srflow_sdk.system.interrupts import abandonable, is_cancelled

PORT = 8000
"""Triton's own, which an address without one means."""

FACTS_S = 10.0
"""How long to wait for what a server knows by heart: it takes milliseconds, however busy its models
are."""

_DTYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}  # Triton's names of numpy's types
_JSON_BYTES = "Inference-Header-Content-Length"
_SAID = {
    error.__name__: error for error in (ArgumentError, ImageError, NonFiniteError, OutOfMemoryError)
}
_BUSY = (502, 503)  # 502: a proxy finds no server
_LATE = 504
_FAILURES = (OSError, http.client.HTTPException, concurrent.futures.CancelledError)


class NotThereError(Exception):
    """The server cannot be reached or says that it is unavailable: the same call may work later."""


class UnknownModelError(RemoteError):
    """The server has no such model."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A server's place. host: a name or number; IPv6 numbers without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def parse_address(url: object) -> Address:
    """Read "host:port" or "http://host:port". Raises: ArgumentError for what is neither."""
    shown = short(url)
    text = url.strip() if isinstance(url, str) and is_plain(url) else ""
    scheme, _, rest = text.rpartition("://")
    try:
        if set("@?#") & set(text):  # what may be secret is not shown
            shown = "'…'"
            raise ValueError(
                "it has a user, a password or a query, and only a host and a port can be named"
            )
        if scheme.lower() not in ("", "http"):
            raise ValueError(
                "only HTTP is spoken here; for HTTPS use a proxy or a tunnel on this machine"
            )
        parts = urlsplit(f"//{rest}")
        if not parts.hostname or parts.path.strip("/") or " " in rest:
            raise ValueError("only a host and a port can be named")
        return Address(host=parts.hostname, port=PORT if parts.port is None else parts.port)
    except ValueError as error:
        raise ArgumentError(
            f"the server is {shown}: {error}; write host:port or http://host:{PORT}"
        ) from error


class _Connection(http.client.HTTPConnection):
    """One that another thread may end at any moment, while it is made and while an answer is read,
    too.
    """

    ended = False
    # also once http.client has given the socket to its response
    reached: socket.socket | None = None

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


class HttpClient:
    """One server. Thread-safe. Each call has a connection of its own, which a balancer may give to
    any server.

    timeout: seconds for a call that is work, to the last byte; others have :data:`FACTS_S` at most.
    max_message_bytes: no answer has more; what is beyond it is not read.

    Methods raise NotThereError, UnknownModelError, RemoteError, CancelledError, DeviceError once it
    was closed, and the errors of the SDK that the server names.
    """

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self.address = address
        self._timeout = timeout
        self._max_message_bytes = max_message_bytes
        self._closed = False
        self._open: set[_Connection] = set()

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters of a model's config."""
        with self._name_server_in_errors():
            config = json.loads(
                self._request("GET", f"/v2/models/{quote(model, safe='')}/config")[0]
            )
            return {
                name: str(value.get("string_value", ""))
                for name, value in config.get("parameters", {}).items()
            }

    def models(self) -> list[str]:
        """Return the names of the models that the server can answer for."""
        with self._name_server_in_errors():
            index = json.loads(self._request("POST", "/v2/repository/index")[0])
            return sorted({str(each["name"]) for each in index if each.get("state") == "READY"})

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], output: str, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return the output of this name, which must be float32 of this shape."""
        described = [
            {
                "name": name,
                "shape": value.shape,
                "datatype": _DTYPES[value.dtype.name],
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in inputs.items()
        ]
        wanted = [{"name": output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": described, "outputs": wanted}).encode()
        with self._name_server_in_errors():
            body, json_bytes = self._request(
                "POST",
                f"/v2/models/{quote(model, safe='')}/infer",
                b"".join([head, *(value.tobytes() for value in inputs.values())]),
                {"Content-Type": "application/octet-stream", _JSON_BYTES: str(len(head))},
                seconds=self._timeout,
            )
            return _read_tensor(body, json_bytes, output, shape)

    def close(self) -> None:
        """End the connections. Closing twice is harmless."""
        self._closed = True
        for connection in list(self._open):
            connection.end()

    @contextlib.contextmanager
    def _name_server_in_errors(self) -> Iterator[None]:
        """Raises: RemoteError for an answer that the block cannot read."""
        try:
            yield
        except SRFlowError:
            raise
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RecursionError,
            http.client.HTTPException,
        ) as error:
            why = str(error) or type(error).__name__
            raise RemoteError(
                f"{self.address} gave an answer that cannot be used: {why}"
            ) from error

    def _request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float | None = None,
    ) -> tuple[bytes, str | None]:
        """The body of an answer that is no error, and how many of its bytes are JSON. seconds: None
        is FACTS_S.
        """
        facts_s = min(self._timeout, FACTS_S)
        connection = _Connection(self.address.host, self.address.port, timeout=facts_s)

        def exchange() -> tuple[int, bytes, str | None]:
            with contextlib.closing(connection):
                connection.request(method, path, body, {"Connection": "close", **(headers or {})})
                with connection.getresponse() as response:
                    return response.status, self._read_body(response), response.headers[_JSON_BYTES]

        self._open.add(connection)
        try:
            if self._closed:
                raise _make_closed_error()
            status, answer, json_bytes = abandonable(
                exchange, seconds=seconds or facts_s, stop=connection.end
            )
        except _FAILURES as error:
            raise self._interpret_failure(error, seconds) from error
        finally:
            self._open.discard(connection)
        if status != http.client.OK:
            raise self._interpret_refusal(status, _read_reason(answer) or f"HTTP status {status}")
        return answer, json_bytes

    def _read_body(self, response: http.client.HTTPResponse) -> bytes:
        most = self._max_message_bytes
        declared = response.length or 0
        body = b"" if declared > most else response.read(most + 1)
        if max(declared, len(body)) > most:
            raise ValueError(f"it has more than {most:,} bytes, the limit of max_message_bytes")
        if response.length:
            raise ConnectionResetError("the connection ended in the middle of an answer")
        return body

    def _interpret_failure(self, error: BaseException, seconds: float | None) -> Exception:
        """The error that a failure of an exchange means. seconds: None for a question of facts."""
        if isinstance(error, concurrent.futures.CancelledError):
            return CancelledError("cancelled by the caller")
        if self._closed:
            return _make_closed_error()
        if isinstance(error, TimeoutError):
            return (
                NotThereError(f"no answer within {min(self._timeout, FACTS_S):g} s")
                if not seconds
                else self._make_late_error()
            )
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            return NotThereError(
                "it does not answer in HTTP; 8000 is Triton's port for HTTP, 8001 the one for gRPC"
            )
        if isinstance(error, http.client.IncompleteRead):
            return NotThereError("the connection ended in the middle of an answer")
        if isinstance(error, OSError):
            return NotThereError(
                getattr(error, "strerror", None) or str(error) or type(error).__name__
            )
        return http.client.HTTPException(
            f"its HTTP cannot be read: {error or type(error).__name__}"
        )

    def _interpret_refusal(self, status: int, message: str) -> Exception:
        """The error that a server's answer with such a status means here."""
        name, _, reason = message.partition(": ")
        if is_cancelled():
            return CancelledError("cancelled by the caller")
        if name in _SAID:
            return _SAID[name](f"the server {self.address} says: {reason}")
        if status in _BUSY:
            return NotThereError(message)
        if status == http.client.NOT_FOUND:
            return UnknownModelError(message)
        return (
            self._make_late_error()
            if status == _LATE
            else RemoteError(f"the server {self.address} failed: {message}")
        )

    def _make_late_error(self) -> RemoteError:
        return RemoteError(
            f"the server {self.address} did not answer within {self._timeout:g} s; it may be busy, "
            "or the tile large: "
            "use a longer timeout, or smaller tiles"
        )


def _make_closed_error() -> DeviceError:
    return DeviceError("this Upscaler was closed while it was used: make another one")


def _read_reason(body: bytes) -> str | None:
    """The reason in an answer that is an error; None: it has none, as a page of a proxy's."""
    with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
        reason = json.loads(body)["error"]
        return reason if isinstance(reason, str) else None
    return None


def _read_tensor(
    body: bytes, json_bytes: str | None, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """The float32 output of this name and shape of an answer: JSON, then the tensors' bytes.

    Raises: ValueError, TypeError, LookupError for anything else.
    """
    begin = int(json_bytes or -1)
    if not 0 < begin <= len(body):
        raise ValueError(f"{_JSON_BYTES} is {short(json_bytes)}, of {len(body)} bytes")
    (entry,) = json.loads(body[:begin])["outputs"]
    size = entry["parameters"]["binary_data_size"]
    described = entry["name"], entry["datatype"], entry["shape"], size, len(body) - begin
    wanted = math.prod(shape) * 4
    if described != (name, _DTYPES["float32"], list(shape), wanted, wanted):
        raise ValueError(f"its output is {short(described)} instead of {name}, FP32 {list(shape)}")
    values = np.frombuffer(body, np.dtype("<f4"), offset=begin)
    return values.astype(np.float32).reshape(shape)
