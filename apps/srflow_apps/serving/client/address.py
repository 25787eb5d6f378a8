"""Where a server is: `host`, `host:port`, `grpc://host:port` or `http://host:port`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from srflow_sdk.errors import ArgumentError
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
