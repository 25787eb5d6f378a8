"""What TensorRT-RTX's builder makes of an ONNX file, in a process of its own: plugins stay
registered, and a file that the parser rejects may end it.

`rtx_builder.py with|without MODEL` builds an engine for 256×256 pixels as srflow-export does, with
or without plugins, and writes JSON to stdout: the whole log, with the kernels that were chosen, and
the refusal, if there is one. The plugins are of the library that SRFLOW_TENSORRT_PLUGINS names, if
any. The exporter itself loads none for TensorRT-RTX, which does not support plugins officially: it
stands in for TensorRT, which cannot run here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorrt_rtx as trt

from srflow_export.engines import building
from srflow_export.engines.building import build_engine, build_logger
from srflow_export.engines.graphs import read_graph
from srflow_export.engines.requests import EngineRequest, parse_shapes
from srflow_sdk.backends import native_library
from srflow_sdk.backends.native_library import PLUGINS, find_native_library, load_plugins
from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import PluginLibrary

RTX = PluginLibrary(version="", tensorrt_major=int(trt.__version__.split(".")[0]))


def build(model: Path, *, plugins: bool) -> dict[str, str]:
    log = list[str]()
    building.build_logger = lambda _: keep_log(log)
    building._configure = add_details(building._configure)
    library = find_native_library(PLUGINS)
    if library is not None:
        native_library.plugins_of = lambda _: RTX  # it is for TensorRT
        for _ in range(2):  # the second time, TensorRT would refuse it
            load_plugins(trt, RTX, rebuild="")
    graph = read_graph(model, precision="fp16")
    shapes = graph.input_shapes(parse_shapes("256,256,256"), scale=4)
    said = dict[str, str]()
    try:
        request = EngineRequest(runtime="tensorrt_rtx", precision="fp16", sms=(89,))
        build_engine(trt, graph, shapes, request, plugins=plugins)
    except ExportError as error:
        said["refused"] = str(error)
    return {**said, "log": "\n".join(log)}


def keep_log(lines: list[str]) -> Any:
    """The exporter's logger, which keeps every line."""

    class Detailed(type(build_logger(trt))):
        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            lines.append(message)
            super().log(severity, message)

    return Detailed()


def add_details(configure: Callable[..., None]) -> Callable[..., None]:
    """Let the builder list its kernels, too."""

    def configured(trt: Any, config: Any, request: EngineRequest) -> None:
        configure(trt, config, request)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED

    return configured


if __name__ == "__main__":
    what, model = sys.argv[1:]
    sys.stdout.write(json.dumps(build(Path(model), plugins=what == "with")) + "\n")
