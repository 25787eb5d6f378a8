"""Check that a library read and built what was exported: inputs, outputs, and the types that it computes in.

These are names, types and counts, which weights do not change: a bad network has none of these faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from onnx import TensorProto, inliner, shape_inference

from srflow_export.engines._build_progress import build_logger
from srflow_export.engines._graph import Graph
from srflow_export.engines._inspection import EngineReport, inspect_engine, type_name
from srflow_sdk.errors import ExportError

# Network layers that move or convert values and compute nothing.
_MOVING = {
    "CONSTANT",
    "CAST",
    "SHUFFLE",
    "IDENTITY",
    "SHAPE",
    "GATHER",
    "SLICE",
    "UNSQUEEZE",
    "SQUEEZE",
    "CONCATENATION",
}
_ONNX_TYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_FLOATS = ("float32", "float16", "bfloat16")
_COMPUTES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def network_report(network: Any) -> EngineReport:
    """Describe what a library understood when it parsed a graph, before it builds; needs no GPU."""
    convolutions: Counter[str] = Counter()
    computing: Counter[str] = Counter()
    plugins = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in _MOVING:
            continue
        plugins += layer.type.name == "PLUGIN_V3"
        type_ = type_name(layer.get_output(0).dtype)
        computing[type_] += 1
        if layer.type.name in ("CONVOLUTION", "DECONVOLUTION"):
            convolutions[type_] += 1
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    results = [network.get_output(index) for index in range(network.num_outputs)]
    return EngineReport(
        inputs={tensor.name: type_name(tensor.dtype) for tensor in tensors},
        outputs={tensor.name: type_name(tensor.dtype) for tensor in results},
        layers=network.num_layers,
        convolutions=dict(convolutions),
        computing=dict(computing),
        plugins=plugins,
    )


def check_network(trt: Any, network: Any, graph: Graph, *, plugins: bool = False) -> None:
    """Raises: ExportError unless a network has the graph's ends, its types of convolutions, and all plugins or none."""
    report = network_report(network)
    wanted = graph.flow_nodes if plugins else 0
    faults = [f"{report.plugins} flow operations are plugins, not {wanted}"] if report.plugins != wanted else []
    faults += [
        f"{report.convolutions.get(type_, 0)} convolutions compute in {type_}, not {count}"
        for type_, count in (dict.fromkeys(report.convolutions, 0) | convolution_types(graph, plugins=plugins)).items()
        if report.convolutions.get(type_, 0) != count
    ]
    _check(report, graph, name=f"{graph.name}, as {trt.__name__} reads it,", faults=faults)


def convolution_types(graph: Graph, *, plugins: bool = False) -> dict[str, int]:
    """Count a graph's convolutions of each type, such as {"float16": 90}; with plugins, without those of functions."""
    model = graph.model if plugins else inliner.inline_local_functions(graph.model)
    flat = shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*flat.value_info, *flat.output)}
    results = [types[node.output[0]] for node in flat.node if node.op_type in ("Conv", "ConvTranspose")]
    return dict(Counter(_ONNX_TYPES.get(type_, TensorProto.DataType.Name(type_).lower()) for type_ in results))


def check_plan(trt: Any, plan: bytes, graph: Graph) -> bool:
    """Load an engine and check it with its own inspector. Needs the GPU that it is for.

    Returns whether the inspector gave the types of its layers. Raises: ExportError if the engine does not load, or is
    not what was asked for.
    """
    log = build_logger(trt)
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise ExportError(
            f"{graph.name}: the engine that {trt.__name__} {trt.__version__} built does not load again: {log.said()}; "
            "build it again, without other programs on the GPU and with --no-cache"
        )
    report = inspect_engine(trt, engine)
    _check(report, graph, name=f"the engine of {graph.name}")
    return any(type_ in _FLOATS for type_ in report.computing)


def _check(report: EngineReport, graph: Graph, *, name: str, faults: Sequence[str] = ()) -> None:
    ends = [
        f"{kind} {tensor} is {actual.get(tensor, 'missing')}, not {expected.get(tensor, 'there')}"
        for kind, actual, expected in zip(
            ("input", "output"), (report.inputs, report.outputs), graph.types(), strict=True
        )
        for tensor in {**expected, **actual}
        if actual.get(tensor) != expected.get(tensor)
    ]
    faults = [*ends, *faults, *_precision_faults(report, graph.precision)]
    if faults:
        raise ExportError(
            f"{name} is not the graph that was exported: {'; '.join(faults)}; export the checkpoint again with "
            f"--precision {graph.precision}, or use another version of the library"
        )


def _precision_faults(report: EngineReport, precision: str) -> list[str]:
    """fp32: no layer may compute in half. fp16, bf16: some convolutions must, and nothing in the other one."""
    wanted = _COMPUTES[precision]
    others = [type_ for type_ in ("float16", "bfloat16") if type_ != wanted]
    faults = [f"{report.computing[type_]} layers compute in {type_}" for type_ in others if report.computing.get(type_)]
    counted = report.convolutions or report.computing
    told = any(type_ in _FLOATS for type_ in counted)  # an inspector may give no types at all
    if told and not counted.get(wanted):
        faults.append(f"no {'convolution' if report.convolutions else 'layer'} computes in {wanted}")
    return faults
