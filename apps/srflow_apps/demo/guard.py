"""Lets requests through that come from the page itself, of a browser that was given the token,
under a known name.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Everything is ours and in files: no inline scripts or styles, no eval, no other address.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "
    "'self'; "
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
_NO_TOKEN = (
    "This address lacks its token. Open the whole address that srflow-demo printed in its terminal."
)
_OTHER_PAGE = "Other pages may not ask this one for anything."
_OTHER_NAME = (
    "srflow-demo does not know this name of its machine; start it with --allow-host NAME if it is "
    "yours."
)


class Guard:
    """An ASGI application, for requests of its own page alone.

    A request must name, as Host, the address that it reached or one of `names`, so that no page
    elsewhere reaches it through a name which it points at this machine. Its Origin, and
    Sec-Fetch-Site if it has one, must be the page's own; SameSite and the origin's port alone would
    let other ports of this machine in. And it must have the token of the printed address, which
    opens the page alone, or the cookie that is set then.

    port: for the cookie's name, since browsers send cookies to all ports of a name.
    """

    def __init__(self, application: ASGIApp, *, port: int, names: Sequence[str]) -> None:
        self._application = application
        self._names = names
        self.token = secrets.token_urlsafe(32)
        self._once: set[str] = set()
        self._cookie = f"srflow-demo-{port}"
        self._secret = secrets.token_urlsafe(32)

    def token_once(self) -> str:
        """A token that opens the page one time, for a command line, which every user of the machine
        can read.
        """
        token = secrets.token_urlsafe(32)
        self._once.add(token)
        return token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # uvicorn closes what nobody accepts
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        request = Request(scope)
        own = list(_HEADERS)
        answer = self._application
        asked = request.headers.get("host", "").lower()
        origin = request.headers.get("origin", f"http://{asked}").lower()
        if not _is_known(asked, reached=scope.get("server"), names=self._names):
            answer = PlainTextResponse(_OTHER_NAME, 421, {"connection": "close"})
        elif scope["path"] == "/" and self._opens(request.query_params.get("token", "")):
            # Whoever knows it may be sent here from anywhere, such as a mail.
            cookie = f"{self._cookie}={self._secret}; HttpOnly; SameSite=Strict; Path=/"
            own.append((b"set-cookie", cookie.encode()))
        elif request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none") or (
            origin not in (f"http://{asked}", f"https://{asked}")
        ):
            answer = PlainTextResponse(_OTHER_PAGE, 403, {"connection": "close"})
        elif not _same(request.cookies.get(self._cookie, ""), self._secret):
            answer = PlainTextResponse(_NO_TOKEN, 403, {"connection": "close"})

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await answer(scope, receive, sent)

    def _opens(self, token: str) -> bool:
        """True if a token opens the page; one that does so once is spent."""
        once = next((one for one in self._once if _same(token, one)), "")
        self._once.discard(once)
        return bool(once) or _same(token, self.token)


def _is_known(asked: str, *, reached: tuple[str, int] | None, names: Sequence[str]) -> bool:
    name, colon, port = asked.rpartition(":")
    if not colon or not port.isdigit():
        name = asked
    name = name.removeprefix("[").removesuffix("]")
    if name in names:
        return True
    try:
        address = ipaddress.ip_address(name)
        at = ipaddress.ip_address((reached or ("", 0))[0].partition("%")[0])
    except ValueError:
        return reached is not None and name == "localhost" and is_loopback(reached[0])
    return address in (at, getattr(at, "ipv4_mapped", None))


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a socket at this address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.strip().encode("utf-8", "surrogatepass"), other.encode())
