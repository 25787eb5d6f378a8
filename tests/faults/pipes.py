"""Pictures through pipes that break, stop and wait: a whole picture comes out, or one line and
nothing stays behind."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from tests.faults.commands import ON_CPU, PATIENCE_S, Ended, leftovers, loss_of
from tests.sdk.tiny_bundle import write_tiny_bundle

_PROGRAM = "from srflow_apps.commands.cli import upscale; upscale()"
_WAYS = (
    "whole",
    "in drops",
    "cut off",
    "nothing",
    "the reader leaves",
    "no reader",
    "the writer waits",
    "a signal",
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
    """Each way in turn, with a photo that is large enough for pipes to fill."""
    chance = random.Random(seed)
    write_tiny_bundle(folder / "tiny.srflow")
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    temporary = folder / "temporary"
    temporary.mkdir()
    for number in range(count):
        way = _WAYS[number % len(_WAYS)]
        loss = _loss(way, stream.getvalue(), folder, chance)
        left = [path.name for path in temporary.iterdir()]
        yield (
            f"attempt {number}, {way}",
            loss or leftovers(folder) or (f"left behind: {left}" if left else None),
        )


def _loss(way: str, photo: bytes, folder: Path, chance: random.Random) -> str | None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _PROGRAM,
            "-",
            "-o",
            "-",
            "--model",
            "tiny.srflow",
            *ON_CPU,
        ],
        cwd=folder,
        env={
            **os.environ,
            "TMPDIR": str(folder / "temporary"),
            "SRFLOW_CACHE_DIR": str(folder / "cache"),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    given = (
        photo[: chance.randrange(1, len(photo))]
        if way in ("cut off", "the writer waits")
        else photo
    )
    held = threading.Event()
    if way in ("the writer waits", "a signal"):
        after = 3 if way == "the writer waits" else chance.uniform(0, 1.5)
        number = chance.choice(_SIGNALS)
        threading.Timer(after, process.send_signal, [number]).start()
    arguments = (process.stdin, b"" if way == "nothing" else given, way, held)
    writer = threading.Thread(target=_write, args=arguments, daemon=True)
    writer.start()
    if way == "no reader":
        process.stdout.close()
    elif way == "the reader leaves":
        process.stdout.read(chance.randrange(1, 1000))
        process.stdout.close()
    guard = threading.Timer(PATIENCE_S, process.kill)
    guard.start()
    output = b"" if process.stdout.closed else process.stdout.read()
    assert process.stderr is not None
    errors = process.stderr.read().decode(errors="replace")
    status = process.wait()
    guard.cancel()
    held.set()
    writer.join()
    if way in ("the writer waits", "a signal") and status in (128 + number, -number):
        return (
            None if errors in ("", "interrupted\n") or "preparing" in errors else f"said {errors!r}"
        )
    if way in ("the reader leaves", "no reader") and (status, errors) == (1, ""):
        return None  # as other programs, it says nothing to who has left
    if loss := loss_of(Ended(status, errors)):
        return loss
    if status:
        return f"whole, and failed: {errors.strip()}" if way in ("whole", "in drops") else None
    if way in ("cut off", "nothing"):
        return "half a picture was taken for a whole one"
    return (
        None
        if way.endswith(("leaves", "reader")) or Image.open(io.BytesIO(output)).size == (480, 320)
        else "size"
    )


def _write(pipe: IO[bytes], content: bytes, way: str, held: threading.Event) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        for at in range(0, len(content), step := 997 if way == "in drops" else len(content) or 1):
            pipe.write(content[at : at + step])
            pipe.flush()
        if way == "the writer waits":
            held.wait()
