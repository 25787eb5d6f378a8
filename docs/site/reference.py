"""Reference pages, made from the commands and from the docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from typing import Any

import click

import srflow_sdk
from srflow_sdk import errors

from .staging import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAIN = (
    "Upscaler",
    "Encoding",
    "Latents",
    "Bundle",
    "AsyncUpscaler",
    "AsyncEncoding",
    "upscale_folder",
    "lr_psnr",
)
_KEYWORDS = (
    "drawing.options.DrawOptions",
    "flow.options.RestoreOptions",
    "flow.options.TransferOptions",
)


def project() -> dict[str, Any]:
    """[project] of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found


def commands_page(commands: dict[str, str]) -> str:
    """Every command with its help and all of its options; `commands`: name → module:attribute."""
    parts = ["# Commands\n\nMade from the programs themselves: `COMMAND --help` says the same.\n"]
    found_commands = {}
    for name, place in commands.items():
        module, attribute = place.split(":")
        command = getattr(importlib.import_module(module), attribute)
        found_commands[name] = command
        found_commands |= {
            f"{name} {protocol}": each
            for protocol, each in getattr(command, "commands", {}).items()
        }
    for name, command in found_commands.items():
        context = click.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        level = "###" if " " in name else "##"
        parts.append(f"\n{level} {name}\n\n```text\n{usage}\n```\n\n{_help(command)}\n")
        parts.append("| option | meaning |\n|---|---|")
        records = [
            found for one in command.get_params(context) if (found := one.get_help_record(context))
        ]
        parts += [f"| `{_cell(names)}` | {_prose(meaning)} |" for names, meaning in records]
    return "\n".join(parts) + "\n"


def sdk_page() -> str:
    """The public names of srflow_sdk: what is used most first, errors last."""
    names = list(srflow_sdk.__all__)
    failures = [
        name
        for name in names
        if inspect.isclass(found := getattr(srflow_sdk, name)) and _is_error(found)
    ]
    main = [name for name in _MAIN if name in names]
    others = [name for name in names if name not in (*main, *failures)]
    text = "# srflow_sdk\n\nThe runtime, without torch. Names with an underscore are private.\n"
    for name in [*main, *others, *failures]:
        text += f"\n::: srflow_sdk.{name}\n"
    last = ("triton.RemoteUpscaler", "ray.Cluster", *_KEYWORDS)
    return text + "".join(f"\n::: srflow_sdk.{name}\n" for name in last)


def training_page() -> str:
    """The front of srflow_training, and of the exporter."""
    text = (
        "# srflow_training and srflow_export\n\nWith torch: the network itself, its checkpoints, "
        "and the exporter.\n"
    )
    for package in ("srflow_training", "srflow_export"):
        for name in importlib.import_module(package).__all__:
            text += f"\n::: {package}.{name}\n"
    return text


def _is_error(found: type) -> bool:
    return issubclass(found, errors.SRFlowError)


def _help(command: click.Command) -> str:
    """Click's help as Markdown: paragraphs, and what stands after \\b as it is."""
    parts = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append("```text\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            parts.append(_prose(paragraph))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """Words for Markdown: signs that it would take for its own are escaped."""
    text = re.sub(r"([*_<>{}\[\]`])", r"\\\1", " ".join(text.split()))
    return text.replace("|", "\\|")
