"""The base of all commands: errors in a line, exit statuses, options that are paths, streams that
may be broken.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from itertools import zip_longest
from typing import Any, NoReturn, TextIO

import click

from srflow_apps.batch.storage import UrlPath, as_path
from srflow_apps.commands.signals import STOPPING, exit_status, raised_interrupts
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.plain_text import printable, without_secrets
from srflow_sdk.system.interrupts import NATIVE, memory_errors_typed

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""click's settings of every command."""

_FAILED = 1
_GRACE_S = 5.0
_PRINTING_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF)


class Command(click.Command):
    """A command that reports system errors, such as standard output on a full disk, in one line.

    groups: the headings of its help, each with the names of its options' parameters, between
    spaces: {"Files": "recursive dry_run"}. Options that no heading names, such as --help, stand
    last.
    """

    def __init__(
        self, *arguments: Any, groups: Mapping[str, str] | None = None, **keywords: Any
    ) -> None:
        super().__init__(*arguments, **keywords)
        self._groups = groups or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = {
            str(option.name): option
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
        }
        groups = {
            heading: [options.pop(name) for name in names.split()]
            for heading, names in self._groups.items()
        }
        last = "Other options" if groups else "Options"
        groups[last] = [*groups.pop(last, []), *options.values()]
        for heading, members in groups.items():
            records = [
                record for option in members if (record := option.get_help_record(ctx)) is not None
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def make_context(
        self, info_name: str | None, args: list[str], *arguments: Any, **keywords: Any
    ) -> click.Context:
        for option in self.params:
            # that it has where none of its choices follows it
            if value := vars(option).get("alone"):
                choices = vars(option.type)["choices"]
                args = [
                    f"{word}={value}" if word in option.opts and after not in choices else word
                    for word, after in zip_longest(args, args[1:])
                ]
        try:
            return super().make_context(info_name, args, *arguments, **keywords)
        except click.ClickException as error:  # which shows what was typed
            error.message = without_secrets(error.message)  # type: ignore[misc]  # final in its annotations only
            raise

    def main(self, args: Sequence[str] | None = None, *arguments: Any, **keywords: Any) -> Any:
        if args is None and os.name == "nt":
            args = [name for word in sys.argv[1:] for name in expand_pattern(word)]
        # TensorRT's default is TF32, and ONNX Runtime's TensorRT-RTX has no option
        # (microsoft/onnxruntime issue 26029). NVIDIA's libraries read this when they first start.
        # The SDK leaves it alone: torch beside it would be slower.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        for stream in (sys.stdout, sys.stderr):
            # redirected, Windows' has 256 characters: a name may have others
            if isinstance(stream, io.TextIOWrapper):
                # it asks for its place, which a pipe does not have
                with contextlib.suppress(OSError):
                    stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(args, *arguments, **keywords)
        except OSError as error:
            what = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            if error.filename is None and error.errno in _PRINTING_ERRORS:
                what = "standard output cannot be written: "
                abandon(sys.stdout)
            fail(f"{what}{error.strerror or error}")


class PathOrUrl(click.Path):
    """A path, or a URL such as `s3://bucket/report.json`. Not an empty one, such as that of an
    unset variable.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = os.fsdecode(value)
        if not text:
            self.fail('it is empty; name a file or folder ("." is the current one)', param, ctx)
        try:
            return as_path(text)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


class LocalPath(PathOrUrl):
    """A path on this machine. A URL is refused: as a path it would be a folder called `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        place = super().convert(value, param, ctx)
        if isinstance(place, UrlPath):
            self.fail(f"{place} is a URL; name a file or folder on this machine", param, ctx)
        return place


class NameOrPath(LocalPath):
    """A path on this machine, or the name of an embedded model or a preset, as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        place = super().convert(value, param, ctx)
        return str(place) if "://" in value else value  # x4-small is a name, ./x4-small is not


def expand_pattern(word: str) -> list[str]:
    """Return the names that match a word with * or ?, which Windows' shells leave to programs;
    itself if none does.

    click's own way would take brackets, percent and dollar signs of names for more than they are.
    """
    if "*" not in word and "?" not in word:
        return [word]
    return sorted(glob(word.replace("[", "[[]"))) or [word]  # noqa: PTH207  # a Path has no drive in its pattern


def fail(message: str) -> NoReturn:
    say(f"error: {' '.join(message.split())}")
    sys.exit(_FAILED)


def say(line: str) -> None:
    write_error(printable(line))


def abandon(stream: TextIO | None) -> None:
    """Redirect a broken stream to nowhere; otherwise Python complains about unwritten text when it
    exits.
    """
    # it may be closed, None or not a file at all
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()  # type: ignore[union-attr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def write_error(line: str, end: str = "\n") -> None:
    """Print on standard error, if that can be written."""
    try:
        click.echo(f"{line}{end}", nl=False, err=True)
    except OSError:
        abandon(sys.stderr)


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, for a command that may run beside other work.

    They spin otherwise, which makes such a command several times slower on a busy machine. OpenMP
    reads this when it is loaded, so call it before the first import of torch. A policy that the
    user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextlib.contextmanager
def exit_statuses() -> Iterator[None]:
    """Turn the SDK's errors, Ctrl-C and signals that ask to stop into one line and an exit
    status.
    """
    try:
        with (
            raised_interrupts(*STOPPING),
            memory_errors_typed("before the work began: close other programs"),
        ):
            yield
    except ArgumentError as error:
        raise click.UsageError(printable(str(error))) from error
    except SRFlowError as error:
        fail(str(error))
    except KeyboardInterrupt as error:
        say("interrupted")
        _exit(exit_status(*error.args))


def _exit(status: int) -> NoReturn:
    """Exit once native calls that a second signal left have ended: Python would end beneath them,
    and abort.

    A third signal waits no longer.
    """
    calls = [thread for thread in threading.enumerate() if thread.name == NATIVE]
    with contextlib.suppress(KeyboardInterrupt):
        for call in calls:
            call.join(_GRACE_S)
    if any(call.is_alive() for call in calls):
        os._exit(status)
    sys.exit(status)
