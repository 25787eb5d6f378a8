"""Real TensorRT-RTX builds, for GPUs that this machine does not have, and what is checked: ends,
types, plugins.

No engine loads without a GPU: those that are inspected speak as engines do.
"""

import dataclasses
from types import SimpleNamespace

import onnx
import pytest

from srflow_export.engines import building
from srflow_export.engines.building import build_engine, check_network
from srflow_export.engines.bundles import build_engines, graphs_of
from srflow_export.engines.graphs import Graph, read_graph
from srflow_export.engines.requests import EngineRequest, Library, parse_shapes
from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import FILE_NAME
from srflow_sdk.system.hardware import Gpu
from srflow_sdk.system.local_files import file_sha256
from tests.export.engines.conftest import REQUEST


@pytest.fixture
def graph(exported):
    return read_graph(exported / "encoder.onnx", precision="fp16")


@pytest.fixture
def network(rtx, graph):
    log = rtx.Logger(rtx.Logger.ERROR)
    parsed = rtx.Builder(log).create_network(0)
    parser = rtx.OnnxParser(parsed, log)
    assert parser.parse(graph.model.SerializeToString())
    yield parsed
    del parser, parsed


def test_a_parsed_network_of_another_graph_is_refused(rtx, network, graph, exported):
    check_network(rtx, network, graph)
    with pytest.raises(
        ExportError,
        match=r"sampler.onnx, as tensorrt_rtx reads .*input tau: none instead of float32",
    ):
        check_network(rtx, network, read_graph(exported / "sampler.onnx", precision="fp16"))


NAME = "engines/rtx-{}-sm89-sm120-fp16.{}.engine"


def shapes(graph, text="16,88,168"):
    return graph.input_shapes(parse_shapes(text), scale=4)


@pytest.mark.slow
def test_engines_for_two_gpus_are_written_and_recorded_one_of_the_inverter_too(
    rtx, folder, manifest
):
    graphs = graphs_of(dataclasses.replace(manifest, files={"inverter.onnx": {}}), "fp16")
    assert graphs == ("encoder.onnx", "sampler.onnx", "inverter.onnx")
    lines = []
    record = build_engines(folder, manifest, REQUEST, graphs=graphs, say=lines.append)
    assert record.runtime == "tensorrt_rtx"
    assert record.version == rtx.__version__
    assert record.precision == "fp16"
    assert record.compute_capabilities == ("8.9", "12.0")
    assert record.gpu == ""
    assert record.profile == LrProfile(min=(2, 2), opt=(168, 168), max=(536, 536))
    assert record.encoder == NAME.format(rtx.__version__, "encoder")
    assert record.sampler == NAME.format(rtx.__version__, "sampler")
    assert record.inverter == NAME.format(rtx.__version__, "inverter")
    assert record.files == (record.encoder, record.sampler, record.inverter)
    assert record.graphs == {name: file_sha256(folder / name) for name in graphs}
    contents = [(folder / name).read_bytes() for name in record.files]
    assert min(map(len, contents)) > 100_000
    assert len(set(contents)) == 3
    assert all(FILE_NAME.fullmatch(name) for name in record.files)
    assert [line.partition(":")[0] for line in lines if "built in" in line] == list(graphs)


def test_a_graph_that_the_library_cannot_read_is_named_with_its_reason(rtx):
    node = onnx.helper.make_node(
        "NoSuchOperator", ["lr"], ["sr"], name="the_node", domain="elsewhere"
    )
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 3, 8, 8))
        for name in ("lr", "sr")
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", ends[:1], ends[1:]),
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("elsewhere", 1)],
        ir_version=8,
    )
    graph = Graph(name="odd.onnx", precision="fp32", content=model.SerializeToString(), model=model)
    with pytest.raises(
        ExportError, match=r"odd.onnx: tensorrt_rtx .* cannot read the graph: .*NoSuchOperator"
    ):
        build_engine(rtx, graph, {}, REQUEST)


