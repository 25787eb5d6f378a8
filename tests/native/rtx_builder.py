"""What TensorRT-RTX makes of an ONNX file, in a process of its own, because plugins stay registered, and one that the
parser rejects may end it. It writes JSON to stdout, and TensorRT's log to stderr.

`rtx_builder.py parse MODEL [LIBRARY]`: what its parser and builder find. `rtx_builder.py with|without MODEL`: the size
of an engine as srflow-export builds it, or the refusal, with the library that SRFLOW_TENSORRT_PLUGINS names, if any.
The exporter itself loads none for TensorRT-RTX, which does not support plugins officially: it stands in for TensorRT,
which cannot run here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt

from srflow_export.engines.building import build_engine
from srflow_export.engines.graphs import read_graph
from srflow_export.engines.requests import EngineRequest, parse_shapes
from srflow_sdk.backends import native_library
from srflow_sdk.backends.native_library import PLUGINS, find_native_library, load_plugins
from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import PluginLibrary

RTX = PluginLibrary(version="", tensorrt_major=int(trt.__version__.split(".")[0]))


def built(model: Path, *, plugins: bool) -> dict[str, Any]:
    library = find_native_library(PLUGINS)
    if library is not None:
        native_library.plugins_of = lambda _: RTX  # it is for TensorRT
        for _ in range(2):  # the second time, TensorRT would refuse it
            load_plugins(trt, RTX, rebuild="")
    graph = read_graph(model, precision="fp16")
    shapes = graph.input_shapes(parse_shapes("16,32,64"), scale=4)
    try:
        request = EngineRequest(runtime="tensorrt_rtx", precision="fp16", sms=(89,))
        engine = build_engine(trt, graph, shapes, request, plugins=plugins)
    except ExportError as error:
        return {"refused": str(error)}
    return {"bytes": len(engine)}


class Log(trt.ILogger):
    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.WARNING:
            sys.stderr.write(f"{severity.name}: {message}\n")


def found(model: str, library: str | None) -> dict[str, Any]:
    log = Log()
    builder = trt.Builder(log)
    if library:
        builder.get_plugin_registry().load_library(library)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(model):
        return {"parsed": False}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    plugins = {
        layer.name: [[list(each.shape), each.dtype.name] for each in map(layer.get_output, range(layer.num_outputs))]
        for layer in layers
        if layer.type == trt.LayerType.PLUGIN_V3
    }
    engine = builder.build_serialized_network(network, configuration(builder, network))
    return {
        "parsed": True,
        "layers": len(layers),
        "plugins": plugins,
        "engine_bytes": 0 if engine is None else engine.nbytes,
    }


def configuration(builder: trt.Builder, network: trt.INetworkDefinition) -> trt.IBuilderConfig:
    """Build for SM89, with batches of 1 to 2, a first tensor of 8 to 32 pixels a side, and the others in proportion."""
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.name == "tau":
            profile.set_shape("tau", (1,), (1,), (2,))
            continue
        double = 2 if tensor.name in ("noise", "prior") else 1
        smallest, usual, largest = (
            (batch, tensor.shape[1], double * side, double * side) for batch, side in ((1, 8), (1, 16), (2, 32))
        )
        profile.set_shape(tensor.name, smallest, usual, largest)
    config.add_optimization_profile(profile)
    return config


if __name__ == "__main__":
    what, model, *rest = sys.argv[1:]
    parsed = what == "parse"
    said = found(model, rest[0] if rest else None) if parsed else built(Path(model), plugins=what == "with")
    sys.stdout.write(json.dumps(said) + "\n")
