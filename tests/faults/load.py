"""Many threads on one Upscaler: pictures, files, samples and cancelled calls at once give what each gives alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srflow_sdk import CancelledError, Upscaler, read_image, write_image
from tests.faults.attempts import Attempt
from tests.faults.commands import hidden_files
from tests.sdk.tiny_bundle import write_tiny_bundle

_THREADS = 200
_PATIENCE_S = 300
_PHOTOS = 5


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Make the calls in a process of its own, which prints a line of JSON for each: what it was, and the loss."""
    write_tiny_bundle(folder / "tiny.srflow")
    for number in range(_PHOTOS):
        write_image(folder / f"{number}.png", _photo(number))
    command = [sys.executable, "-m", "tests.faults.load", str(folder), str(count), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        yield Attempt(what="all calls", loss=f"no end in {_PATIENCE_S} s")
        return
    lines = done.stdout.splitlines()
    for line in lines:
        what, loss = json.loads(line)
        yield Attempt(what=what, loss=loss)
    last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    if done.returncode or len(lines) < count:
        yield Attempt(what="all calls", loss=f"status {done.returncode} after {len(lines)} calls: {last}")
    elif left := hidden_files(folder):
        yield Attempt(what="all calls", loss=f"left behind: {', '.join(left)}")


def _photo(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (30 + 7 * number, 40, 3), dtype=np.uint8)


def _calls(upscaler: Upscaler, folder: Path) -> dict[str, Callable[[int, int], str | None]]:
    """The kinds of calls by name; each takes a photo's number and a seed."""

    def array(photo: int, seed: int) -> str | None:
        return _other(upscaler.upscale(_photo(photo), seed=seed), photo, seed)

    def file(photo: int, seed: int) -> str | None:
        target = folder / f"{photo}-{seed}-{threading.get_ident()}.png"
        upscaler.upscale_file(folder / f"{photo}.png", target, seed=seed)
        pixels = read_image(target).pixels
        target.unlink()
        return _other(pixels, photo, seed)

    def samples(photo: int, seed: int) -> str | None:
        pictures = upscaler.encode(_photo(photo)).samples(2, seed=seed)
        return _other(pictures[0], photo, seed)

    def cancelled(photo: int, seed: int) -> str | None:
        cancel = threading.Event()
        cancel.set()
        try:
            upscaler.upscale(_photo(photo), seed=seed, cancel=cancel)
        except CancelledError:
            return None
        return "a cancelled call gave a picture"

    def _other(pixels: NDArray[np.uint8], photo: int, seed: int) -> str | None:
        return None if np.array_equal(pixels, expected[photo, seed]) else "another picture than alone"

    expected = {
        (photo, seed): upscaler.upscale(_photo(photo), seed=seed) for photo in range(_PHOTOS) for seed in range(3)
    }
    return {"array": array, "file": file, "samples": samples, "cancelled": cancelled}


def _main(folder: Path, count: int, seed: int) -> None:
    chance = random.Random(seed)
    with Upscaler(folder / "tiny.srflow", device="cpu", threads=1, tile=32) as upscaler:
        calls = _calls(upscaler, folder)
        plans = [(chance.choice(list(calls)), chance.randrange(_PHOTOS), chance.randrange(3)) for _ in range(count)]

        def call(plan: tuple[str, int, int]) -> str | None:
            try:
                return calls[plan[0]](*plan[1:])
            except Exception as error:
                return f"{type(error).__name__}: {error}"

        with ThreadPoolExecutor(_THREADS) as pool:
            for number, (plan, loss) in enumerate(zip(plans, pool.map(call, plans), strict=True)):
                print(json.dumps([f"call {number}: {plan}", loss]), flush=True)  # noqa: T201
    if threading.active_count() > 1:
        raise SystemExit(f"threads are left: {[thread.name for thread in threading.enumerate()]}")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
