"""The public API as text: `python -m tests.frame.public_api` rewrites public_api.txt.

A line for each public name of srflow_sdk, of its modules in PUBLIC and of srflow_training, with its
parameters, and one for each option of a command.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from docs.site.reference import project

PUBLIC = (
    "srflow_sdk.aio",
    "srflow_sdk.backends",
    "srflow_sdk.clips",
    "srflow_apps.commands.cli",
    "srflow_sdk.geometry.tiles",
    "srflow_sdk.encoding",
    "srflow_sdk.errors",
    "srflow_sdk.latents.picture_latents",
    "srflow_sdk.latents.random_field",
    "srflow_sdk.model.bundle",
    "srflow_sdk.model.engine_records",
    "srflow_sdk.model.manifest",
    "srflow_sdk.model.model_choice",
    "srflow_sdk.ray",
    "srflow_sdk.triton",
    "srflow_sdk.upscaler",
)
"""The modules of the runtime and of the applications that others may import; the rest may change
with any version."""

SNAPSHOT = Path(__file__).with_suffix(".txt")


def public_api() -> list[str]:
    """A line for every name and option, in the order of modules and commands."""
    modules = map(importlib.import_module, ("srflow_sdk", *PUBLIC, "srflow_training"))
    names = [line for module in modules for line in _describe_module(module)]
    commands = project()["scripts"].items()
    return names + [line for name, place in commands for line in _describe_script(name, place)]


def public_members(value: Any) -> dict[str, Any]:
    """The public methods and properties of a class, also those of its bases that are ours."""
    bases = inspect.getmro(value) if inspect.isclass(value) else ()
    ours = [base for base in reversed(bases) if base.__module__.startswith("srflow_")]
    members = {name: member for base in ours for name, member in vars(base).items()}
    return {
        name: getattr(value, name)
        for name, member in sorted(members.items())
        if not name.startswith("_")
        and isinstance(member, property | staticmethod | classmethod | type(public_api))
    }


def _describe_module(module: ModuleType) -> Iterator[str]:
    for name in sorted(_names_of(module)):
        value = getattr(module, name)
        yield f"{module.__name__}.{name}{_parameters(value)}"
        for member, each in public_members(value).items():
            yield f"{module.__name__}.{name}.{member}{_parameters(each)}"


def _names_of(module: ModuleType) -> list[str]:
    """A module's `__all__`, otherwise what it defines at its top level without an underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def _parameters(value: Any) -> str:
    if not inspect.isroutine(value) and not inspect.isclass(value):
        return ""
    try:
        return f"({', '.join(inspect.signature(value).parameters)})"
    except (TypeError, ValueError):  # an alias of a type
        return ""


def _describe_script(name: str, place: str) -> Iterator[str]:
    module, attribute = place.split(":")
    command = getattr(importlib.import_module(module), attribute)
    yield from _describe_command(name, command)
    for protocol, each in getattr(command, "commands", {}).items():
        yield from _describe_command(f"{name} {protocol}", each)


def _describe_command(name: str, command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        choices = getattr(parameter.type, "choices", ())
        yield " ".join([name, *parameter.opts, *([f"({'|'.join(choices)})"] if choices else [])])


if __name__ == "__main__":
    SNAPSHOT.write_text("".join(f"{line}\n" for line in public_api()), encoding="utf-8")
