"""What the client needs of a protocol, and what failures mean, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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
from srflow_sdk.system.interruptible import is_cancelled

FACTS_S = 10.0
"""How long to wait for what a server knows by heart: it takes milliseconds, however busy its models are."""

_SAID = {error.__name__: error for error in (ArgumentError, ImageError, NonFiniteError, OutOfMemoryError)}
_BUSY = ("StatusCode.UNAVAILABLE", "502", "503")  # 502: a proxy finds no server
_LATE = ("StatusCode.DEADLINE_EXCEEDED", "504")
_NO_CONNECTION = ("failed to connect to all addresses", "errors resolving")  # the reason is at the end
_UNKNOWN = ("StatusCode.NOT_FOUND", "404")


class NotThereError(Exception):
    """The server cannot be reached or says that it is unavailable: the same call may work later."""


class UnknownModelError(Exception):
    """The server has no such model."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request. inputs: by name. output: the one that is wanted, a float32 tensor of this shape."""

    model: str
    inputs: Mapping[str, NDArray[Any]]
    output: str
    shape: tuple[int, ...]


class Client(Protocol):
    """One server. Thread-safe. Every call ends at a deadline, and no answer is larger than a limit.

    Raises: NotThereError, UnknownModelError, MalformedError, RemoteError, CancelledError, DeviceError once it was
    closed, and what the server says as :func:`typed`.
    """

    def parameters(self, model: str) -> dict[str, str]:
        """The parameters of a model's config."""

    def models(self) -> list[str]:
        """Names of the models that the server can answer for."""

    def infer(self, call: Call) -> NDArray[np.float32]:
        """The output."""

    def close(self) -> None:
        """Close the connections."""


def typed(message: str, status: str, *, address: Address, timeout: float) -> Exception:
    """What an error of the server's, or of the way there, means here."""
    name, _, reason = message.partition(": ")
    if is_cancelled():
        return cancelled_here()
    if name in _SAID:
        error: SRFlowError = _SAID[name](f"the server {address} says: {reason}")
        return error
    if status in _BUSY:
        connecting = message.startswith(_NO_CONNECTION)
        return NotThereError(message.rpartition(": ")[2].rstrip("]") if connecting else message)
    if status in _LATE:
        return late(address, timeout)
    if status in _UNKNOWN:
        return UnknownModelError(message)
    return RemoteError(f"the server {address} failed: {message}")


def cancelled_here() -> CancelledError:
    """The caller's event was set."""
    return CancelledError("cancelled by the caller")


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
