"""Mutated files of latents: each is read as latents that can be used, or refused in one line."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk import Bundle, Latents
from tests.faults.attempts import Attempt
from tests.faults.mutation import mutated, odd_value, with_odd_value
from tests.faults.workers import read_in_worker

_PATIENCE_S = 30
_HEIGHT, _WIDTH = 10, 14


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Mutate a file's bytes or its header in turn."""
    chance, whole = random.Random(seed), _original(folder)

    def mutants() -> Iterator[tuple[str, Path]]:
        for number in range(count):
            path = folder / f"{number:06d}.safetensors"
            path.write_bytes(mutated(whole, chance) if number % 2 else _with_odd_header(whole, chance))
            yield f"mutant {number}", path

    return read_in_worker(__name__, mutants(), patience_s=_PATIENCE_S)


def read(path: Path) -> str | None:
    """Read the latents for their model and change them; what is read must come back from a second file."""
    latents = Latents.load(path, model=_model())
    if not (0 < latents.height <= 4 * _HEIGHT and 0 < latents.width <= 4 * _WIDTH):
        return f"latents of {latents.height}×{latents.width} pixels, out of a file of {_HEIGHT}×{_WIDTH}"
    latents.scaled(0.5)
    again = path.with_name(f"{path.stem}-again.safetensors")
    latents.save(again)
    copy = Latents.load(again)
    again.unlink()
    same = all(np.array_equal(copy.levels[level], latents.levels[level], equal_nan=True) for level in latents.levels)
    return None if same and copy.precision == latents.precision else "other latents in the file written from them"


@cache
def _model() -> Bundle:
    """Opened once: an opening checks the sha256 of every file."""
    return Bundle.embedded()


def _original(folder: Path) -> bytes:
    path, model = folder / "whole.safetensors", _model()
    draw = np.random.default_rng(0)
    height, width = 16, 16  # with the padding
    levels = {
        entry.level: draw.standard_normal(
            (entry.channels, height >> entry.level, width >> entry.level), dtype=np.float32
        )
        for entry in model.manifest.latent_levels
    }
    latents = Latents(
        levels, height=_HEIGHT, width=_WIDTH, model_sha256=model.model_sha256, log_likelihood=123.25, precision="int8"
    )
    latents.save(path)
    content = path.read_bytes()
    path.unlink()
    return content


def _with_odd_header(whole: bytes, chance: random.Random) -> bytes:
    """The file with one odd value somewhere in its JSON header, or one of its texts odd, and the right length."""
    (length,) = struct.unpack("<Q", whole[:8])
    header: Any = json.loads(whole[8 : 8 + length])
    if chance.random() < 0.5:
        header["__metadata__"][chance.choice(list(header["__metadata__"]))] = str(odd_value(chance))
    else:
        header = with_odd_value(header, chance)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + length :]
