"""Enlarge what was dropped onto "Drop photos here.cmd": photographs beside themselves, a folder
into one beside it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = "Drop photos here.cmd"
STOPPED = 128 + signal.SIGINT
HELP = f"""Drop photographs, or a folder of them, onto "{SCRIPT}": each is enlarged four times,
into a file whose name ends in _x4, beside the original. srflow-upscale.cmd has more choices, for a
command prompt."""


def dropped(command_line: str) -> list[str]:
    """The names behind the script's own in the command line of the cmd.exe that runs it."""
    names = command_line.rpartition(SCRIPT)[2].removeprefix('"') if SCRIPT in command_line else ""
    if names.count('"') % 2:  # what cmd.exe was given has quotes around it all
        names = names.rstrip().removesuffix('"')
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', names)]


def batches(names: list[str]) -> list[list[str]]:
    """The inputs of one command each: the photographs of a folder together, every dropped folder by
    itself.
    """
    together: dict[Path, list[str]] = {}
    for name in names:
        path = Path(name)
        together.setdefault(path if path.is_dir() else path.parent / "*", []).append(name)
    return list(together.values())


def main() -> None:
    names = dropped(os.environ.get("SRFLOW_DROPPED", "")) or sys.argv[1:]
    if not names:
        print(HELP)
    signal.signal(
        signal.SIGINT, lambda *_: None
    )  # the command gets Ctrl-C, too, and says what is left
    for batch in batches(names):
        # What an earlier drop finished is skipped, instead of being refused.
        if (
            subprocess.run(
                [sys.executable, "-m", "srflow_sdk", *batch, "--resume"], check=False
            ).returncode
            == STOPPED
        ):
            break


if __name__ == "__main__":
    main()
