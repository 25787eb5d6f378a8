"""Build TensorRT and TensorRT-RTX engines from a bundle's graphs, and check and record them. No torch."""

from srflow_export.engines.bundles import add_engines, build_engines, graphs_of
from srflow_export.engines.requests import EngineRequest, check_request, parse_shapes

__all__ = [
    "EngineRequest",
    "add_engines",
    "build_engines",
    "check_request",
    "graphs_of",
    "parse_shapes",
]
