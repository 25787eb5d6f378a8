"""Lets requests through that come from the page itself, of a browser that was given the token, under a known name."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qs

# Everything is ours and in files: no inline scripts or styles, no eval, no other address.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_NO_TOKEN = "This address lacks its token. Open the whole address that srflow-demo printed in its terminal."
_OTHER_PAGE = "Other pages may not ask this one for anything."
_OTHER_NAME = "srflow-demo does not know this name of its machine; start it with --allow-host NAME if it is yours."

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Tokens:
    """The proofs that let a browser in: the token of the printed address, which also opens the page, or a cookie.

    port: for the cookie's name, since browsers send cookies to all ports of a name.
    """

    def __init__(self, port: int) -> None:
        self.printed = secrets.token_urlsafe(32)
        self._cookie_name = f"srflow-demo-{port}"
        self._cookie = secrets.token_urlsafe(32)
        self._once: list[str] = []

    def once(self) -> str:
        """A token that opens the page one time, for a command line, which every user of the machine can read."""
        self._once.append(secrets.token_urlsafe(32))
        return self._once[-1]

    def opens(self, query: bytes) -> bool:
        """Return True if a query has a token that opens the page."""
        for token in parse_qs(query.decode("latin-1")).get("token", []):
            if _same(token, self.printed):
                return True
            for once in list(self._once):
                if _same(token, once):
                    self._once.remove(once)
                    return True
        return False

    def knows(self, cookies: Sequence[str]) -> bool:
        """Return True if a request's cookie headers have ours, among those that other ports of the name set."""
        pairs = (pair.partition("=") for cookie in cookies for pair in cookie.split(";"))
        return any(name.strip() == self._cookie_name and _same(value.strip(), self._cookie) for name, _, value in pairs)

    def header(self) -> tuple[bytes, bytes]:
        """The header that sets the cookie."""
        return b"set-cookie", f"{self._cookie_name}={self._cookie}; HttpOnly; SameSite=Strict; Path=/".encode()


def guarded(application: Application, tokens: Tokens, *, names: Sequence[str]) -> Application:
    """The application, for requests of its own page alone.

    A request must name, as Host, the address that it reached or one of `names`, so that no page elsewhere reaches it
    through a name which it points at this machine. Its Origin, and Sec-Fetch-Site if it has one, must be the page's
    own; SameSite and the origin's port alone would let other ports of this machine in. And it must have the token.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # uvicorn closes what nobody accepts
        headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]

        def values(name: bytes) -> list[str]:
            return [value for known, value in headers if known == name]

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS, *cookie]}
            await send(message)

        cookie: list[tuple[bytes, bytes]] = []
        asked = "".join(values(b"host")).lower()
        if not _is_known(asked, reached=scope.get("server"), names=names):
            await _refuse(send_with_headers, 421, _OTHER_NAME)
            return
        if scope["path"] == "/" and tokens.opens(scope["query_string"]):
            cookie.append(tokens.header())  # whoever knows it may be sent here from anywhere, such as a mail
        elif not (
            all(site in ("same-origin", "none") for site in values(b"sec-fetch-site"))
            and all(origin.lower() in (f"http://{asked}", f"https://{asked}") for origin in values(b"origin"))
        ):
            await _refuse(send_with_headers, 403, _OTHER_PAGE)
            return
        elif not tokens.knows(values(b"cookie")):
            await _refuse(send_with_headers, 403, _NO_TOKEN)
            return
        await application(scope, receive, send_with_headers)

    return guard


def _is_known(asked: str, *, reached: tuple[str, int] | None, names: Sequence[str]) -> bool:
    name, colon, port = asked.rpartition(":")
    if not colon or not port.isdigit():
        name = asked
    name = name.removeprefix("[").removesuffix("]")
    if name in names:
        return True
    try:
        address, at = ipaddress.ip_address(name), ipaddress.ip_address((reached or ("", 0))[0].partition("%")[0])
    except ValueError:
        return reached is not None and name == "localhost" and is_loopback(reached[0])
    return address in (at, getattr(at, "ipv4_mapped", None))


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a socket at this address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


async def _refuse(send: Send, status: int, line: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{line}\n".encode()})
