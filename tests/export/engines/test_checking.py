"""An engine is taken only if it has the graph's ends and computes in the graph's precision."""

from types import SimpleNamespace

import pytest

from srflow_export.engines import _checking as checking
from srflow_export.engines._checking import check_network, check_plan, convolution_types, network_report
from srflow_export.engines._graph import read_graph
from srflow_export.engines._inspection import EngineReport
from srflow_sdk.errors import ExportError


@pytest.fixture
def graph(exported):
    return read_graph(exported / "encoder.onnx", precision="fp16")


def report(graph, convolutions, computing, **changes):
    inputs, outputs = graph.types()
    fields = {"inputs": inputs, "outputs": outputs, "layers": 9, **changes}
    return EngineReport(convolutions=convolutions, computing=computing, **fields)


@pytest.fixture
def check(graph, monkeypatch):
    """Checks a report as if an engine's inspector had given it."""

    def checked(precision, convolutions, computing, **changes):
        given = report(graph, convolutions, computing, **changes)
        monkeypatch.setattr(checking, "inspect_engine", lambda *_: given)
        monkeypatch.setattr(checking, "build_logger", lambda _: SimpleNamespace(said=lambda: "it is damaged"))
        runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: {b"plan": "engine"}.get(plan))
        trt = SimpleNamespace(Runtime=lambda _: runtime, __name__="tensorrt", __version__="11.4")
        plan = changes.pop("plan", b"plan")
        return check_plan(trt, plan, SimpleNamespace(name="encoder.onnx", precision=precision, types=graph.types))

    return checked


@pytest.mark.parametrize(
    ("precision", "convolutions", "computing"),
    [
        ("fp32", {"float32": 9}, {"float32": 20, "int64": 3}),
        ("fp16", {"float16": 9, "float32": 2}, {"float16": 10, "float32": 5}),
        ("fp16", {}, {"float16": 10, "float32": 5}),  # all fused into layers of other names
        ("bf16", {"bfloat16": 9}, {"bfloat16": 9, "float32": 1}),
    ],
)
def test_an_engine_of_its_precision_passes_as_checked(check, precision, convolutions, computing):
    assert check(precision, convolutions, computing)


@pytest.mark.parametrize("computing", [{}, {"unknown": 12}])
def test_an_inspector_that_keeps_types_to_itself_proves_nothing(check, computing):
    assert not check("fp16", {}, computing)


@pytest.mark.parametrize(
    ("precision", "convolutions", "computing", "words"),
    [
        ("fp32", {"float32": 9}, {"float32": 20, "float16": 3}, "3 layers compute in float16"),
        ("fp32", {"float32": 9}, {"float32": 20, "bfloat16": 1}, "1 layers compute in bfloat16"),
        ("fp16", {"float32": 9}, {"float32": 20}, "no convolution computes in float16"),
        ("fp16", {"float32": 9}, {"float32": 20, "float16": 4}, "no convolution computes in float16"),
        ("fp16", {}, {"float32": 20}, "no layer computes in float16"),
        ("fp16", {"float16": 9}, {"float16": 9, "bfloat16": 2}, "2 layers compute in bfloat16"),
    ],
)
def test_an_engine_of_another_precision_is_refused(check, precision, convolutions, computing, words):
    with pytest.raises(ExportError, match=f"engine of encoder.onnx is not .*{words}.*--precision {precision}"):
        check(precision, convolutions, computing)


def test_an_engine_with_other_ends_is_refused(check):
    with pytest.raises(ExportError, match="input lr is missing, not float32"):
        check("fp16", {"float16": 1}, {"float16": 1}, inputs={})
    with pytest.raises(ExportError, match="input tau is float32, not there"):
        check("fp16", {"float16": 1}, {"float16": 1}, inputs={"lr": "float32", "tau": "float32"})


def test_an_engine_that_does_not_load_is_refused_in_the_librarys_words(graph, monkeypatch):
    monkeypatch.setattr(checking, "build_logger", lambda _: SimpleNamespace(said=lambda: "it is damaged"))
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: None)
    trt = SimpleNamespace(Runtime=lambda _: runtime, __name__="tensorrt", __version__="11.4")
    with pytest.raises(ExportError, match="does not load again: it is damaged"):
        check_plan(trt, b"plan", graph)


@pytest.fixture
def network(rtx, graph):
    log = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(log)
    parsed = builder.create_network(0)
    parser = rtx.OnnxParser(parsed, log)
    assert parser.parse(graph.model.SerializeToString())
    yield parsed
    del parser, parsed


def test_a_parsed_networks_types_are_the_graphs(network, graph):
    told = network_report(network)
    assert (told.inputs, told.outputs) == graph.types()
    assert told.convolutions == {
        "float16": sum(node.op_type in ("Conv", "ConvTranspose") for node in graph.model.graph.node)
    }
    assert told.computing["float16"] > told.convolutions["float16"]
    assert told.computing["float32"] > 0


def test_a_parsed_network_with_a_convolution_of_another_type_is_refused(rtx, network, graph, exported):
    """The sampler's 1×1 chain in half would be such a one."""
    mixed = read_graph(exported / "sampler.onnx", precision="fp16")
    assert convolution_types(mixed) == {"float16": 11, "float32": 3}
    wrong = SimpleNamespace(name=graph.name, precision="fp16", types=graph.types, model=mixed.model)
    count = convolution_types(graph)["float16"]
    with pytest.raises(ExportError, match=rf"{count} convolutions compute in float16, not 11; 0 .* float32, not 3"):
        check_network(rtx, network, wrong)


def test_a_parsed_network_of_another_graph_is_refused(rtx, network, graph, exported):
    check_network(rtx, network, graph)
    with pytest.raises(ExportError, match=r"sampler.onnx, as tensorrt_rtx reads it, .*input tau is missing"):
        check_network(rtx, network, read_graph(exported / "sampler.onnx", precision="fp16"))
