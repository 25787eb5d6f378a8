"""Sizes are followed as ONNX Runtime computes them, and graphs that would take gigabytes or hours are not run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from srflow_export._bundle_writer import staged_bundle
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import BundleError
from srflow_sdk.model.graph_sizes import SizeError, cost_of
from srflow_sdk.model.graph_structure import read_graph

from ..tiny_bundle import tiny_manifest

node = helper.make_node
INTS = np.int64
FLOATS = np.float32

CASES: dict[str, tuple[str, list[tuple[int, ...]], list[Any], dict[str, Any]]] = {
    # the operator, shapes of its float inputs, its constants (None: left out), and its attributes
    "Add, broadcast": ("Add", [(2, 1, 5), (3, 1)], [], {}),
    "AveragePool": (
        "AveragePool",
        [(1, 3, 9, 8)],
        [],
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]},
    ),
    "Cast": ("Cast", [(2, 3)], [], {"to": TensorProto.FLOAT16}),
    "Concat": ("Concat", [(1, 2, 3), (1, 5, 3)], [], {"axis": -2}),
    "Conv": ("Conv", [(2, 4, 9, 8)], [np.zeros((6, 2, 3, 3), FLOATS)], {"group": 2, "pads": [1, 2, 3, 0]}),
    "Conv, dilated": (
        "Conv",
        [(1, 4, 9, 9)],
        [np.zeros((6, 4, 3, 3), FLOATS)],
        {"dilations": [2, 2], "strides": [2, 1]},
    ),
    "DepthToSpace": ("DepthToSpace", [(1, 8, 3, 2)], [], {"blocksize": 2, "mode": "CRD"}),
    "Gather": ("Gather", [(2, 5, 3)], [np.zeros((2, 2), INTS)], {"axis": 1}),
    "Neg": ("Neg", [(2, 3)], [], {}),
    "Reshape": ("Reshape", [(2, 3, 4)], [INTS([0, -1])], {}),
    "Reshape, to nothing": ("Reshape", [(0, 3)], [INTS([3, 0])], {"allowzero": 1}),
    "Resize, scales": ("Resize", [(1, 2, 5, 7)], [None, FLOATS([1, 1, 1.5, 0.3])], {"mode": "nearest"}),
    "Resize, sizes": ("Resize", [(1, 2, 5, 7)], [None, None, INTS([1, 2, 10, 3])], {"mode": "linear"}),
    "Shape": ("Shape", [(2, 3, 4, 5)], [], {"start": 1, "end": -1}),
    "Slice": ("Slice", [(9, 8)], [INTS([1, -3]), INTS([100, 7]), INTS([0, 1]), INTS([2, 1])], {}),
    "Slice, backwards": ("Slice", [(9,)], [INTS([-1]), INTS([-(2**62)]), INTS([0]), INTS([-2])], {}),
    "Slice, all axes": ("Slice", [(9, 8)], [INTS([2, 3]), INTS([5, 2**62])], {}),
    "SpaceToDepth": ("SpaceToDepth", [(1, 2, 4, 6)], [], {"blocksize": 2}),
    "Split": ("Split", [(1, 7)], [INTS([3, 4])], {"axis": 1}),
    "Squeeze": ("Squeeze", [(1, 3, 1)], [INTS([-1])], {}),
    "Squeeze, all": ("Squeeze", [(1, 3, 1)], [], {}),
    "Transpose": ("Transpose", [(2, 3, 4)], [], {"perm": [2, 0, 1]}),
    "Transpose, reversed": ("Transpose", [(2, 3, 4)], [], {}),
    "Unsqueeze": ("Unsqueeze", [(2, 3)], [INTS([0, -1])], {}),
}


def model_of(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("case", CASES)
def test_sizes_are_those_of_onnx_runtime(tmp_path: Path, case: str) -> None:
    op, shapes, constants, attributes = CASES[case]
    inputs = {f"x{number}": shape for number, shape in enumerate(shapes)}
    weights = {f"c{number}": value for number, value in enumerate(constants) if value is not None}
    names = [*inputs, *(f"c{number}" if f"c{number}" in weights else "" for number in range(len(constants)))]
    outputs = ["y0", "y1"] if op == "Split" else ["y0"]
    model = model_of([node(op, names, outputs, **attributes)], inputs, outputs, weights)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(None, {name: np.zeros(shape, FLOATS) for name, shape in inputs.items()})
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    graph = read_graph(tmp_path / "x.onnx")
    cost = cost_of(graph, inputs)
    assert list(cost.shapes.values()) == [result.shape for result in results]


def test_sizes_that_the_graph_computes_are_followed(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["height"], start=2, end=3),
        node("Mul", ["height", "two"], ["doubled"]),
        node("Concat", ["one", "three", "doubled", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    weights = {"two": INTS([2]), "one": INTS([1]), "three": INTS([3]), "rest": INTS([-1])}
    (tmp_path / "x.onnx").write_bytes(model_of(nodes, {"x": (1, 3, 4, 6)}, ["y"], weights).SerializeToString())
    graph = read_graph(tmp_path / "x.onnx")
    assert cost_of(graph, {"x": (1, 3, 4, 6)}).shapes == {"y": (1, 3, 8, 3)}


def test_what_is_held_and_computed_is_counted(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("Conv", ["b", "v"], ["y"])]
    weights = {"w": np.zeros((5, 3, 1, 1), FLOATS), "v": np.zeros((2, 5, 1, 1), FLOATS)}
    (tmp_path / "x.onnx").write_bytes(model_of(nodes, {"x": (1, 3, 4, 4)}, ["y"], weights).SerializeToString())
    graph = read_graph(tmp_path / "x.onnx")
    cost = cost_of(graph, {"x": (1, 3, 4, 4)})
    assert cost.numbers == 2 * 5 * 16  # a and b; x is the caller's
    assert cost.work == 16 * (5 * 3 + 5 + 2 * 5)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Reshape", ["x", "x"], ["y"])],
        [node("Add", ["x", "absent"], ["y"])],
        [node("Conv", ["x", "x"], ["y"], auto_pad="SAME_UPPER")],
        [node("Relu", ["x"], ["z"])],
        [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])],
        [node("Gather", ["x"], ["y"])],
    ],
    ids=[
        "sizes of the picture's values",
        "no such value",
        "padding by itself",
        "no output",
        "made twice",
        "no indices",
    ],
)
def test_a_graph_whose_sizes_cannot_be_followed_is_refused(tmp_path: Path, nodes: list[Any]) -> None:
    (tmp_path / "x.onnx").write_bytes(model_of(nodes, {"x": (1, 3, 4, 4)}, ["y"], {}).SerializeToString())
    graph = read_graph(tmp_path / "x.onnx")
    with pytest.raises(SizeError):
        cost_of(graph, {"x": (1, 3, 4, 4)})


def resized(graph: onnx.GraphProto) -> list[Any]:
    graph.initializer.append(numpy_helper.from_array(FLOATS([1, 1, 3000, 3000]), "huge"))
    pool = node("AveragePool", ["large"], ["sr"], kernel_shape=[3000, 3000], strides=[3000, 3000])
    return [node("Resize", ["before", "", "huge"], ["large"], mode="nearest"), pool]


def padded(graph: onnx.GraphProto) -> list[Any]:
    graph.initializer.append(numpy_helper.from_array(np.ones((3, 3, 1, 1), FLOATS), "kernel"))
    pads = [20_000] * 4
    crop = [INTS([20_000] * 2), INTS([-20_000] * 2), INTS([2, 3])]
    graph.initializer.extend(numpy_helper.from_array(value, f"crop{n}") for n, value in enumerate(crop))
    return [
        node("Conv", ["before", "kernel"], ["large"], pads=pads),
        node("Slice", ["large", "crop0", "crop1", "crop2"], ["sr"]),
    ]


def doubled(graph: onnx.GraphProto) -> list[Any]:
    names = ["before", *(f"twice{number}" for number in range(30))]
    graph.initializer.extend(numpy_helper.from_array(INTS([n]), f"to{n}") for n in (0, 3, 1))
    doubles = [node("Concat", [one, one], [other], axis=1) for one, other in pairwise(names)]
    return [*doubles, node("Slice", [names[-1], "to0", "to3", "to1"], ["sr"])]


def multiplied(graph: onnx.GraphProto) -> list[Any]:
    """A column times a row: the square of a picture's size, which is harmless for small pictures."""
    graph.initializer.extend(
        numpy_helper.from_array(INTS(shape), name) for name, shape in (("column", [-1, 1]), ("row", [1, -1]))
    )
    graph.initializer.extend(numpy_helper.from_array(INTS([n]), f"to{n}") for n in (0, 1))
    return [
        node("Reshape", ["before", "column"], ["a"]),
        node("Reshape", ["before", "row"], ["b"]),
        node("Mul", ["a", "b"], ["square"]),
        node("Slice", ["square", "to0", "to1", "to0"], ["line"]),
        node("Shape", ["before"], ["shape"]),
        node("Reshape", ["line", "shape"], ["sr"]),
    ]


