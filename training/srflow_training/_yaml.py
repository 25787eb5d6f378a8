"""Read settings files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from srflow_sdk.errors import ArgumentError


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML of plain values. Raises: ArgumentError, which names `where`."""
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ArgumentError(f"{where}: cannot be read as YAML: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise ArgumentError(f"{where}: cannot be read as YAML: {' '.join(str(error).split())[:300]}") from error


def read_yaml(path: Path) -> Any:
    """Parse a file. Raises: ArgumentError."""
    if not path.is_file():  # a pipe would be waited for, and a device has no end
        raise ArgumentError(f"{path}: cannot be read: it is no regular file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_yaml(text, where=str(path))
