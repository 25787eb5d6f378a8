"""The base of the clients of both protocols: a server's address, the deadlines of calls, the meaning of failures."""

from __future__ import annotations

import concurrent.futures
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

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
from srflow_sdk.system.interruptible import abandonable, is_cancelled
from srflow_sdk.system.plain_text import is_plain, short

Protocol = Literal["grpc", "http"]
PORTS: dict[Protocol, int] = {"grpc": 8001, "http": 8000}
"""Triton's own ports, which an address without one means."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A server's place. host: a name or number; IPv6 numbers without brackets."""

    protocol: Protocol
    host: str
    port: int

    @property
    def place(self) -> str:
        """`host:port`, as tritonclient takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.protocol}://{self.place}"


def parse_address(url: object, protocol: object = None) -> Address:
    """Read a URL. protocol: for a URL that names none; None is grpc.

    Raises: ArgumentError for what is no such URL, and if it names another protocol.
    """
    if protocol is not None and protocol not in get_args(Protocol):
        raise ArgumentError(f'protocol is {protocol!r}; it must be "grpc" or "http"')
    if not isinstance(url, str) or not is_plain(url):
        raise _bad(url, "it must be a text")
    if not url.strip():
        raise _bad(url, "it is empty")
    text = url.strip()
    if set("@?#") & set(text):  # what may be secret is not shown
        raise _bad("…", "it has a user, a password or a query, and only a host and a port can be named")
    named, separator, rest = text.partition("://")
    named = named.lower()
    if not separator:
        named, rest = str(protocol or "grpc"), text
    if named == "dns":
        raise _bad(url, "this client has one connection, and with it one server")
    if named in ("grpcs", "https"):
        raise _bad(url, "encrypted connections are not supported; use a proxy or a tunnel on this machine")
    if named not in get_args(Protocol):
        raise _bad(url, f"{named}:// is not a protocol of the server")
    if protocol not in (None, named):
        raise ArgumentError(f"the server is {text}, but protocol is {protocol!r}; leave one of them out")
    try:
        parts = urlsplit(f"//{rest}")
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if not host or parts.path.strip("/") or " " in rest:
        raise _bad(url, "only a host and a port can be named")
    chosen: Protocol = "http" if named == "http" else "grpc"
    return Address(protocol=chosen, host=host, port=PORTS[chosen] if port is None else port)


def _bad(url: object, why: str) -> ArgumentError:
    return ArgumentError(f"the server is {short(url)}: {why}; write host:port, grpc://host:8001 or http://host:8000")


FACTS_S = 10.0
"""How long to wait for what a server knows by heart: it takes milliseconds, however busy its models are."""

_SAID = {error.__name__: error for error in (ArgumentError, ImageError, NonFiniteError, OutOfMemoryError)}
_BUSY = ("StatusCode.UNAVAILABLE", "502", "503")  # 502: a proxy finds no server
LATE = ("StatusCode.DEADLINE_EXCEEDED", "504")
_NO_CONNECTION = ("failed to connect to all addresses", "errors resolving")  # the reason is at the end
_UNKNOWN = ("StatusCode.NOT_FOUND", "404")

_CANCELLED = "cancelled by the caller"

_T = TypeVar("_T")


class NotThereError(Exception):
    """The server cannot be reached or says that it is unavailable: the same call may work later."""


class UnknownModelError(Exception):
    """The server has no such model."""


class Client(ABC):
    """One server. Thread-safe. Every call ends at a deadline, and no answer is larger than a limit.

    timeout: seconds for a call that is work; others have :data:`FACTS_S` at most.

    Methods raise NotThereError, UnknownModelError, MalformedError, RemoteError, CancelledError, DeviceError once it was
    closed, and what the server says as :meth:`_typed`.
    """

    failures: tuple[type[Exception], ...]

    def __init__(self, address: Address, *, timeout: float, max_message_bytes: int) -> None:
        self._address = address
        self._timeout = timeout
        self._max_message_bytes = max_message_bytes
        self._closed = False

    @abstractmethod
    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters of a model's config."""

    @abstractmethod
    def models(self) -> list[str]:
        """Return the names of the models that the server can answer for."""

    @abstractmethod
    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], output: str, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return the output of this name, which must be float32 of this shape."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections. Closing twice is harmless."""

    @abstractmethod
    def _meant(self, error: Any, *, work: bool) -> Exception:
        """The error that one of :attr:`failures` means; a TimeoutError is :meth:`_late`."""

    def _seconds(self, *, work: bool) -> float:
        return self._timeout if work else min(self._timeout, FACTS_S)

    def _by_deadline(
        self, exchange: Callable[[], _T], *, work: bool, stop: Callable[[], None], margin: float = 0.0
    ) -> _T:
        """Return what the exchange returns. stop: ends it early. margin: seconds beyond the exchange's own deadline."""
        try:
            return abandonable(exchange, seconds=self._seconds(work=work) + margin, stop=stop)
        except concurrent.futures.CancelledError as error:
            raise CancelledError(_CANCELLED) from error
        except self.failures as error:
            if self._closed:
                raise closed_meanwhile() from error
            raise (
                self._late(work=work) if isinstance(error, TimeoutError) else self._meant(error, work=work)
            ) from error

    def _late(self, *, work: bool) -> Exception:
        """The server took too long for its work, or nothing came from it."""
        if not work:
            return NotThereError(f"no answer within {self._seconds(work=work):g} s")
        return RemoteError(
            f"the server {self._address} did not answer within {self._timeout:g} s; it may be busy, or the tile large: "
            "use a longer timeout, or smaller tiles"
        )

    def _typed(self, message: str, status: str) -> Exception:
        """The error that an error of the server's, or of the way there, means here."""
        name, _, reason = message.partition(": ")
        if is_cancelled():
            return CancelledError(_CANCELLED)
        if name in _SAID:
            error: SRFlowError = _SAID[name](f"the server {self._address} says: {reason}")
            return error
        if status in _BUSY:
            connecting = message.startswith(_NO_CONNECTION)
            return NotThereError(message.rpartition(": ")[2].rstrip("]") if connecting else message)
        if status in LATE:
            return self._late(work=True)
        if status in _UNKNOWN:
            return UnknownModelError(message)
        return RemoteError(f"the server {self._address} failed: {message}")


def closed_meanwhile() -> DeviceError:
    """Another thread closed the client."""
    return DeviceError("this Upscaler was closed while it was used: make another one")
