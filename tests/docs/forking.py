"""Runs the commands of pages, each as a fork of one process that has what they import: torch alone
takes seconds.

python -m tests.docs.forking ADDRESS is that process. `write_program` writes what pages find on
their PATH: it hands its streams, folder, environment and words over, and ends as the command ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import socket
import stat
import sys
import traceback
from pathlib import Path

from tests.networks import proved_on_small_patches

from .commands import click_command

PRELOADED = (
    "torchvision",
    "torch.utils.tensorboard",
    "lightning_fabric",
    "piq",
    "onnx",
    "safetensors.torch",
)


def write_program(path: Path, address: Path, more: tuple[str, ...] = ()) -> None:
    """Write a program that runs the command of its name. more: lines that may change `words`, its
    arguments."""
    lines = (
        f"#!{sys.executable}",
        "import json, os, socket, sys",
        "words = sys.argv[1:]",
        *more,
        "with socket.socket(socket.AF_UNIX) as asked:",
        f"    asked.connect({str(address)!r})",
        f"    wanted = json.dumps([[{path.name!r}, *words], os.getcwd(), dict(os.environ)])",
        "    socket.send_fds(asked, [wanted.encode()], [0, 1, 2])",
        "    sys.exit(int(asked.recv(16)))",
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def serve(address: str) -> None:
    """Answer programs until this process is killed. Exports are proved on small patches, as in
    other tests."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # so that forks share what they do not change
    with proved_on_small_patches(), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        answering: list[int] = []
        while True:
            asked, _ = listening.accept()
            answering = [child for child in answering if os.waitpid(child, os.WNOHANG)[0] == 0]
            if (child := os.fork()) == 0:
                listening.close()
                _answer(asked)
            answering.append(child)
            asked.close()


def _answer(asked: socket.socket) -> None:
    wanted, streams, _, _ = socket.recv_fds(asked, 1 << 18, 3)
    status = _run(*json.loads(wanted), streams)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    asked.sendall(str(status & 255).encode())
    os._exit(0)  # without taking apart all that was imported


def _run(words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> int:
    for stream, given in enumerate(streams):
        os.dup2(given, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    try:
        click_command(words[0])()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
