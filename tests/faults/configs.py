"""Mutated settings of the trainer: each is read, or refused in one line that names it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from importlib import resources
from itertools import pairwise
from pathlib import Path

import yaml

from srflow_sdk.errors import SRFlowError
from srflow_training.settings import load_settings, preset_names
from tests.faults.attempts import Attempt
from tests.faults.mutation import mutated, with_odd_value
from tests.faults.workers import is_one_line, read_in_worker

_PATIENCE_S = 20
_LAUGHS = "\n".join(
    ["a: &a [lol, lol]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))]
)
_HOSTILE = (
    _LAUGHS,
    "network: &n {kind: srflow, x: *n}",
    "network: {nf: " + "9" * 400_000 + "}",
    "network: " + "[" * 20_000,
    "network: !!python/object/apply:os.system ['touch canary']",
    "schedule: {iterations: 1e999, learning_rate: .nan}",
    "schedule: {iterations: 0x" + "f" * 30 + "}",
    "when: 2026-99-99",
    "base: ../../../../../../dev/zero",
    "data: {crop: 190:20:30.5}",
    "\ufeff? !!binary aGVsbG8=\n: 1",
    "%YAML 9.9\n---\na: 1\n---\nb: 2",
    "a" * 2_000_000,
    "",
    "- 1",
)


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """First what is known to be hostile, then mutated texts and values of the presets."""
    return read_in_worker(__name__, _files(folder, count, seed), patience_s=_PATIENCE_S)


def read(path: Path) -> str | None:
    """Load settings, and build nothing."""
    try:
        load_settings(str(path))
    except SRFlowError as error:
        text = str(error)
        return None if is_one_line(text) and len(text) < 2500 else f"an error of {len(text)} characters: {text[:200]!r}"
    return "code was executed" if Path("canary").exists() else None


def _files(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    chance = random.Random(seed)
    presets = [
        (resources.files("srflow_training") / "presets" / f"{name}.yaml").read_bytes() for name in preset_names()
    ]
    fifo = folder / "fifo.yaml"
    os.mkfifo(fifo)
    yield "a FIFO", fifo
    yield "/dev/zero", Path("/dev/zero")
    for number, text in enumerate(_HOSTILE):
        path = folder / f"hostile-{number}.yaml"
        path.write_text(text, encoding="utf-8")
        yield f"hostile text {number}", path
    for number in range(count - len(_HOSTILE) - 2):
        content = chance.choice(presets)
        path = folder / f"{number:06d}.yaml"
        if number % 2:
            path.write_bytes(mutated(content, chance))
        else:
            values = with_odd_value(yaml.safe_load(content), chance)
            path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
        yield f"mutant {number}", path
