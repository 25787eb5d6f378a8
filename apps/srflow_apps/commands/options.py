"""Options of commands, made from the fields of dataclasses, and the types of their values."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Container
from typing import Any, TypeVar, get_args

import click

from srflow_apps.commands.base_command import PathOrUrl
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.hardware import DeviceName, split_device

_F = TypeVar("_F", bound=Callable[..., Any])

MOST = "Options that most people need"
HEADINGS = (MOST, "Pictures", "Clips", "Files", "Machines", "Other options")


Size = Any
"""An OutputSize, written as 3840x, x2160 or 3840x2160."""


def options_of(
    choices: type[Any], heading: str = MOST, *, leave: Container[str] = ()
) -> list[click.Option]:
    """The options of a dataclass's fields, but for those to leave out: each field that has a help
    is one.

    heading: in the help, of those that name no other and that not most people need. See
        :mod:`srflow_sdk.drawing.options`.
    """
    module = sys.modules[choices.__module__]
    return [
        _option(field, module, heading)
        for field in dataclasses.fields(choices)
        if "help" in field.metadata and field.name not in leave
    ]


def heading_of(option: click.Option) -> str:
    """The heading of an option in the help: of one that no dataclass has, the first."""
    return str(vars(option).get("heading", MOST))


def with_options_of(choices: type[Any], *, leave: Container[str] = ()) -> Callable[[_F], _F]:
    """Decorate a command of click's with the options of a dataclass, each of them an argument."""
    options = options_of(choices, leave=leave)

    def decorate(command: _F) -> _F:
        command.__dict__.setdefault("__click_params__", []).extend(reversed(options))
        return command

    return decorate


def _option(field: dataclasses.Field[Any], module: object, heading: str) -> click.Option:
    """A field's option. module: has the Literals of the field's type."""
    how = field.metadata
    kind = str(field.type).removesuffix(" | None")
    flag = how.get("flag", f"--{field.name.replace('_', '-')}")
    if kind == "bool":  # a flag says the opposite of the default
        said = (lambda _context, _option, chosen: not chosen) if field.default else None
        made = click.Option([flag, field.name], is_flag=True, help=how["help"], callback=said)
    else:
        values = _TYPES.get(kind) or click.Choice(get_args(getattr(module, kind)))
        if {"least", "up_to"} & {*how}:
            values = _RANGES[kind](how.get("least"), how.get("up_to"))
        made = click.Option(
            [flag, field.name],
            type=values,
            nargs=2 if kind == "RangeKeyword" else 1,
            multiple=kind == "tuple[str, ...]",
            metavar=how.get("metavar"),
            default=field.default,
            show_default=field.default not in (None, ()) and "[default:" not in how["help"],
            help=how["help"],
        )
    vars(made)["heading"] = MOST if how.get("most") else how.get("heading", heading)
    vars(made)["alone"] = how.get("alone")  # which Command takes for the value that is missing
    return made


class _DeviceChoice(click.Choice):  # type: ignore[type-arg]  # click 8.1 has no such argument
    """A device, perhaps with the number of a GPU: `cpu`, `cuda`, `cuda:1`."""

    def __init__(self) -> None:
        super().__init__(get_args(DeviceName))

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            split_device(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
        return value


class _FileOrUrl(PathOrUrl):
    """A file or its URL. Not `-`, which would be a file of this name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if os.fspath(value) == "-":
            self.fail("it must be a file; name it, such as report.json", param, ctx)
        return super().convert(value, param, ctx)


def parse_count(value: str | int) -> int:
    """A number, at least 1: `250000`, `200M`, `1.5G`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([kmg]?)", str(value).lower(), re.ASCII)
    number = int(float(match[1]) * 1000 ** " kmg".index(match[2] or " ")) if match else 0
    if number < 1:
        raise click.BadParameter(f"{value!r} is not a number, such as 250000 or 200M")
    return number


def parse_tile_size(text: str) -> Any:
    """`auto`, `none` or a number of pixels."""
    if text in ("auto", "none"):
        return None if text == "none" else text
    from srflow_sdk.geometry.tiles import MIN_TILE

    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < MIN_TILE:
        raise click.BadParameter(f"{text!r} is not auto, none or a number from {MIN_TILE} on")
    return int(text)


def parse_temperature(text: str) -> Any:
    """`auto` or a number; the SDK checks its range."""
    with contextlib.suppress(ValueError):
        return text if text == "auto" else float(text)
    raise click.BadParameter(f"{text!r} is neither auto nor a number from 0 to 2, such as 0.8")


def parse_level_taus(text: str) -> Any:
    """A number, or numbers by level: `1=0.8,2=0.9`."""
    with contextlib.suppress(ValueError):
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        taus = {int(level): float(tau) for level, tau in pairs}
        if len(taus) == len(pairs):
            return taus
    raise click.BadParameter(
        f"{text!r} is neither a number from 0 to 2 nor numbers by level, such as 1=0.8,2=0.5"
    )


def parse_scale(text: str) -> float:
    """How many times larger: `2`, `1.5` or `x4`, as the names of outputs have it."""
    with contextlib.suppress(ValueError):
        if (number := float(text.lower().lstrip("x×"))) > 0:
            return number
    raise click.BadParameter(f"{text!r} is not a number above 0, such as 2 or 1.5")


def parse_size(text: str) -> Any:
    """`3840x`, `x2160` or `3840x2160`: a width, a height, or both to fit within."""
    from srflow_sdk.geometry.sizes import OutputSize

    match = re.fullmatch(r"(\d{0,6})x(\d{0,6})", text.lower().replace("×", "x"), re.ASCII)
    width, height = (
        (int(side) if side else None for side in match.groups()) if match else (None, None)
    )
    if 0 in (width, height) or (width is None and height is None):
        raise click.BadParameter(
            f"{text!r} is not a size in pixels, such as 3840x (the width), x2160 or 3840x2160"
        )
    return OutputSize(width=width, height=height)


def parse_shard(text: str) -> Any:
    """`I/N`: part I of N, counted from 1."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{text!r} is not part I of N, such as 1/3, 2/3 or 3/3")
    return int(match[1]), int(match[2])


_TYPES: dict[str, Any] = {  # of a field's value, as its annotation calls it
    "int": int,
    "float": float,
    "str": str,
    "tuple[str, ...]": str,
    "RangeKeyword": str,
    "Path": _FileOrUrl(),
    "Device": _DeviceChoice(),
    "Pixels": parse_count,
    "Shard": parse_shard,
    "Size": parse_size,
    "Tau": parse_temperature,
    "LevelTaus": parse_level_taus,
    "TileSize": parse_tile_size,
    "float | OutputSize": parse_scale,
}
_RANGES = {"int": click.IntRange, "float": click.FloatRange}
