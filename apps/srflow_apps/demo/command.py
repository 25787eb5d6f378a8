"""The command srflow-demo: serves its page, to this machine alone unless told otherwise, until a
signal comes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import tempfile
import threading
import webbrowser
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srflow_apps.batch.choices import MachineChoices, Pixels
from srflow_apps.commands.base_command import SETTINGS, Command, NameOrPath, exit_statuses, say
from srflow_apps.commands.options import with_options_of
from srflow_apps.commands.signals import STOPPING, Interrupts, deferred_interrupts
from srflow_apps.demo.guard import Guard, is_loopback
from srflow_sdk import __version__
from srflow_sdk.drawing.options import option
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.system.hardware import require_extra

if TYPE_CHECKING:
    from srflow_sdk.upscaler import Upscaler

_LOOK_S = 0.05  # between two looks for a signal, and for pages that fell silent
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, kw_only=True)
class PageChoices:
    """Where the page is served and to whom, and how large what is sent may be."""

    host: str = option(
        "127.0.0.1", "Address to serve at. 0.0.0.0 lets other machines in, unencrypted."
    )
    port: int = option(7860, "Port to serve at; 0 takes a free one.", least=0, up_to=65535)
    allow_host: tuple[str, ...] = option(
        (),
        "Name of this machine in addresses, such as lab.example; may be repeated.",
        metavar="NAME",
    )
    open: bool = option(False, "Open the page in a browser.")
    max_upload: Pixels = option(
        100_000_000, "Refuse larger files, in bytes.  [default: 100M]", metavar="N"
    )
    max_pixels: Pixels = option(50_000_000, "Refuse larger pictures.  [default: 50M]", metavar="N")


@click.command(cls=Command, context_settings=SETTINGS)
@click.option(
    "--model",
    metavar="auto|NAME|BUNDLE",
    type=NameOrPath(),
    help="Model; auto: the page has a choice, and takes what suits each photo.  [default: auto]",
)
@with_options_of(PageChoices)
@with_options_of(MachineChoices, leave=("max_pixels", "quiet"))
@click.version_option(__version__, prog_name="srflow-demo")
def demo(*, model: str | None, **values: Any) -> None:
    """Serve a local page to play with a photo: temperature, seed, eight samples and restoring.

    The page's address is printed; --open opens it. It holds a token, without which nobody gets in,
    and only this machine reaches it unless --host says otherwise. Pictures stay here and are
    deleted when their page is closed. Nothing is loaded from the internet, and nothing is reported.
    Ctrl-C ends it. It needs the extra packages of: pip install "srflow-sdk[demo]"

    Exit status: 0 ended, 1 something failed, 2 wrong usage, 130 interrupted.

    \b
    Examples:
      srflow-demo --open
      srflow-demo --model model.srflow --port 8000
    """
    with exit_statuses(), deferred_interrupts(*STOPPING) as interrupts:
        from srflow_sdk.upscaler import Upscaler

        choices = PageChoices(
            **{field.name: values.pop(field.name) for field in fields(PageChoices)}
        )
        with (
            open_listener(choices.host, choices.port) as listener,
            Upscaler(model, **values) as upscaler,
        ):
            interrupts()
            if not is_loopback(listener.getsockname()[0]):
                who = (
                    f"other machines reach this page at {choices.host}; whoever has its address "
                    "can use it"
                )
                say(f"warning: {who}, and what is sent is not encrypted")
            serve(upscaler, listener, choices, interrupts)


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises: ArgumentError, DeviceError if
    it is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(
            address, family=family, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        why = error.strerror
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ArgumentError(
                f"{host} is no address of this machine ({why}); try --host 127.0.0.1"
            ) from error
        fix = "choose another with --port, or --port 0 for a free one"
        raise DeviceError(f"port {port} of {host} cannot be used ({why}); {fix}") from error


def serve(
    upscaler: Upscaler, listener: socket.socket, choices: PageChoices, interrupts: Interrupts
) -> None:
    """Serve the page until a signal comes; its address is printed once it answers. Raises:
    MissingExtraError.
    """
    require_extra("uvicorn", "demo")
    require_extra("starlette", "demo")
    import asyncio

    from srflow_apps.demo.routes import Routes
    from srflow_apps.demo.sessions import Sessions

    host, port = listener.getsockname()[:2]
    place = _ANY.get(host, host)
    with tempfile.TemporaryDirectory(prefix="srflow-demo-", ignore_cleanup_errors=True) as folder:
        sessions = Sessions(Path(folder).resolve())
        routes = Routes(
            upscaler, sessions, upload_bytes=choices.max_upload, max_pixels=choices.max_pixels
        )
        names = [name.lower() for name in (choices.host, *choices.allow_host) if name not in _ANY]
        guard = Guard(routes.application(), port=port, names=names)
        address = f"http://{f'[{place}]' if ':' in place else place}:{port}/?token="
        server = _make_server(guard, interrupts)

        def announce() -> None:
            click.echo(f"srflow-demo: {address}{guard.token}")
            if choices.open:  # with another token: other users may read a browser's command line
                opening = (address + guard.token_once(),)
                threading.Thread(target=webbrowser.open, args=opening, daemon=True).start()

        async def run_server() -> None:
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            announced = False
            while not serving.done():
                if server.started and not announced:
                    announced = True
                    announce()
                server.should_exit |= interrupts.number is not None
                await sessions.close_silent()
                await asyncio.wait([serving], timeout=_LOOK_S)
            await serving

        try:
            interrupts()
            asyncio.run(run_server())
        finally:
            routes.stop()


def _make_server(guard: Guard, interrupts: Interrupts) -> Any:
    """Make the server of the page, which leaves signals to the command. Raises:
    MissingExtraError.
    """
    uvicorn = require_extra("uvicorn", "demo")
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
    server.capture_signals = contextlib.nullcontext
    # Once it ends, uvicorn reports each page that was still open, with a traceback.
    logging.getLogger("uvicorn.error").addFilter(
        lambda _: interrupts.number is None and not server.should_exit
    )
    return server


if __name__ == "__main__":
    demo()
