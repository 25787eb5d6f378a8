"""Serves the page: a port of this machine alone unless told otherwise, sizes limited, and nothing from elsewhere."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srflow_sdk._demo.page import build
from srflow_sdk._demo.sessions import SESSION_IDLE_S, Sessions
from srflow_sdk._files import libvips
from srflow_sdk._raising import require_extra
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.upscaler import Upscaler

_CHECK_S = 30.0  # between two looks for idle pages
_SHUTDOWN_S = 1
_LOCAL_NAMES = ("127.0.0.1", "localhost")
# Gradio's page makes functions of strings. Whatever it, or a library in it, would load from elsewhere is refused.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'self'; form-action 'self'"
)
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_RUN_HISTORY": "False",
}

_Scope = MutableMapping[str, Any]
_Application = Callable[[_Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """upload_bytes: of a file that is sent. pixels: of a picture, width × height."""

    upload_bytes: int
    pixels: int


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises: ArgumentError, DeviceError if it is in use."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _no_address(host, error) from error
    found = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_address(host, error) from error
        fix = "choose another with --port, or --port 0 for a free one"
        if isinstance(error, PermissionError):
            raise DeviceError(f"port {port} needs an administrator; {fix}") from error
        raise DeviceError(f"port {port} of {host} cannot be used ({error.strerror}); {fix}") from error
    return found


def _no_address(host: str, error: OSError) -> ArgumentError:
    return ArgumentError(f"{host} is no address of this machine ({error.strerror}); try --host 127.0.0.1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a socket at this address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def serve(
    upscaler: Upscaler, listener: socket.socket, *, limits: Limits, open_browser: bool, say: Callable[[str], None]
) -> None:
    """Serve the page until Ctrl-C or SIGTERM. say: prints the address once the page answers.

    Raises: MissingExtraError without the extra `demo`.
    """
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    with _files() as folder:
        os.environ.update(_QUIET, GRADIO_TEMP_DIR=str(folder))  # before Gradio is imported, which reads them then
        gradio = require_extra("gradio", "demo")
        uvicorn = require_extra("uvicorn", "demo")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        libvips.pyvips().cache_set_max(0)  # no pixels of a page that was closed stay in memory
        sessions = Sessions(folder)
        page = build(gradio, upscaler, sessions, max_pixels=limits.pixels)
        page.blocks.delete_cache = (60, SESSION_IDLE_S)
        fastapi = require_extra("fastapi", "demo")
        application = gradio.mount_gradio_app(
            fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            page.blocks,
            "/",
            server_name=host,
            server_port=port,
            footer_links=[],
            run_history=False,
            app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
            allowed_paths=[],
            show_error=True,
            max_file_size=limits.upload_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=page.theme,
            css=page.css,
        )
        local = [*_LOCAL_NAMES, host] if is_loopback(host) else None
        config = uvicorn.Config(
            guarded(application, names=local),
            log_level="warning",
            timeout_graceful_shutdown=_SHUTDOWN_S,
            lifespan="on",
        )
        server = uvicorn.Server(config)
        # Once it ends, uvicorn reports each page that was still open, with a traceback.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
        ended = threading.Event()

        def watch() -> None:
            while not server.started and not ended.wait(0.02):
                pass
            if not ended.is_set():
                say(address)
                if open_browser:
                    webbrowser.open(address)
            while not ended.wait(_CHECK_S):
                sessions.release_idle()

        watcher = threading.Thread(target=watch, name="srflow-demo-watch", daemon=True)
        watcher.start()
        try:
            server.run(sockets=[listener])
        finally:
            ended.set()
            watcher.join()
            sessions.end_all()


def guarded(application: _Application, *, names: list[str] | None) -> _Application:
    """The application, with a policy that keeps a browser from loading anything from elsewhere.

    names: under which it may be asked for; others are refused, so that a page elsewhere cannot reach it through a name
    that it points at this machine. What such a page sends to the right name, as a browser lets it, is refused by its
    origin. None: any name and origin.
    """

    async def guard(
        scope: _Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        asked = headers.get(b"host", "")
        name = asked.rpartition(":")[0] if asked.rpartition(":")[2].isdigit() else asked
        if names is not None and name.strip("[]") not in names:
            await _refuse(send, 421, b"This page is only served as 127.0.0.1 or localhost.\n")
            return
        if names is not None and headers.get(b"origin", f"http://{asked}") != f"http://{asked}":
            await _refuse(send, 403, b"Other pages may not ask this one for anything.\n")
            return

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", _POLICY.encode())]
                headers += [(b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": headers}
            await send(message)

        await application(scope, receive, send_with_policy)

    return guard


async def _refuse(send: Callable[[Any], Awaitable[None]], status: int, line: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": line})


@contextlib.contextmanager
def _files() -> Iterator[Path]:
    """A folder for all files of all pages, readable by this user alone, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="srflow-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()
