"""Triton's HTTP protocol, with the standard library: v2 of KServe's, with binary tensors, and nothing else of it.

Every exchange has one deadline, from the name's resolution to the last byte, and one limit on what is read. No
compression is asked for, none is accepted, and nothing redirects. An answer that is not the protocol's is a
:class:`MalformedError` with one reason.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import math
import socket
from collections.abc import Mapping
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
from srflow_sdk.system.interrupts import abandonable, is_cancelled
from srflow_sdk.system.plain_text import is_plain, short

PORT = 8000
"""Triton's own, which an address without one means."""

FACTS_S = 10.0
"""How long to wait for what a server knows by heart: it takes milliseconds, however busy its models are."""

NOT_HTTP = "it does not answer in HTTP; 8000 is Triton's port for HTTP, 8001 the one for gRPC"

_DTYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}  # Triton's names of numpy's types
_JSON_BYTES = "Inference-Header-Content-Length"
_PART = 1 << 16
_SAID = {error.__name__: error for error in (ArgumentError, ImageError, NonFiniteError, OutOfMemoryError)}
_BUSY = (502, 503)  # 502: a proxy finds no server
_LATE = 504
_FAILURES = (OSError, http.client.HTTPException, UnicodeError, concurrent.futures.CancelledError)


class MalformedError(Exception):
    """The server's answer is not the protocol's; the message says why."""


class NotThereError(Exception):
    """The server cannot be reached or says that it is unavailable: the same call may work later."""


class UnknownModelError(Exception):
    """The server has no such model."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A server's place. host: a name or number; IPv6 numbers without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def parse_address(url: object) -> Address:
    """Read "host:port" or "http://host:port". Raises: ArgumentError for what is neither."""
    if not isinstance(url, str) or not is_plain(url):
        raise _bad(url, "it must be a text")
    text = url.strip()
    if not text:
        raise _bad(url, "it is empty")
    if set("@?#") & set(text):  # what may be secret is not shown
        raise _bad("…", "it has a user, a password or a query, and only a host and a port can be named")
    scheme, separator, rest = text.partition("://") if "://" in text else ("http", "", text)
    if scheme.lower() in ("grpcs", "https"):
        raise _bad(url, "encrypted connections are not supported; use a proxy or a tunnel on this machine")
    if scheme.lower() != "http":
        raise _bad(url, f"{scheme}{separator} is not spoken here, only HTTP")
    try:
        parts = urlsplit(f"//{rest}")
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if not host or parts.path.strip("/") or " " in rest:
        raise _bad(url, "only a host and a port can be named")
    return Address(host=host, port=PORT if port is None else port)


def _bad(url: object, why: str) -> ArgumentError:
    return ArgumentError(f"the server is {short(url)}: {why}; write host:port or http://host:{PORT}")


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


class HttpClient:
    """One server. Thread-safe. Each call has a connection of its own, which a balancer may give to any server.

    timeout: seconds for a call that is work, to the last byte; others have :data:`FACTS_S` at most.
    max_message_bytes: no answer has more; what is beyond it is not read.

    Methods raise NotThereError, UnknownModelError, MalformedError, RemoteError, CancelledError, DeviceError once it was
    closed, and the errors of the SDK that the server names.
    """

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self._address = address
        self._timeout = timeout
        self._max_message_bytes = max_message_bytes
        self._closed = False
        self._open: set[_Connection] = set()

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters of a model's config."""
        config = _json_of(self._asked("GET", f"/v2/models/{quote(model, safe='')}/config")[0])
        found = _of_type(_of_type(config, dict, "a config").get("parameters", {}), dict, "parameters")
        values = {name: _of_type(value, dict, f"parameter {short(name)}") for name, value in found.items()}
        return {name: _of_type(value.get("string_value", ""), str, short(name)) for name, value in values.items()}

    def models(self) -> list[str]:
        """Return the names of the models that the server can answer for."""
        index = _of_type(_json_of(self._asked("POST", "/v2/repository/index")[0]), list, "an index of models")
        ready = [each for each in index if _of_type(each, dict, "a model in the index").get("state") == "READY"]
        return sorted({_of_type(each.get("name"), str, "a name") for each in ready})

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
        body, json_bytes = self._asked(
            "POST",
            f"/v2/models/{quote(model, safe='')}/infer",
            b"".join([head, *(value.tobytes() for value in inputs.values())]),
            {"Content-Type": "application/octet-stream", _JSON_BYTES: str(len(head))},
            seconds=self._timeout,
        )
        return _tensor_of(body, json_bytes, output, shape)

    def close(self) -> None:
        """End the connections. Closing twice is harmless."""
        self._closed = True
        for connection in list(self._open):
            connection.end()

    def _asked(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float | None = None,
    ) -> tuple[bytearray, str | None]:
        """The body of an answer that is no error, and how many of its bytes are JSON. seconds: None is FACTS_S."""
        facts_s = min(self._timeout, FACTS_S)
        connection = _Connection(self._address.host, self._address.port, timeout=facts_s)

        def exchange() -> tuple[int, bytearray, str | None]:
            with contextlib.closing(connection):
                connection.request(method, path, body, {"Connection": "close", **(headers or {})})
                with connection.getresponse() as response:
                    return response.status, self._read(response), response.headers[_JSON_BYTES]

        self._open.add(connection)
        try:
            if self._closed:
                raise _closed_meanwhile()
            status, answer, json_bytes = abandonable(exchange, seconds=seconds or facts_s, stop=connection.end)
        except _FAILURES as error:
            raise self._meant(error, seconds) from error
        finally:
            self._open.discard(connection)
        if status != http.client.OK:
            raise self._said(status, _error_of(answer) or f"HTTP status {status}")
        return answer, json_bytes

    def _read(self, response: http.client.HTTPResponse) -> bytearray:
        """The body. Not by response.read, which has no limit if a chunk says that it has -1 bytes."""
        for name in ("Content-Encoding", "Transfer-Encoding"):
            if (response.headers[name] or "identity").lower() not in ("identity", "chunked"):
                raise MalformedError(f"its {name} is {short(response.headers[name])}, which was not asked for")
        body, part = bytearray(), memoryview(bytearray(_PART))
        while (response.length or 0) + len(body) <= self._max_message_bytes and (count := response.readinto(part)):
            body += part[:count]
        if (response.length or 0) + len(body) > self._max_message_bytes:
            raise MalformedError(f"it has more than {self._max_message_bytes:,} bytes, the limit of max_message_bytes")
        if response.length:
            raise ConnectionResetError("the connection ended in the middle of an answer")
        return body

    def _meant(self, error: BaseException, seconds: float | None) -> Exception:
        """The error that a failure of an exchange means. seconds: None for a question of facts."""
        if isinstance(error, concurrent.futures.CancelledError):
            return CancelledError("cancelled by the caller")
        if self._closed:
            return _closed_meanwhile()
        if isinstance(error, TimeoutError) and seconds is not None:
            return self._late()
        if isinstance(error, TimeoutError):
            return NotThereError(f"no answer within {min(self._timeout, FACTS_S):g} s")
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
            return NotThereError(NOT_HTTP)
        if isinstance(error, (OSError, UnicodeError)):
            return NotThereError(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        if isinstance(error, http.client.IncompleteRead):
            return NotThereError("the connection ended in the middle of an answer")
        return MalformedError(f"its HTTP cannot be read: {error or type(error).__name__}")

    def _said(self, status: int, message: str) -> Exception:
        """The error that a server's answer with such a status means here."""
        name, _, reason = message.partition(": ")
        if is_cancelled():
            return CancelledError("cancelled by the caller")
        if name in _SAID:
            error: SRFlowError = _SAID[name](f"the server {self._address} says: {reason}")
            return error
        if status in _BUSY:
            return NotThereError(message)
        if status == http.client.NOT_FOUND:
            return UnknownModelError(message)
        return self._late() if status == _LATE else RemoteError(f"the server {self._address} failed: {message}")

    def _late(self) -> RemoteError:
        return RemoteError(
            f"the server {self._address} did not answer within {self._timeout:g} s; it may be busy, or the tile large: "
            "use a longer timeout, or smaller tiles"
        )


def _closed_meanwhile() -> DeviceError:
    return DeviceError("this Upscaler was closed while it was used: make another one")


def _json_of(body: bytes | bytearray) -> Any:
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"no JSON where it was expected, but {short(bytes(body[:40]))}") from error


