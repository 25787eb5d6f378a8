"""Mutated bundles whose manifests have the right hashes: each makes a picture of the right size, or is refused."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from srflow_sdk import Upscaler
from srflow_sdk.model.graph_sizes import ALLOWED_OPS
from srflow_sdk.model.manifest import manifest_digest
from tests.faults.attempts import Attempt
from tests.faults.mutation import mutated, with_odd_value
from tests.faults.workers import read_in_worker
from tests.sdk.tiny_bundle import write_tiny_bundle

_PATIENCE_S = 30
_SIZES = (0, 1, -1, 2, 3, 64, 100_000, 2**31 - 1, 2**31, 2**40)


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Mutate a graph's bytes, a graph's structure or the manifest of a bundle that works."""
    return read_in_worker(__name__, _bundles(folder, count, seed), patience_s=_PATIENCE_S)


def read(path: Path) -> str | None:
    """Load a bundle, make a picture and remove the bundle, which only stays if something is lost."""
    photo = np.arange(11 * 18 * 3, dtype=np.uint8).reshape(11, 18, 3)
    try:
        with Upscaler(path, device="cpu", threads=1) as upscaler:
            scale, picture = upscaler.bundle.manifest.scale, upscaler.upscale(photo)
    finally:
        shutil.rmtree(path)
    wanted = (scale * 11, scale * 18, 3)
    if picture.shape != wanted or picture.dtype != np.uint8:
        return f"a picture of {picture.shape} {picture.dtype} instead of {wanted}"
    return None


def rehashed(bundle: Path) -> None:
    """Make the manifest's sizes, sha256s and digest those of what is there."""
    content = json.loads((bundle / "manifest.json").read_text())
    for name in content["files"]:
        data = (bundle / name).read_bytes()
        content["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    _write_manifest(bundle, content)


def _write_manifest(bundle: Path, content: Any) -> None:
    if isinstance(content, dict):
        try:
            content["digest"] = manifest_digest(content)
        except (ValueError, RecursionError):
            content["digest"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(content))


def _bundles(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    chance = random.Random(seed)
    whole = [
        write_tiny_bundle(folder / "whole" / f"{precision}.srflow", precision=precision)
        for precision in ("fp32", "fp16", "int8")
    ]
    for number in range(count):
        bundle = folder / f"{number:06d}.srflow"
        shutil.copytree(chance.choice(whole), bundle)
        kind = chance.choice(("bytes", "structure", "structure", "manifest"))
        graph = bundle / chance.choice(("encoder.onnx", "sampler.onnx"))
        if kind == "manifest":
            _write_manifest(bundle, with_odd_value(json.loads((bundle / "manifest.json").read_text()), chance))
        else:
            change = mutated if kind == "bytes" else _restructured
            graph.write_bytes(change(graph.read_bytes(), chance))
            rehashed(bundle)
        yield f"mutant {number} ({kind} of {graph.name if kind != 'manifest' else 'manifest.json'})", bundle


def _restructured(data: bytes, chance: random.Random) -> bytes:
    """A graph that is still ONNX, with 1 to 3 nodes, attributes, weights or types changed."""
    model = onnx.load_from_string(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        chance.choice((_change_attribute, _change_node, _change_weight, _change_value, _add_node))(model.graph, chance)
    return bytes(model.SerializeToString())


def _change_attribute(graph: onnx.GraphProto, chance: random.Random) -> None:
    node = chance.choice(graph.node)
    if not node.attribute:
        names = ("pads", "axis", "group", "dilations", "strides", "to", "mode", "perm", "auto_pad", "blocksize")
        node.attribute.append(helper.make_attribute(chance.choice(names), chance.choice(_SIZES)))
        return
    attribute = chance.choice(node.attribute)
    if attribute.type == AttributeProto.INTS:
        size = chance.choice(_SIZES)
        attribute.ints[:] = [size] * chance.choice((len(attribute.ints), len(attribute.ints), 1, 9))
    elif attribute.type == AttributeProto.INT:
        attribute.i = chance.choice(_SIZES)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = chance.choice((b"", b"cubic", b"linear", b"SAME_UPPER", b"\xff\xff", b"x" * 70_000))


def _change_node(graph: onnx.GraphProto, chance: random.Random) -> None:
    node, other = chance.choice(graph.node), chance.choice(graph.node)
    what = chance.randrange(4)
    if what == 0:
        node.op_type = chance.choice(sorted(ALLOWED_OPS))
    elif what == 1 and node.input and other.output:
        node.input[chance.randrange(len(node.input))] = chance.choice(other.output)
    elif what == 2 and node.input:
        node.input[chance.randrange(len(node.input))] = chance.choice([entry.name for entry in graph.initializer])
    else:
        graph.node.remove(node)


def _change_weight(graph: onnx.GraphProto, chance: random.Random) -> None:
    weight = chance.choice(graph.initializer)
    array = numpy_helper.to_array(weight)
    if np.issubdtype(array.dtype, np.integer):
        changed = np.resize(np.array(chance.choice(_SIZES)).astype(array.dtype), array.shape)
    else:
        values = (np.nan, np.inf, 0, -1, 3e38, 1e-40, 1000, 1_000_000)
        changed = np.where(np.arange(array.size).reshape(array.shape) % 2, array, chance.choice(values))
    if chance.random() < 0.3:
        changed = changed.reshape(chance.choice(([-1], [*array.shape, 1], [1, *array.shape])))
    weight.CopyFrom(numpy_helper.from_array(changed.astype(array.dtype), weight.name))


def _change_value(graph: onnx.GraphProto, chance: random.Random) -> None:
    shape = chance.choice([*graph.input, *graph.output]).type.tensor_type
    what = chance.randrange(3)
    if what == 0:
        shape.elem_type = chance.randrange(20)
    elif what == 1 and shape.shape.dim:
        chance.choice(shape.shape.dim).dim_value = chance.choice(_SIZES)
    else:
        del shape.shape.dim[chance.randrange(4) :]


def _add_node(graph: onnx.GraphProto, chance: random.Random) -> None:
    """A node that enlarges its input, in front of a node that used it."""
    node = chance.choice([node for node in graph.node if node.input])
    source, name = node.input[0], f"enlarged{len(graph.node)}"
    if chance.random() < 0.5:
        added = helper.make_node("Concat", [source] * chance.choice((2, 100)), [name], axis=chance.choice((0, 1, 2)))
    else:
        scales = np.array([1, 1, *[chance.choice((2, 50, 3000))] * 2], np.float32)
        graph.initializer.append(numpy_helper.from_array(scales, f"scales{name}"))
        added = helper.make_node("Resize", [source, "", f"scales{name}"], [name])
    node.input[0] = name
    at = list(graph.node).index(node)
    graph.node.insert(at, added)
