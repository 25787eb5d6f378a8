"""Serves the page: a port of this machine alone unless told otherwise, until a signal asks to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srflow_apps.demo.command import PageChoices
from srflow_apps.demo.guard import Guard
from srflow_apps.demo.routes import Routes
from srflow_apps.demo.sessions import Sessions
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.files import libvips
from srflow_sdk.system.interrupts import Interrupts
from srflow_sdk.system.raising import require_extra
from srflow_sdk.upscaler import Upscaler

_LOOK_S = 0.05  # between two looks for a signal, and for pages that fell silent
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises: ArgumentError, DeviceError if it is in use."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, dualstack_ipv6=family == socket.AF_INET6)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # Python adds the address
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ArgumentError(f"{host} is no address of this machine ({why}); try --host 127.0.0.1") from error
        fix = "choose another with --port, or --port 0 for a free one"
        raise DeviceError(f"port {port} of {host} cannot be used ({why}); {fix}") from error


def serve(
    upscaler: Upscaler,
    listener: socket.socket,
    choices: PageChoices,
    interrupts: Interrupts,
    *,
    say: Callable[[str], None],
) -> None:
    """Serve the page until a signal comes. say: prints the address once the page answers. Raises: MissingExtraError."""
    uvicorn, _ = require_extra("uvicorn", "demo"), require_extra("starlette", "demo")
    host, port = listener.getsockname()[:2]
    place = _ANY.get(host, host)
    with tempfile.TemporaryDirectory(prefix="srflow-demo-", ignore_cleanup_errors=True) as folder:
        libvips.pyvips().cache_set_max(0)  # no pixels of a page that was closed stay in memory
        sessions = Sessions(Path(folder).resolve())
        routes = Routes(upscaler, sessions, upload_bytes=choices.max_upload, max_pixels=choices.max_pixels)
        names = [name.lower() for name in (choices.host, *choices.allow_host) if name not in _ANY]
        guard = Guard(routes.application(), port=port, names=names)
        address = f"http://{f'[{place}]' if ':' in place else place}:{port}/?token="
        config = uvicorn.Config(
            guard,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=512,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # they are handled here
        # Once it ends, uvicorn reports each page that was still open, with a traceback.
        logging.getLogger("uvicorn.error").addFilter(lambda _: interrupts.number is None and not server.should_exit)

        def started() -> None:
            say(address + guard.token)
            if choices.open:  # with another token: other users may read a browser's command line
                threading.Thread(target=webbrowser.open, args=(address + guard.token_once(),), daemon=True).start()

        try:
            interrupts()
            asyncio.run(_served(server, listener, started, interrupts, sessions))
        finally:
            routes.stop()


async def _served(
    server: Any, listener: socket.socket, started: Callable[[], None], interrupts: Interrupts, sessions: Sessions
) -> None:
    serving, said = asyncio.ensure_future(server.serve(sockets=[listener])), False
    while not serving.done():
        if server.started and not said:
            started()
            said = True
        server.should_exit |= interrupts.number is not None
        await sessions.close_silent()
        await asyncio.wait([serving], timeout=_LOOK_S)
    await serving
