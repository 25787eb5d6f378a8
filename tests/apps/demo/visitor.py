"""A visitor of srflow-demo without a browser: what the page's scripts ask, and whatever else."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

CONTROLS = {
    "tau": 0.8,
    "auto": False,
    "seed": 3,
    "side": 96,
    "sample": 0,
    "left": None,
    "top": None,
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """Asks a served page. url: the printed one, with its token. page: the key of its page, once
    there is one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or 0
        self.query = parts.query
        self.cookie = ""
        self.page = ""

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request, with the visitor's cookie unless the headers have another. A dict is
        sent as JSON."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        sent = {"Cookie": self.cookie, **(headers or {})}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        try:
            connection.request(
                method, path, body, {name: value for name, value in sent.items() if value}
            )
            answer = connection.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def enter(self) -> Answer:
        """Open the printed address, and keep the cookie."""
        answer = self.ask("GET", f"/?{self.query}")
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        return answer

    def open(self) -> Visitor:
        """Open a page, as its scripts do."""
        if not self.cookie:
            self.enter()
        self.page = self.ask("POST", "/pages").json()["page"]
        assert self.of_page("POST", "alive").status == 200
        return self

    def of_page(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask for something of the visitor's page."""
        return self.ask(method, f"/pages/{self.page}/{path}", body, headers)

    def send(self, picture: str, name: str, contents: Any) -> Answer:
        """Send a picture."""
        return self.of_page("PUT", f"pictures/{picture}?name={quote(name)}", contents)

    def begin(self, picture: str, contents: bytes, *, length: int) -> http.client.HTTPConnection:
        """Send the beginning of a picture."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        connection.putrequest("PUT", f"/pages/{self.page}/pictures/{picture}?name=slow.png")
        connection.putheader("Cookie", self.cookie)
        connection.putheader("Content-Length", str(length))
        connection.endheaders(contents)
        return connection

    def finish(self, tab: str, **said: Any) -> dict[str, Any]:
        """Begin long work and wait for its end: what the server tells of it."""
        begun = self.of_page("POST", f"work/{tab}", {"format": "png", **said})
        assert begun.status == 200, begun
        while True:
            told: dict[str, Any] = self.of_page("GET", f"work/{tab}").json()
            if told["state"] not in ("waiting", "running"):
                return told
            threading.Event().wait(0.05)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until it is true; half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
