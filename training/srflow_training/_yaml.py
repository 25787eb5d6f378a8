"""Reads settings files that others may have written: bounded in size, depth and numbers, and without aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import open_regular

MAX_BYTES = 1_000_000
_MAX_DIGITS = 40  # longer ones would take minutes to print


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML. Raises: ArgumentError, which names `where`, for anything but plain values without aliases."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ArgumentError(f"{where}: cannot be read as YAML: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise ArgumentError(f"{where}: cannot be read as YAML: {' '.join(str(error).split())[:300]}") from error


def read_yaml(path: Path) -> Any:
    """Parse a regular file of at most :data:`MAX_BYTES`. Raises: ArgumentError."""
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ArgumentError(f"{path}: cannot be read as YAML: settings have less than 1 MB")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path}: cannot be read as YAML: {error}") from error
    return parse_yaml(text, where=str(path))


def is_there(path: Path) -> bool:
    """True if there is a file of this name; not if no file can have it: too long, or not Unicode."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class _Loader(yaml.SafeLoader):
    """Aliases can make a short file describe gigabytes ("billion laughs")."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed: write the value out", mark)
        return super().compose_node(parent, index)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _MAX_DIGITS:
            raise yaml.constructor.ConstructorError(None, None, "a number is far too large", node.start_mark)
        return self.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
