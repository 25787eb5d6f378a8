"""Parse an ONNX file with TensorRT-RTX and build an engine, in a separate process because a plugin that the parser
rejects may end it. `rtx_parser.py MODEL [LIBRARY]` writes its findings to stdout as JSON and TensorRT's log to stderr.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorrt_rtx as trt


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
        layer.name: [list(layer.get_output(0).shape), layer.get_output(0).dtype.name]
        for layer in layers
        if layer.type == trt.LayerType.PLUGIN_V3
    }
    engine = builder.build_serialized_network(network, configuration(builder, network))
    return {"parsed": True, "plugins": plugins, "engine_bytes": 0 if engine is None else engine.nbytes}


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
    sys.stdout.write(json.dumps(found(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)) + "\n")
