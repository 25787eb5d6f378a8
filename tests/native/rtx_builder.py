"""Build an engine as srflow-export does, with plugins in TensorRT-RTX's own parser, in a separate process because
plugins stay registered. `rtx_builder.py MODEL with|without` writes to stdout, as JSON, its size or the refusal.

The library is the one that SRFLOW_TENSORRT_PLUGINS names; without it, none is loaded. The exporter itself loads none
for TensorRT-RTX, which does not support plugins officially: it stands in for TensorRT, which cannot run here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt

from srflow_export.engines.building import build_engine
from srflow_export.engines.graphs import read_graph
from srflow_export.engines.requests import BuilderOptions, parse_shapes
from srflow_sdk.backends.native_library import PLUGINS, find_native_library, load_plugins
from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import PluginLibrary
from srflow_sdk.system.local_files import file_sha256


def built(model: Path, *, plugins: bool) -> dict[str, Any]:
    library = find_native_library(PLUGINS)
    if library is not None:
        own = PluginLibrary(sha256=file_sha256(library), version="", tensorrt_major=int(trt.__version__.split(".")[0]))
        for _ in range(2):  # the second time, TensorRT would refuse it
            load_plugins(trt, own, rebuild="")
    graph = read_graph(model, precision="fp16")
    shapes = graph.input_shapes(parse_shapes("16,32,64"), scale=4)
    try:
        engine = build_engine(trt, graph, shapes, BuilderOptions(), sms=(89,), plugins=plugins)
    except ExportError as error:
        return {"refused": str(error)}
    return {"bytes": len(engine)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(built(Path(sys.argv[1]), plugins=sys.argv[2] == "with")) + "\n")