def slow(graph: onnx.GraphProto) -> list[Any]:
    graph.initializer.append(numpy_helper.from_array(np.ones((3, 3, 501, 501), FLOATS), "kernel"))
    names = ["before", *(f"slow{number}" for number in range(30)), "sr"]
    return [node("Conv", [one, "kernel"], [other], pads=[250] * 4) for one, other in pairwise(names)]


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (resized, "a Resize makes a value of"),
        (padded, "times as much as it takes and gives"),
        (doubled, "a Concat makes a value of|times as much as it takes and gives"),
        (multiplied, "a Mul makes a value of|times as much as it takes and gives"),
        (slow, r"it would need \de\+\d+ multiplications for each pixel"),
    ],
)
def test_a_bundle_that_would_take_gigabytes_or_hours_is_not_run(
    tmp_path: Path, tiny_bundle: Path, attack: Callable[[onnx.GraphProto], list[Any]], says: str
) -> None:
    before = psutil.Process().memory_info().rss
    sampler = onnx.load(tiny_bundle / "sampler.onnx")
    sampler.graph.node[-1].output[0] = "before"
    sampler.graph.node.extend(attack(sampler.graph))
    with staged_bundle(tmp_path / "m.srflow") as stage:
        (stage.path / "encoder.onnx").write_bytes((tiny_bundle / "encoder.onnx").read_bytes())
        (stage.path / "sampler.onnx").write_bytes(sampler.SerializeToString())
        stage.commit(tiny_manifest())
    with pytest.raises(BundleError, match=rf"sampler\.onnx is not a graph that srflow-export writes.*({says})"):
        Upscaler(tmp_path / "m.srflow", device="cpu")
    assert psutil.Process().memory_info().rss - before < 500_000_000


def test_the_embedded_bundle_takes_a_small_part_of_what_is_allowed() -> None:
    bundle = Bundle.embedded()
    graph = read_graph(bundle.file("encoder.onnx"))
    cost = cost_of(graph, {"lr": (1, 3, 256, 256)})
    per_pixel = sum(np.prod(shape) for shape in cost.shapes.values()) * 4 / 256**2
    assert per_pixel == bundle.manifest.conditioning_bytes_per_pixel
    assert cost.numbers * 4 < 2 * per_pixel * 256**2
    assert cost.work < 10_000_000 * 256**2
