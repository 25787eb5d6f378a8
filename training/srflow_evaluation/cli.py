"""The command `srflow-eval`, with a command for each protocol. Heavy modules are imported when a protocol runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import click

from srflow_apps.commands.base_command import Command, fail, wait_asleep
from srflow_evaluation import tasks
from srflow_evaluation.command_options import options_of
from srflow_evaluation.protocols import COMMON, PROTOCOLS
from srflow_sdk._version import __version__
from srflow_sdk.errors import SRFlowError
from srflow_sdk.system.interrupts import STOPPING, exit_status, raised_interrupts
from srflow_sdk.system.plain_text import without_secrets
from srflow_training._inputs import check_folder, check_model, require_all

_PRINTED = ("hr", "models", "taus", "vgg16", "metrics", "device")  # what report takes without a folder


class _ProtocolCommand(Command):
    """A protocol's command. Of an option that only others have, it says which ones."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.NoSuchOption as error:
            flag = error.option_name
            having = [name for name, other in evaluate.commands.items() if any(flag in p.opts for p in other.params)]
            if not having:
                raise
            raise _RefusedOption(
                f"{info_name} has no {flag}: leave it out, or take one of {', '.join(having)}"
            ) from error


class _ReportCommand(_ProtocolCommand):
    """The command of report, which has options of its page."""

    def make_context(self, *arguments: Any, **keywords: Any) -> click.Context:
        context = super().make_context(*arguments, **keywords)
        for option in self.params:
            given = context.params[str(option.name)] not in (None, ())
            if given and context.params["output"] is None and option.name not in _PRINTED:
                raise _RefusedOption(f"report takes {option.opts[-1]} only with a folder for its page: add -o OUT")
        return context


class _RefusedOption(click.ClickException):
    """Shown in one line, with exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", err=True, file=file)


class _Protocols(Command, click.Group):
    """The commands of all protocols. Its help lists them first, with a line for each."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Protocols"):
            formatter.write_dl([(name, command.get_short_help_str()) for name, command in self.commands.items()])
        super().format_options(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            ctx.fail(f"name a protocol: {', '.join(self.commands)}")
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(f"name the protocol first, then {error.option_name}", ctx) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            ctx.fail(f"there is no protocol {without_secrets(args[0])!r}: choose one of {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Protocols,
    no_args_is_help=False,
    options_metavar="",
    subcommand_metavar="PROTOCOL [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="srflow-eval")
def evaluate() -> None:
    """Measure a model on photographs. `srflow-eval PROTOCOL --help` lists a protocol's options.

    Most protocols are the publication's experiments, on whole photographs: OUT gets results.csv (a row per picture
    and method), summary.json, plots and sheets of crops. A run that was stopped continues where it was.

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


def _add(
    name: str,
    callback: Callable[..., None],
    flags: Collection[str],
    *,
    about: str,
    help: str = "",
    several_models: bool = False,
    kind: type[_ProtocolCommand] = _ProtocolCommand,
) -> None:
    """Add a protocol's command. about: its line in the list."""
    options = options_of(flags, several_models=several_models)
    evaluate.add_command(
        kind(
            name,
            callback=callback,
            params=[option for found in options.values() for option in found],
            groups={heading: " ".join(str(option.name) for option in found) for heading, found in options.items()},
            help=f"{about[0].upper()}{about[1:]}.\n\n{help}",
            short_help=about,
        )
    )


def _run(protocol: str, task: Callable[..., str], /, **options: Any) -> None:
    """Check a protocol's inputs before torch is loaded, run its task, and print the text."""
    continues = protocol in PROTOCOLS or (protocol == "report" and options["output"] is not None)
    with _errors_in_a_line(options["output"], continues=continues):
        check_folder(options["hr"], option="--hr")
        for model in () if protocol == "default-tau" else options["models"]:  # that one takes nothing but bundles
            check_model(model)
        wait_asleep()
        with raised_interrupts(*STOPPING):
            require_all()
            lines = task(**options)
    click.echo(lines)


@contextmanager
def _errors_in_a_line(output: Path | None, *, continues: bool) -> Iterator[None]:
    """Say what ended a protocol in one line, and exit. continues: the same command would go on where it stopped."""
    try:
        yield
    except SRFlowError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or output}: {error.strerror or error}")
    except KeyboardInterrupt as error:
        click.echo(f"stopped{'; the same command continues' if continues else ''}", err=True)
        sys.exit(exit_status(*error.args))


def _report(**options: Any) -> str:
    """Print the report on crops; with a folder, write all that applies."""
    if options["output"] is not None:
        return tasks.report_folder(**options)
    return tasks.report_crops(**{name: options[name] for name in _PRINTED})


_add(
    "report",
    partial(_run, "report", _report),
    (COMMON | {"hr", "tau", "only"}) - {"shard"},
    about="a model and bicubic on crops, or all of it as a page",
    kind=_ReportCommand,
    help="PSNR, LPIPS, SSIM, GMSD, HaarPSI, LR-PSNR, difference of samples and colour shift, for bicubic and for the "
    "model at each tau, on all whole 256x256 crops. The VGG16 feature distance is only comparable for the same FILE."
    "\n\n"
    "With -o OUT also every protocol that applies, each in a folder of OUT with its own temperatures, and all of it as "
    "one page for any browser, OUT/report.html, with crops to compare. With one tau per level (checkpoints only), the "
    "first is for level 1, the finest.",
)
_add(
    "default-tau",
    partial(_run, "default-tau", tasks.choose_default_tau),
    {"hr", "model", "output", "vgg16", "device"},
    about="choose a bundle's temperature, by the least LPIPS",
    help="Chooses the temperature that a bundle uses if none is given, and whether it is scaled by the picture's "
    "texture (auto), and writes both into its manifest. Each folder in HR is a kind of content; up to eight crops of "
    "each are measured. The bundle's sha256 changes. OUT is a JSON file with the figures, and not required.",
)
for _name, _about in (("calibrate", "calibrate a bundle's intervals"), ("coverage", "what a bundle's intervals hold")):
    _add(
        _name,
        partial(_run, _name, partial(tasks.measure_intervals, write=_name == "calibrate")),
        {"hr", "model", "output", "degradation", "device"},
        about=_about,
        help="calibrate needs at least 40 photographs that did not train the model, coverage others. Centres are "
        "measured; a folder in HR is a kind of content. Each photograph gets one of the degradations, by turns: for a "
        "model of damaged pictures. The bundle's sha256 stays. OUT is the table as JSON, and not required.",
    )
for _name, _protocol in PROTOCOLS.items():
    _add(
        _name,
        partial(_run, _name, partial(tasks.measure_pictures, _name)),
        _protocol.options | {"hr"},
        about=_protocol.about,
        help=_protocol.reading,
        several_models=_protocol.several_models,
    )
