"""Random arguments for the C interface of the native library: numbers, in place and the right ones, or a refusal."""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from srflow_sdk.latents.random_field import standard_normal
from tests.faults.attempts import Attempt
from tests.faults.workers import read_in_worker

_ROOT = Path(__file__).parents[2]
_LIBRARY = "libsrflow_c_api.so"
_CALLS = 500  # in an attempt
_PATIENCE_S = 60
_FIELD = 1 << 32
_MOST_BYTES = (1 << 63) - 1
_ROOM = 1 << 14  # numbers; a window with more is only asked for if it must be refused

COMPILER = "c++"


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Build the library, which ends at undefined behaviour, and call it from a process of its own."""
    include = _ROOT / "runtime" / "include"
    source = _ROOT / "runtime" / "c_api" / "c_api.cpp"
    checks = ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-ffp-contract=off"]
    command = [COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", *checks, f"-I{include}", '-DSRFLOW_VERSION="0"']
    subprocess.run([*command, "-o", folder / _LIBRARY, source], check=True)
    chance = random.Random(seed)

    def calls() -> Iterator[tuple[str, Path]]:
        for number in range(count):
            path = folder / f"{number:06d}.json"
            path.write_text(json.dumps([_arguments(chance) for _ in range(_CALLS)]))
            yield f"calls {number}", path

    return read_in_worker(__name__, calls(), patience_s=_PATIENCE_S)


def can_be_built() -> bool:
    """Whether there is a compiler."""
    return shutil.which(COMPILER) is not None


def read(path: Path) -> str | None:
    """Make the calls of a file. The room for the numbers ends where memory does, so one too many is a crash."""
    library, (room, end) = _library(str(path.parent / _LIBRARY)), _room()
    for arguments in json.loads(path.read_text()):
        seed, sample, level, channels, top, left, height, width = arguments
        numbers = channels * height * width
        valid = (
            1 <= level <= 63
            and 1 <= channels <= 1 << 16
            and 0 <= top < top + height <= _FIELD
            and 0 <= left < left + width <= _FIELD
            and 4 * numbers <= _MOST_BYTES
        )
        if valid and numbers > _ROOM:
            continue
        out = end - 4 * numbers if valid else end - 4
        room[:] = np.float32(5)
        status = library.srflow_standard_normal(*arguments, out)
        if status != (0 if valid else 1):
            return f"{arguments}: status {status}"
        written, rest = (room[-numbers:], room[:-numbers]) if valid else (room[:0], room)
        if not np.all(rest == 5):
            return f"{arguments}: written outside of its place"
        place = {"channels": channels, "top": top, "left": left, "height": height, "width": width}
        if valid and not np.array_equal(written, standard_normal(seed, sample, level, **place).ravel()):
            return f"{arguments}: other numbers than srflow_sdk.latents.random_field"
    return None


def _arguments(chance: random.Random) -> list[int]:
    """Of srflow_standard_normal: mostly near the ends of their ranges, and half of them a small window."""
    edges = [0, 1, 2, 1 << 16, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1]

    def size(bits: int) -> int:
        value = chance.choice([chance.choice(edges) + chance.randint(-2, 2), chance.getrandbits(bits), -1])
        return min(max(value, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)

    words = [chance.getrandbits(64), chance.choice([0, 1, (1 << 64) - 1, chance.getrandbits(64)])]
    if chance.random() < 0.5:
        return [*words, size(32), size(32), *(size(64) for _ in range(4))]
    height, width = chance.randint(1, 40), chance.randint(1, 40)
    places = [
        chance.choice([0, _FIELD - side, _FIELD - side + 1, chance.randrange(_FIELD)]) for side in (height, width)
    ]
    return [*words, chance.randint(1, 64), chance.randint(1, 20), *places, height, width]


@cache
def _library(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    sizes = [ctypes.c_int] * 2 + [ctypes.c_int64] * 4
    library.srflow_standard_normal.argtypes = [ctypes.c_uint64, ctypes.c_uint64, *sizes, ctypes.c_void_p]
    return library


@cache
def _room() -> tuple[np.ndarray, int]:
    """Numbers before a page that nobody may touch, and the address where it begins."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 4 * _ROOM + page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(begin + 4 * _ROOM), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return np.frombuffer(memory, np.float32, _ROOM), begin + 4 * _ROOM
