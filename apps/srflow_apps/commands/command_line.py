"""Shared by the commands on pictures: types of options, errors in one line, exit statuses."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn, get_args

import click

from srflow_apps.commands.base_command import PathOrUrl, fail, say
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.system.device_names import DeviceName, split_device
from srflow_sdk.system.interrupts import NATIVE, STOPPING, exit_status, raised_interrupts
from srflow_sdk.system.plain_text import printable
from srflow_sdk.system.raising import memory_errors_typed

_GRACE_S = 5.0


class ReportParameter(PathOrUrl):
    """A file to write, or its URL. Not `-`, which would be a file of this name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "-":
            self.fail("a report is a file; name it, such as report.json", param, ctx)
        return super().convert(value, param, ctx)


def tile_size(text: str) -> Any:
    """`auto`, `none` or a number of pixels."""
    if text in ("auto", "none"):
        return None if text == "none" else text
    from srflow_sdk.drawing.tiles import MIN_TILE

    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < MIN_TILE:
        raise click.BadParameter(f"{text!r} is not auto, none or a number of pixels, at least {MIN_TILE}")
    return int(text)


class DeviceChoice(click.Choice):  # type: ignore[type-arg]  # click 8.1 has no such argument
    """A device, perhaps with the number of a GPU: `cpu`, `cuda`, `cuda:1`."""

    def __init__(self) -> None:
        super().__init__(get_args(DeviceName))

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            split_device(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
        return value


def count(text: str) -> int:
    """A number, at least 1: `250000`, `200M`, `1.5G`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([kmg]?)", text.lower(), re.ASCII)
    number = int(float(match[1]) * 1000 ** " kmg".index(match[2] or " ")) if match else 0
    if number < 1:
        raise click.BadParameter(f"{text!r} is not a number, such as 250000 or 200M")
    return number


def temperature(text: str) -> Any:
    """`auto` or a number; the SDK checks its range."""
    with contextlib.suppress(ValueError):
        return text if text == "auto" else float(text)
    raise click.BadParameter(f"{text!r} is neither auto nor a number from 0 to 2, such as 0.8")


def _size(text: str) -> Any:
    """`3840x`, `x2160` or `3840x2160`: a width, a height, or both to fit within."""
    from srflow_sdk.drawing.options import OutputSize

    match = re.fullmatch(r"(\d{0,6})x(\d{0,6})", text.lower().replace("×", "x"), re.ASCII)
    width, height = (int(side) if side else None for side in match.groups()) if match else (None, None)
    if 0 in (width, height) or (width is None and height is None):
        raise click.BadParameter(f"{text!r} is not a size in pixels, such as 3840x (the width), x2160 or 3840x2160")
    return OutputSize(width=width, height=height)


def _longer_side(text: str) -> Any:
    """Pixels of the longer side."""
    from srflow_sdk.drawing.options import OutputSize

    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a number of pixels, such as 4096")
    return OutputSize(max_side=int(text))


def shard(text: str) -> Any:
    """`I/N`: part I of N, counted from 1."""
    from srflow_apps.batch.plan import Shard

    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{text!r} is not part I of N, such as 1/3, 2/3 or 3/3")
    return Shard(index=int(match[1]), count=int(match[2]))


_SIZE_OPTIONS = (
    click.option(
        "--scale",
        type=click.FloatRange(min=0, min_open=True),
        metavar="F",
        help="Enlarge F times, such as 2 or 1.5.  [default: the model's; auto: 4]",
    ),
    click.option(
        "--size",
        type=_size,
        metavar="WxH",
        help="Size: 3840x is a width, x2160 a height; 3840x2160 fits within.",
    ),
    click.option("--max-size", type=_longer_side, metavar="N", help="Longer side of outputs, at most."),
    click.option(
        "--reduction",
        type=click.Choice(("bicubic", "lanczos")),
        default="bicubic",
        show_default=True,
        help="How a picture is reduced to a smaller size.",
    ),
    click.option("--linear-light", is_flag=True, help="Reduce it in linear light."),
)


def size_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for smaller outputs. The command gets the three that set a size as one argument, `scale`."""

    @functools.wraps(command)
    def with_one_scale(*arguments: Any, scale: Any, size: Any, max_size: Any, **rest: Any) -> None:
        chosen = [value for value in (scale, size, max_size) if value is not None]
        if len(chosen) > 1:
            raise click.UsageError("--scale, --size and --max-size all set the size; choose one of them")
        command(*arguments, scale=chosen[0] if chosen else None, **rest)

    for option in reversed(_SIZE_OPTIONS):  # decorators apply from the last to the first
        with_one_scale = option(with_one_scale)
    return with_one_scale


@contextlib.contextmanager
def exit_statuses() -> Iterator[None]:
    """Turn the SDK's errors, Ctrl-C and signals that ask to stop into one line and an exit status."""
    try:
        with raised_interrupts(*STOPPING), memory_errors_typed("before the work began: close other programs"):
            yield
    except ArgumentError as error:
        raise click.UsageError(printable(str(error))) from error
    except SRFlowError as error:
        fail(str(error))
    except KeyboardInterrupt as error:
        say("interrupted")
        _exit(exit_status(*error.args))


def _exit(status: int) -> NoReturn:
    """Exit once native calls that a second signal left have ended: Python would end beneath them, and abort.

    A third signal waits no longer.
    """
    calls = [thread for thread in threading.enumerate() if thread.name == NATIVE]
    with contextlib.suppress(KeyboardInterrupt):
        for call in calls:
            call.join(_GRACE_S)
    if any(call.is_alive() for call in calls):
        os._exit(status)
    sys.exit(status)


def fail_if_absent(inputs: Sequence[str | os.PathLike[str]], *, needed: Literal["any", "all"] = "any") -> None:
    """Fail before anything is loaded if none of the input files exists, or, with "all", not each of them.

    Standard input and URLs count as existing. A batch of which some files exist reports the others as it reaches them.
    Raises: ArgumentError for a URL that names no place.
    """
    absent = [path for path in inputs if _is_absent(path)]
    if absent and (needed == "all" or len(absent) == len(inputs)):
        for path in absent[:-1]:
            say(f"error: {path}: there is no such file")
        fail(f"{absent[-1]}: there is no such file")


def _is_absent(path: str | os.PathLike[str]) -> bool:
    from srflow_apps.batch.url_paths import UrlPath, as_path

    if os.fspath(path) == "-" or isinstance(place := as_path(path), UrlPath):
        return False
    try:
        place.stat()
    except OSError as error:  # of another kind: it may exist, and reading it says what is wrong
        return isinstance(error, FileNotFoundError)
    return False
