"""The base of the clients of both protocols: the deadlines of calls, and the meaning of failures."""

from __future__ import annotations

import concurrent.futures
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_apps.serving.client.address import Address
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
    closed, and what the server says as :func:`typed`.
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
        """The error that one of :attr:`failures` means, of which TimeoutError is one."""

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
        return late(self._address, self._timeout) if work else silent(self._seconds(work=work))


def typed(message: str, status: str, *, address: Address, timeout: float) -> Exception:
    """Return the error that an error of the server's, or of the way there, means here."""
    name, _, reason = message.partition(": ")
    if is_cancelled():
        return CancelledError(_CANCELLED)
    if name in _SAID:
        error: SRFlowError = _SAID[name](f"the server {address} says: {reason}")
        return error
    if status in _BUSY:
        connecting = message.startswith(_NO_CONNECTION)
        return NotThereError(message.rpartition(": ")[2].rstrip("]") if connecting else message)
    if status in LATE:
        return late(address, timeout)
    if status in _UNKNOWN:
        return UnknownModelError(message)
    return RemoteError(f"the server {address} failed: {message}")


def closed_meanwhile() -> DeviceError:
    """Another thread closed the client."""
    return DeviceError("this Upscaler was closed while it was used: make another one")


def silent(seconds: float) -> NotThereError:
    """Nothing came from the server."""
    return NotThereError(f"no answer within {seconds:g} s")


def late(address: Address, timeout: float) -> RemoteError:
    """The server took too long for its work."""
    return RemoteError(
        f"the server {address} did not answer within {timeout:g} s; it may be busy, or the tile large: use a longer "
        "timeout, or smaller tiles"
    )
