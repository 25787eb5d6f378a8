"""A real srflow-demo in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Other machines' addresses that the server itself connects to go into a file.
_WATCHED = """
import json, sys
def watch(event, arguments):
    if event == "socket.connect" and arguments[1][0] != "127.0.0.1":
        with open(sys.argv[0], "a") as file:
            file.write(json.dumps(str(arguments[1])) + "\\n")
sys.addaudithook(watch)
del sys.argv[0]
from srflow_apps.demo.command import demo
demo()
"""


@dataclass(frozen=True)
class Served:
    url: str  # with its token
    process: subprocess.Popen[str]
    connections: Path

    @property
    def origin(self) -> str:
        """The address without the token."""
        return self.url.partition("/?")[0]

    def files(self) -> list[Path]:
        """Every file that the server holds for its pages."""
        # which minds no folder that is deleted meanwhile
        walked = os.walk(self.connections.parent / "tmp")
        return [Path(folder, name) for folder, _, names in walked for name in names]

    def connected_to(self) -> list[str]:
        """Addresses that the server connected to."""
        return [json.loads(line) for line in self.connections.read_text().splitlines()]


@contextlib.contextmanager
def served(folder: Path, *options: str | Path) -> Iterator[Served]:
    """Serve the demo on a free port, with its temporary files in `folder`, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    connections = folder / "connections.txt"
    connections.touch()
    temporary = folder / "tmp"
    temporary.mkdir()
    environ = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCHED, connections, "--port", "0", "--device", "cpu", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("srflow-demo: http://"), process.communicate(timeout=60)
        yield Served(line.split()[1], process, connections)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
