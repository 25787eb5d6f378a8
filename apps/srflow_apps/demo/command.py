"""The command srflow-demo: its options and exit statuses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import click

from srflow_apps.batch.choices import MachineChoices, Pixels
from srflow_apps.commands.base_command import SETTINGS, Command, NameOrPath, exit_statuses, say
from srflow_apps.commands.options import with_options_of
from srflow_sdk._version import __version__
from srflow_sdk.drawing.options import option
from srflow_sdk.system.interrupts import STOPPING, deferred_interrupts


@dataclass(frozen=True, kw_only=True)
class PageChoices:
    """Where the page is served and to whom, and how large what is sent may be."""

    host: str = option("127.0.0.1", "Address to serve at. 0.0.0.0 lets other machines in, unencrypted.")
    port: int = option(7860, "Port to serve at; 0 takes a free one.", least=0, up_to=65535)
    allow_host: tuple[str, ...] = option(
        (), "Name of this machine in addresses, such as lab.example; may be repeated.", metavar="NAME"
    )
    open: bool = option(False, "Open the page in a browser.")
    max_upload: Pixels = option(100_000_000, "Refuse larger files, in bytes.  [default: 100M]", metavar="N")
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

    The page's address is printed; --open opens it. It holds a token, without which nobody gets in, and only this
    machine reaches it unless --host says otherwise. Pictures stay here and are deleted when their page is closed.
    Nothing is loaded from the internet, and nothing is reported. Ctrl-C ends it. It needs the extra packages of: pip
    install "srflow-sdk[demo]"

    Exit status: 0 ended, 1 something failed, 2 wrong usage, 130 interrupted.

    \b
    Examples:
      srflow-demo --open
      srflow-demo --model model.srflow --port 8000
    """
    with exit_statuses(), deferred_interrupts(*STOPPING) as interrupts:
        from srflow_apps.demo.guard import is_loopback
        from srflow_apps.demo.page_server import listening, serve
        from srflow_sdk.upscaler import Upscaler

        choices = PageChoices(**{field.name: values.pop(field.name) for field in fields(PageChoices)})
        with listening(choices.host, choices.port) as listener, Upscaler(model, **values) as upscaler:
            interrupts()
            if not is_loopback(listener.getsockname()[0]):
                warning = (
                    f"warning: other machines reach this page at {choices.host}; whoever has its address can use it"
                )
                say(f"{warning}, and what is sent is not encrypted")
            serve(upscaler, listener, choices, interrupts, say=lambda address: click.echo(f"srflow-demo: {address}"))


if __name__ == "__main__":
    demo()
