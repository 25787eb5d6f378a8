"""Digests of the files that a measurement depends on."""

from __future__ import annotations

from pathlib import Path

from srflow_sdk.system.local_files import content_sha256


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal. Raises: OSError."""
    with path.open("rb") as file:
        return content_sha256(file)
