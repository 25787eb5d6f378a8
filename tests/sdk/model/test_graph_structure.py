"""A bundle's graph is untrusted code: what ONNX Runtime must never see is refused before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from srflow_export._bundle_writer import staged_bundle
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import BundleError
from srflow_sdk.model.graph_structure import MAX_NODES, read_graph

from ..tiny_bundle import tiny_manifest, write_tiny_bundle

node = helper.make_node


@pytest.fixture
def sampler(tiny_bundle: Path) -> onnx.ModelProto:
    return onnx.load(tiny_bundle / "sampler.onnx")


def refused(folder: Path, model: onnx.ModelProto | bytes, match: str) -> None:
    path = folder / "sampler.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(BundleError, match=match) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)


def function(name: str, *nodes: onnx.NodeProto, domain: str = "srflow") -> onnx.FunctionProto:
    return helper.make_function(domain, name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 17)])


def test_the_embedded_bundle_of_an_older_layout_is_read() -> None:
    bundle = Bundle.embedded()
    for name in ("encoder.onnx", "sampler.onnx"):
        expected = onnx.load(bundle.file(name)).graph.node
        assert read_graph(bundle.file(name)).ops.total() == len(expected)


def test_calls_of_functions_count_as_their_nodes(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    before = len(sampler.graph.node)
    sampler.functions.append(function("FlowStepTail", node("Neg", ["a"], ["c"]), node("Neg", ["c"], ["b"])))
    sampler.graph.node.extend(node("FlowStepTail", ["sr"], [f"x{i}"], domain="srflow") for i in range(3))
    (tmp_path / "x.onnx").write_bytes(sampler.SerializeToString())
    ops = read_graph(tmp_path / "x.onnx").ops
    assert (ops.total(), ops["Neg"]) == (before + 6, 6)


def test_a_bundle_with_an_endless_loop_is_refused_before_it_runs(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [node("Identity", ["go"], ["again"]), node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    sampler.graph.node[-1].output[0] = "before"
    sampler.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    sampler.graph.node.append(node("Loop", ["", "true", "before"], ["sr"], body=body))
    tiny = write_tiny_bundle(tmp_path / "tiny.srflow")
    with staged_bundle(tmp_path / "loop.srflow") as stage:
        (stage.path / "encoder.onnx").write_bytes((tiny / "encoder.onnx").read_bytes())
        (stage.path / "sampler.onnx").write_bytes(sampler.SerializeToString())
        stage.commit(tiny_manifest())
    with pytest.raises(BundleError, match=r"sampler\.onnx .* a subgraph in an attribute"):
        Upscaler(tmp_path / "loop.srflow", device="cpu")


@pytest.mark.parametrize("op", ["Loop", "Scan", "If", "SequenceConstruct", "Expand", "ConstantOfShape", "NonZero"])
def test_an_operator_that_the_exporter_does_not_write_is_refused(tmp_path: Path, sampler, op: str) -> None:
    sampler.graph.node.append(node(op, ["sr"], ["x"]))
    refused(tmp_path, sampler, f"the operator '{op}'; fetch or export")


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "srflow", "\x1b[31m"])
def test_an_operator_of_another_domain_is_refused(tmp_path: Path, sampler, domain: str) -> None:
    sampler.graph.node.append(node("Conv", ["sr"], ["x"], domain=domain))
    (tmp_path / "x.onnx").write_bytes(sampler.SerializeToString())
    with pytest.raises(BundleError, match="uses the operator") as caught:
        read_graph(tmp_path / "x.onnx")
    assert str(caught.value).isprintable()


def test_functions_that_call_functions_are_refused(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    def twice(callee: str, domain: str) -> list[onnx.NodeProto]:
        return [node(callee, ["a"], ["c"], domain=domain), node(callee, ["c"], ["b"], domain=domain)]

    sampler.graph.node.append(node("FlowStepTail", ["sr"], ["x"], domain="srflow"))
    sampler.functions.append(function("FlowStepTail", *twice("UnsqueezeSplit", "srflow")))
    sampler.functions.append(function("UnsqueezeSplit", *twice("Neg", "")))
    refused(tmp_path, sampler, "the operator 'srflow::UnsqueezeSplit'")


@pytest.mark.parametrize(
    ("name", "domain", "match"),
    [
        ("Bomb", "srflow", "a function 'srflow::Bomb'"),
        ("FlowStepTail", "", "a function 'FlowStepTail'"),
        ("Conv", "", "a function 'Conv'"),
    ],
)
def test_other_functions_are_refused(tmp_path: Path, sampler, name: str, domain: str, match: str) -> None:
    sampler.functions.append(function(name, node("Neg", ["a"], ["b"]), domain=domain))
    refused(tmp_path, sampler, match)


def test_a_function_defined_twice_or_not_at_all_is_refused(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    sampler.graph.node.append(node("FlowStepTail", ["sr"], ["x"], domain="srflow"))
    refused(tmp_path, sampler, "does not define it")
    sampler.functions.extend([function("FlowStepTail", node("Neg", ["a"], ["b"]))] * 2)
    refused(tmp_path, sampler, "two functions FlowStepTail")


def test_too_many_nodes_are_refused_after_expansion(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    sampler.functions.append(function("FlowStepTail", *[node("Neg", ["a"], ["b"])] * 300))
    sampler.graph.node.extend([node("FlowStepTail", ["sr"], ["x"], domain="srflow")] * 300)
    refused(tmp_path, sampler, f"more than {MAX_NODES} nodes")


def external_data(*, keep_raw: bool = False, **place: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[-1]
        if not keep_raw:
            weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "sampler.onnx", "offset": "0", "length": "5184", **place}.items():
            weight.external_data.add(key=key, value=value)

    return change


def external_data_in_a_constant(model: onnx.ModelProto) -> None:
    constant = TensorProto(dims=[1], data_type=TensorProto.FLOAT)
    constant.external_data.add(key="location", value="/dev/zero")
    model.graph.node.append(node("Constant", [], ["c"], value=constant))


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.append(1 << 40)


def sequence(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[:] = [1 << 20, 1 << 20]


def negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[:] = [-1, 4]


def many_dimensions(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[:] = [1] * 9


def text(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].string_data.append(b"text")


def subgraph_of_an_allowed_operator(model: onnx.ModelProto) -> None:
    graph = AttributeProto(name="body", type=AttributeProto.GRAPH)
    graph.g.name = "body"
    model.graph.node[-1].attribute.append(graph)


def training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.name = "x"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (external_data(), "external data, elsewhere than an inverter's"),
        (external_data_in_a_constant, "external data, elsewhere"),
        (sparse, "sparse weights in a graph"),
        (sequence, "a sequence in a type"),
        (huge, "a tensor of 1048576×1048576 values is too large"),
        (negative, "is too large"),
        (many_dimensions, "is too large"),
        (text, "text in a tensor"),
        (subgraph_of_an_allowed_operator, "a subgraph in an attribute"),
        (training, "training information in a model"),
    ],
)
def test_what_the_exporter_never_writes_is_refused(
    tmp_path: Path, sampler: onnx.ModelProto, change: Callable[[onnx.ModelProto], None], match: str
) -> None:
    change(sampler)
    refused(tmp_path, sampler, match)


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ({"location": "../secret"}, r"external data, elsewhere than an inverter's in sampler\.onnx"),
        ({"location": "sampler.onnx offset=0 length=5184", "offset": "", "length": ""}, "external data"),
        ({"basepath": "/"}, "external data"),
        ({"offset": "-4"}, "external data"),
        ({"offset": "9" * 18}, "external data"),
        ({"raw": "both"}, "external data"),
        ({"length": "1"}, "is too large for its 1 bytes"),
    ],
)
def test_an_inverters_weights_lie_in_the_sampler_alone(
    tmp_path: Path, sampler: onnx.ModelProto, place: dict[str, str], match: str
) -> None:
    (tmp_path / "sampler.onnx").write_bytes(sampler.SerializeToString())
    external_data()(sampler)
    path = tmp_path / "inverter.onnx"
    path.write_bytes(sampler.SerializeToString())
    read_graph(path)
    weight = sampler.graph.initializer[-1]
    weight.ClearField("external_data")
    if "raw" in place:
        weight.raw_data = b"1234"
    external_data(**{key: value for key, value in place.items() if key != "raw"}, keep_raw="raw" in place)(sampler)
    path.write_bytes(sampler.SerializeToString())
    with pytest.raises(BundleError, match=match):
        read_graph(path)


def test_two_graphs_that_a_parser_would_merge_are_refused(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    refused(tmp_path, sampler.SerializeToString() * 2, "2 graphs instead of one")


def test_millions_of_fields_are_not_read_to_their_end(tmp_path: Path) -> None:
    refused(tmp_path, b"\x08\x01" * 1_100_000, "more than 1000000 fields")


def test_a_number_of_more_than_64_bits_is_read_as_protobuf_reads_it(tmp_path: Path, sampler: onnx.ModelProto) -> None:
    weight = TensorProto(name="w", dims=[1], data_type=TensorProto.INT64, int64_data=[-1])
    sampler.graph.initializer.append(weight)
    content = sampler.SerializeToString()
    longer = content.replace(b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x7f")
    assert longer != content
    (tmp_path / "x.onnx").write_bytes(longer)
    assert read_graph(tmp_path / "x.onnx").weights["w"].tolist() == [-1]


def test_a_file_that_is_cut_off_anywhere_is_a_bundle_error(tmp_path: Path, tiny_bundle: Path) -> None:
    content = (tiny_bundle / "encoder.onnx").read_bytes()
    ends = [*range(200), *range(200, len(content), 37)]
    for end in ends:
        (tmp_path / "x.onnx").write_bytes(content[:end])
        try:
            read_graph(tmp_path / "x.onnx")
        except BundleError:
            continue
        onnx.load(tmp_path / "x.onnx")  # cut between two fields: still a message


def test_damaged_bytes_are_read_or_a_bundle_error(tmp_path: Path, tiny_bundle: Path) -> None:
    content = np.frombuffer((tiny_bundle / "sampler.onnx").read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    refusals = 0
    for _ in range(500):
        damaged = content.copy()
        damaged[random.integers(0, len(content), 20)] = random.integers(0, 256, 20)
        (tmp_path / "x.onnx").write_bytes(damaged.tobytes())
        try:
            read_graph(tmp_path / "x.onnx")
        except BundleError:
            refusals += 1
    assert refusals > 100
