"""Hashes of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in 64 hexadecimal digits. Raises: OSError."""
    with path.open("rb") as file:
        return content_sha256(file)


def content_sha256(file: BinaryIO) -> str:
    """The sha256 of what an open file still holds, read in blocks. Raises: OSError."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