def test_a_file_that_is_no_graph_is_named(folder, rtx, manifest):
    (folder / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"encoder.onnx cannot be read"):
        build_engines(folder, manifest, REQUEST)
    (folder / "encoder.onnx").unlink()
    with pytest.raises(ExportError, match=r"encoder.onnx cannot be read"):
        build_engines(folder, manifest, REQUEST)


@pytest.mark.parametrize("name", ["encoder.onnx", "sampler.onnx"])
def test_couplings_have_their_channels_last_between_engines_and_all_else_is_linear(
    rtx, exported, name, monkeypatch
):
    seen = []

    def noted(_trt, network, *_, **__):
        seen.append(network)

    monkeypatch.setattr(building, "check_network", noted)
    graph = read_graph(exported / name, precision="fp16")
    build_engine(rtx, graph, shapes(graph), REQUEST)
    (network,) = seen
    tensors = [network.get_input(at) for at in range(network.num_inputs)]
    tensors += [network.get_output(at) for at in range(network.num_outputs)]
    formats = {tensor.name: tensor.allowed_formats for tensor in tensors}
    last = {name for name, allowed in formats.items() if allowed == 1 << int(rtx.TensorFormat.HWC8)}
    assert last == {f"level{level}_step0_coupling" for level in (1, 2, 3)}
    assert {formats[name] for name in formats.keys() - last} == {1 << int(rtx.TensorFormat.LINEAR)}


def test_progress_is_told_from_the_callers_thread(rtx, graph, monkeypatch):
    monkeypatch.setattr(building, "_SAY_EVERY_S", 0.001)
    lines = []
    build_engine(rtx, graph, shapes(graph), REQUEST, say=lines.append)
    assert all(line.startswith("encoder.onnx: building for ") for line in lines[:-1])
    assert len(lines) > 1
    assert "built in" in lines[-1]


def test_an_interrupt_ends_the_build_and_reaches_the_caller(rtx, graph, monkeypatch):
    monkeypatch.setattr(building, "_SAY_EVERY_S", 0.001)
    monitors = []
    build_monitor = building.build_monitor
    monkeypatch.setattr(
        building,
        "build_monitor",
        lambda trt: monitors.append(build_monitor(trt)) or monitors[0],
    )

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(rtx, graph, shapes(graph), REQUEST, say=interrupt)
    assert not monitors[0].step_complete("any", 0)  # what the library asks after each step


def test_every_option_reaches_the_builder(rtx):
    log = rtx.Logger(rtx.Logger.ERROR)
    config = rtx.Builder(log).create_builder_config()
    assert config.get_flag(rtx.BuilderFlag.TF32)
    building._configure(rtx, config, dataclasses.replace(REQUEST, level=1, sms=(89, 120)))
    assert not config.get_flag(rtx.BuilderFlag.TF32)
    assert config.builder_optimization_level == 1
    assert config.num_compute_capabilities == 2
    capabilities = [config.get_compute_capability(index) for index in range(2)]
    assert capabilities == [rtx.ComputeCapability.SM89, rtx.ComputeCapability.SM120]


def test_engines_of_this_machines_gpu_are_named_and_recorded(monkeypatch, folder, manifest):
    """TensorRT itself cannot run here: its builder is replaced, everything around it is real."""
    gpu = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", cuda="13.0")
    here = Library(runtime="tensorrt", module=SimpleNamespace(), version="11.4.0.106", gpu=gpu)
    monkeypatch.setattr(
        "srflow_export.engines.bundles.build_engine",
        lambda trt, graph, *_, **__: graph.name.encode(),
    )
    request = EngineRequest(runtime="tensorrt", precision="fp16")
    record = build_engines(folder, manifest, request, library=here)
    assert record.encoder == "engines/trt-11.4.0.106-sm90-fp16.encoder.engine"
    assert (folder / record.encoder).read_bytes() == b"encoder.onnx"
    assert (record.gpu, record.compute_capabilities) == (gpu.name, ("9.0",))