def _error_of(body: bytes | bytearray) -> str | None:
    """The reason in an answer that is an error; None: it has none, as a page of a proxy's."""
    try:
        reason = _json_of(body)["error"]
    except (MalformedError, TypeError, KeyError, IndexError):
        return None
    return reason if isinstance(reason, str) else None


def _tensor_of(body: bytearray, json_bytes: str | None, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The float32 output of this name and shape of an answer: JSON, then the tensors' bytes."""
    if json_bytes is None or not json_bytes.isascii() or not json_bytes.isdecimal() or len(json_bytes) > 9:
        raise MalformedError(f"{_JSON_BYTES} is {short(json_bytes)}, and no number of bytes")
    begin = int(json_bytes)
    described = _of_type(_json_of(body[:begin]), dict, "an answer").get("outputs")
    found: memoryview | None = None
    for entry in _of_type(described, list, "outputs"):
        fields = _of_type(entry, dict, "an output")
        size = _of_type(fields.get("parameters"), dict, "an output's parameters").get("binary_data_size")
        if _of_type(size, int, "binary_data_size") < 0 or begin + size > len(body):
            raise MalformedError(f"binary_data_size is {short(size)}, and {len(body) - begin} bytes follow")
        if fields.get("name") == name and found is None:
            found = memoryview(body)[begin : begin + size]
            if fields.get("datatype") != _DTYPES["float32"] or fields.get("shape") != list(shape):
                said = f"{short(fields.get('datatype'))} of shape {short(fields.get('shape'))}"
                raise MalformedError(f"{name} is {said} instead of FP32 {list(shape)}")
        begin += size
    if begin != len(body):
        raise MalformedError(f"{len(body) - begin} bytes more than its outputs have")
    if found is None:
        raise MalformedError(f"no output {name}")
    if len(found) != (expected := math.prod(shape) * 4):
        raise MalformedError(f"{name} has {len(found)} bytes instead of {expected}")
    return np.frombuffer(found, np.dtype("<f4")).astype(np.float32, copy=False).reshape(shape)


def _of_type(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
        raise MalformedError(f"{what} is {short(value)}, and not {names[kind]}")
    return value
