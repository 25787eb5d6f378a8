"""The command `srflow-eval`, with a command for each protocol.

Heavy modules are imported when a protocol runs.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from srflow_apps.commands.base_command import Command, fail, wait_asleep
from srflow_apps.commands.signals import STOPPING, exit_status, raised_interrupts
from srflow_evaluation.protocols import PROTOCOLS
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.plain_text import without_secrets
from srflow_sdk.system.hardware import require_extra
from srflow_training.inputs import check_folder, check_model, require_all

_PRINTED = ("hr", "models", "taus", "metrics", "device")  # what report takes without a folder


class _Protocols(Command, click.Group):
    """The commands of all protocols. Its help lists them first, with a line for each."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Protocols"):
            formatter.write_dl(
                [(name, command.get_short_help_str()) for name, command in self.commands.items()]
            )
        super().format_options(ctx, formatter)

    def resolve_command(
        self,
        ctx: click.Context,
        args: list[str],
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail(
                f"there is no protocol {without_secrets(args[0])!r}: choose one of "
                f"{', '.join(self.commands)}"
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Protocols,
    options_metavar="",
    subcommand_metavar="PROTOCOL [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="srflow-eval")
def evaluate() -> None:
    """Measure a model on photographs. `srflow-eval PROTOCOL --help` lists a protocol's options.

    Most protocols are the publication's experiments, on whole photographs: OUT gets results.csv (a
    row per picture and method), summary.json, plots and sheets of crops. A run that was stopped
    continues where it was.

    \b
      srflow-eval report --hr PHOTOS
      srflow-eval report --hr PHOTOS --pictures 2 --crop 256 -o OUT
      srflow-eval tau-sweep --hr PHOTOS -o OUT
      srflow-eval restore --hr PHOTOS --degradation jpeg:30 -o OUT
      srflow-eval damaged --hr PHOTOS --model A.srflow --model B.srflow -o OUT
      srflow-eval transfer --hr PHOTOS --source OTHERS --mask MASKS -o OUT
      srflow-eval best-of-n --hr DIV2K/HR --lr DIV2K/LR --model x4.pth \\
        --reference RRDB_ESRGAN_x4.pth -o OUT
    """


def _run(name: str, /, **given: Any) -> None:
    """Check a protocol's inputs before torch is loaded, run it, and print its table, or an error in
    one line.
    """
    output = given.get("output")
    try:
        check_folder(given["hr"], option="--hr")
        # that one takes nothing but bundles
        for model in () if name == "default-tau" else given["models"]:
            check_model(model)
        wait_asleep()
        with raised_interrupts(*STOPPING):
            require_all()
            printed = _measure(name, given)
    except SRFlowError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or output}: {error.strerror or error}")
    except KeyboardInterrupt as error:
        click.echo(
            f"stopped{'; the same command continues' if output is not None else ''}", err=True
        )
        sys.exit(exit_status(*error.args))
    click.echo(printed)


def _measure(name: str, given: dict[str, Any]) -> str:
    """Run a protocol; return its table, and the names of the files that it wrote.

    Raises: SRFlowError.
    """
    protocol = PROTOCOLS[name]
    if given.get("output") is None:
        if protocol.writes:
            raise ArgumentError(f"{name} writes a folder of results: name it with -o OUT")
        for option in evaluate.commands[name].params if name == "report" else ():
            if given[str(option.name)] not in (None, ()) and option.name not in _PRINTED:
                raise ArgumentError(
                    f"report takes {option.opts[-1]} only with a folder for its page: add -o OUT"
                )
    for module in ("matplotlib", "jinja2"):
        require_extra(module, "train")
    from srflow_evaluation.options import Options

    progress = partial(click.echo, err=True)
    say = click.echo
    options = Options.parse(protocol=name, progress=progress, say=say, **given)
    printed = str(protocol.run(options))
    if not protocol.writes:
        return printed
    written = sorted(path.name for path in options.out.iterdir() if path.suffix != ".part")
    return f"{printed}\n\nin {options.out}: {', '.join(written)}"


for _name, _protocol in PROTOCOLS.items():
    _options = _protocol.options()
    evaluate.add_command(
        Command(
            _name,
            callback=partial(_run, _name),
            params=[option for options in _options.values() for option in options],
            groups={
                heading: " ".join(str(option.name) for option in options)
                for heading, options in _options.items()
            },
            help=f"{_protocol.about[0].upper()}{_protocol.about[1:]}.\n\n{_protocol.reading}",
            short_help=_protocol.about,
        )
    )
