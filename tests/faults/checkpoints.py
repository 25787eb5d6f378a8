"""Mutated checkpoints, and pickles that would run a command: each is loaded, or refused, and nothing is executed."""

from __future__ import annotations

import io
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from srflow_training import load_checkpoint, save_checkpoint
from tests.faults.attempts import Attempt
from tests.faults.mutation import mutated
from tests.faults.workers import read_in_worker
from tests.networks import golden_checkpoint, random_srflow, tiny_config

_PATIENCE_S = 60
_CANARY = "executed"


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """First the gadgets, then mutants of every container."""
    return read_in_worker(__name__, _files(folder, count, seed), patience_s=_PATIENCE_S)


def read(path: Path) -> str | None:
    """Load a checkpoint; what is loaded must be a network."""
    canary = path.parent / _CANARY
    try:
        network = load_checkpoint(path)
    finally:
        executed = canary.exists()
        canary.unlink(missing_ok=True)
        if executed:
            return "code in the file was executed"  # noqa: B012 - worse than any error
    return None if isinstance(network, torch.nn.Module) else f"loaded as {type(network).__name__}"


class _Gadget:
    """Unpickled, it creates a file."""

    def __init__(self, canary: Path, call: int) -> None:
        self._made = [
            (os.system, (f"touch '{canary}'",)),
            (eval, (f"open({str(canary)!r}, 'w')",)),
            (Path.touch, (canary,)),
        ][call]

    def __reduce__(self) -> Any:
        return self._made


def _files(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    number = 0
    for call in range(3):
        for name, content in _gadgets(_Gadget(folder / _CANARY, call)):
            path = folder / name
            path.write_bytes(content)
            number += 1
            yield f"gadget {call} in {name}", path
    chance = random.Random(seed)
    whole = _originals(folder)
    for mutant in range(count - number):
        name, content = whole[mutant % len(whole)]
        inside = zipfile.is_zipfile(io.BytesIO(content)) and chance.random() < 0.7
        path = folder / f"{mutant:06d}-{name}"
        path.write_bytes(_mutated_inside(content, chance) if inside else mutated(content, chance))
        yield f"mutant {mutant} of {name}", path


def _gadgets(gadget: _Gadget) -> Iterator[tuple[str, bytes]]:
    """The gadget in every container that a checkpoint may come in."""
    state = {"conv_first.weight": torch.zeros(8, 3, 3, 3), "x": gadget}
    for name, options in (("zip.pth", {}), ("legacy.pth", {"_use_new_zipfile_serialization": False})):
        stream = io.BytesIO()
        torch.save(state, stream, **options)
        yield name, stream.getvalue()
        stream = io.BytesIO()
        torch.save({"state_dict": {"a": [state]}}, stream, **options)
        yield f"wrapped-{name}", stream.getvalue()
    for protocol in range(6):
        yield f"pickle-{protocol}.pth", pickle.dumps(gadget, protocol=protocol)
        yield f"pickle-{protocol}.safetensors", pickle.dumps({"a": gadget}, protocol=protocol)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:  # the oldest layout of torch
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(gadget)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    yield "tar.pth", stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py", "a/version"):
            archive.writestr(name, pickle.dumps(gadget))
    yield "script.pth", stream.getvalue()


def _originals(folder: Path) -> list[tuple[str, bytes]]:
    model = random_srflow(tiny_config(steps=1))
    save_checkpoint(folder / "own", model)
    golden_checkpoint(folder / "published")
    found = [("own.safetensors", (folder / "own").read_bytes()), ("zip.pth", (folder / "published").read_bytes())]
    state = torch.load(folder / "published", weights_only=True)
    for name in ("own", "published"):
        (folder / name).unlink()
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=False)
    found.append(("legacy.pth", stream.getvalue()))
    encoder = dict(model.encoder.state_dict())
    stream = io.BytesIO()
    torch.save({"params_ema": encoder}, stream)
    return [*found, ("encoder.pth", stream.getvalue()), ("encoder.safetensors", save(encoder))]


def _mutated_inside(content: bytes, chance: random.Random) -> bytes:
    """The same archive with its pickle, or another entry, mutated and its checksums right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(stream, "w") as changed:
        names = archive.namelist()
        pickled = [name for name in names if name.endswith("data.pkl")]
        victim = chance.choice(pickled if pickled and chance.random() < 0.8 else names)
        for name in names:
            data = archive.read(name)
            changed.writestr(name, mutated(data, chance) if name == victim and len(data) > 1 else data)
    return stream.getvalue()
