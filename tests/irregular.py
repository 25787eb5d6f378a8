"""Files that must not be read: a FIFO and a device never end."""

import os
from pathlib import Path

KINDS = ("FIFO", "device", "folder")


def make_irregular(path: Path, kind: str) -> None:
    """Put one of KINDS at this path."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
