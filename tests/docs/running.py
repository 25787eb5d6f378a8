"""Run the blocks of one page in this folder: python -m tests.docs.running docs/upscaling.md"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import traceback
from typing import Any

from .commands import commands, is_installer
from .pages import Block, blocks

BLOCK_LIMIT_S = 300


def without_installers(script: str) -> str:
    """The script without the logical lines that begin with pip, apt-get …: tests change no
    environment."""
    lines = re.findall(r"(?:.*\\\n)*.*\n?", script)
    return "".join(
        line for line in lines if not (found := commands(line)) or not is_installer(found[0])
    )


def run_shell(block: Block) -> int:
    """Run a block, and hold the errors that a console shows to those that it printed. Returns the
    exit status."""
    script = block.setup + without_installers(block.script)
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCK_LIMIT_S,
    )
    print(done.stdout, file=sys.stderr)
    for line in block.text.splitlines() if block.kind == "console" else ():
        if line.lower().startswith("error:") and not quoted(line, done.stdout):
            print(f"{block.place}: nothing printed this line: {line}", file=sys.stderr)
            return -1
    return done.returncode


def quoted(line: str, output: str) -> bool:
    """Whether the output has this line; an ellipsis (…) stands for any characters."""
    pattern = ".*".join(re.escape(part) for part in line.split("…"))
    return re.search(f"^{pattern}$", output, re.MULTILINE) is not None


def run_python(block: Block, names: dict[str, Any]) -> int:
    """Names stay for the page's later blocks, as in one program."""
    padding = "\n" * (block.line - 1)  # so that tracebacks name the page's own lines
    try:
        exec(compile(block.setup, f"{block.place}, its setup", "exec"), names)
        exec(compile(padding + block.text, block.page, "exec"), names)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def main(page: str) -> int:
    """Run them in order until one does not end as the page says. Returns the exit status."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.not_run is not None or block.kind not in ("shell", "console", "python"):
            continue
        start = time.monotonic()
        print(f"== {block.place}", file=sys.stderr, flush=True)
        status = run_python(block, names) if block.kind == "python" else run_shell(block)
        print(f"== {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        if status != block.status:
            print(
                f"{block.place}: exit status {status} instead of {block.status}\n{block.text}",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
