"""The public API as text, a line for each name: `python -m tests.frame.public_api` rewrites
public_api.txt.

Public are the names of srflow_sdk and of its modules in PUBLIC, but for those with a leading
underscore, the names of srflow_training's root, and the commands with their options.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import srflow_sdk
import srflow_training
from srflow_apps.commands import cli as sdk_commands
from srflow_apps.demo.command import demo

PUBLIC = (
    *(
        "srflow_sdk.aio",
        "srflow_sdk.backends",
        "srflow_sdk.clips",
        "srflow_apps.commands.cli",
        "srflow_sdk.encoding",
        "srflow_sdk.geometry.tiles",
    ),
    *("srflow_sdk.errors", "srflow_sdk.latents.picture_latents", "srflow_sdk.latents.random_field"),
    *("srflow_sdk.model.bundle", "srflow_sdk.model.engine_records", "srflow_sdk.model.manifest"),
    *(
        "srflow_sdk.model.model_choice",
        "srflow_sdk.ray",
        "srflow_sdk.triton",
        "srflow_sdk.upscaler",
    ),
)
"""The modules of the runtime and of the applications that others may import; the rest may change
with any version."""

SNAPSHOT = Path(__file__).with_suffix(".txt")


def public_api() -> list[str]:
    """A line for every name and option, in the order of modules and commands."""
    lines = [line for module in _public_modules() for line in _of_module(module)]
    return [
        *lines,
        *(line for name, command in commands().items() for line in _of_command(name, command)),
    ]


def commands() -> dict[str, click.Command]:
    """The installed commands by name."""
    export_commands = importlib.import_module("srflow_export.cli")
    training_commands = importlib.import_module("srflow_training.cli")
    return {
        "srflow-upscale": sdk_commands.upscale,
        "srflow-transfer": sdk_commands.transfer,
        "srflow-restore": sdk_commands.restore,
        "srflow-doctor": sdk_commands.doctor,
        "srflow-demo": demo,
        "srflow-export": export_commands.main,
        "srflow-train": training_commands.train,
        "srflow-eval": importlib.import_module("srflow_evaluation.cli").evaluate,
    }


def _public_modules() -> Iterator[ModuleType]:
    yield srflow_sdk
    yield from map(importlib.import_module, PUBLIC)
    yield srflow_training


def _of_module(module: ModuleType) -> Iterator[str]:
    for name, source in sorted(_names(module).items()):
        path = f"{module.__name__}.{name}"
        if source is None:
            yield from _of_value(path, getattr(module, name))
        else:
            yield f"{path} = {source}"


def _names(module: ModuleType) -> dict[str, str | None]:
    """A module's public names: its `__all__`, otherwise what it defines at its top level; values
    with their source."""
    if hasattr(module, "__all__"):
        return dict.fromkeys(module.__all__)
    names: dict[str, str | None] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                target.id: ast.unparse(node.value)
                for target in targets
                if isinstance(target, ast.Name)
            }
    return {name: source for name, source in names.items() if not name.startswith("_")}


def _of_value(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(
            base.__name__
            for base in value.__bases__
            if base is not object and not _is_private(base)
        )
        constructor = (
            "" if issubclass(value, Exception) else _signature(value).removesuffix(" -> None")
        )
        yield f"class {path}{constructor}{f': {bases}' if bases else ''}"
        members = {
            name: member
            for base in reversed(value.__mro__)
            if base is value or _is_private(base)
            for name, member in vars(base).items()
        }
        for name, member in sorted(members.items()):
            if name.startswith("_"):
                continue
            if isinstance(member, property):
                yield f"{path}.{name}: property"
            elif isinstance(member, (staticmethod, classmethod)) or inspect.isfunction(member):
                yield f"{path}.{name}{_signature(getattr(value, name))}"
    elif callable(value) and not isinstance(value, click.Command):
        yield f"{path}{_signature(value)}"
    else:
        yield path


def _is_private(base: type) -> bool:
    """Tell a base class that is ours and not public: its methods are its heirs'."""
    parts = base.__module__.split(".")
    if parts[0] in ("srflow_sdk", "srflow_apps"):
        return base.__module__ not in PUBLIC
    return parts[0].startswith("srflow_") and any(part.startswith("_") for part in parts)


def _signature(value: Any) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value))).replace("'", "")
    except (TypeError, ValueError):  # an alias of a type
        return ""


def _of_command(name: str, command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            kind = "flag" if parameter.is_flag else parameter.type.name
            yield f"{name} {' '.join(parameter.opts)} ({kind})"
        elif isinstance(parameter.type, click.Choice):
            yield f"{name} {{{'|'.join(parameter.type.choices)}}}"
        else:
            yield f"{name} {parameter.make_metavar(click.Context(command))}"
    if isinstance(command, click.Group):
        for protocol, each in command.commands.items():
            yield from _of_command(f"{name} {protocol}", each)


if __name__ == "__main__":
    SNAPSHOT.write_text("".join(f"{line}\n" for line in public_api()), encoding="utf-8")
