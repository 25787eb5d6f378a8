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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srflow_apps.demo.guard import Tokens, guarded
from srflow_apps.demo.routes import Limits, Routes
from srflow_apps.demo.sessions import Sessions
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.files import libvips
from srflow_sdk.system.interrupts import Interrupts
from srflow_sdk.system.raising import require_extra
from srflow_sdk.upscaler import Upscaler

_CHECK_S = 1.0  # between two looks for pages that ended
_LOOK_S = 0.05  # between two looks for a signal
_SHUTDOWN_S = 1
_CONNECTIONS = 512
_ANY = ("0.0.0.0", "::")


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
        if isinstance(error, PermissionError):
            raise DeviceError(f"port {port} needs an administrator; {fix}") from error
        raise DeviceError(f"port {port} of {host} cannot be used ({why}); {fix}") from error


def serve(
    upscaler: Upscaler,
    listener: socket.socket,
    *,
    limits: Limits,
    names: Sequence[str],
    open_browser: bool,
    say: Callable[[str], None],
    interrupts: Interrupts,
) -> None:
    """Serve the page until a signal comes. say: prints the address once the page answers.

    names: of this machine, under which the page may be asked for beside the address that it is reached at.

    Raises: MissingExtraError without the extra `demo`.
    """
    host, port = listener.getsockname()[:2]
    tokens = Tokens(port)
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"http://[{place}]:{port}/?token=" if ":" in place else f"http://{place}:{port}/?token="
    uvicorn = require_extra("uvicorn", "demo")
    with tempfile.TemporaryDirectory(prefix="srflow-demo-", ignore_cleanup_errors=True) as folder:
        libvips.pyvips().cache_set_max(0)  # no pixels of a page that was closed stay in memory
        sessions = Sessions(Path(folder).resolve())
        routes = Routes(upscaler, sessions, limits)
        known = [name.lower() for name in names if name not in _ANY]
        config = uvicorn.Config(
            guarded(routes.application(), tokens, names=known),
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # they are handled here
        # Once it ends, uvicorn reports each page that was still open, with a traceback.
        logging.getLogger("uvicorn.error").addFilter(lambda _: interrupts.number is None and not server.should_exit)

        def started() -> None:
            say(address + tokens.printed)
            if open_browser:  # with another token: other users may read a browser's command line
                threading.Thread(target=webbrowser.open, args=(address + tokens.once(),), daemon=True).start()

        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_CHECK_S):
                sessions.release()

        watcher = threading.Thread(target=watch, name="srflow-demo-watch", daemon=True)
        watcher.start()
        try:
            interrupts()
            asyncio.run(_served(server, listener, started, interrupts))
        finally:
            routes.stop()
            sessions.close_all()
            ended.set()
            watcher.join()
            sessions.release()


async def _served(server: Any, listener: socket.socket, started: Callable[[], None], interrupts: Interrupts) -> None:
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    said = False
    while not serving.done():
        if server.started and not said:
            started()
            said = True
        server.should_exit |= interrupts.number is not None
        await asyncio.wait([serving], timeout=_LOOK_S)
    await serving
