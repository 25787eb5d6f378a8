"""Build TensorRT and TensorRT-RTX engines from a bundle's graphs, and check, cache and record them. No torch."""

from srflow_export.engines.bundles import add_engines, build_engines, check_targets, graphs_of
from srflow_export.engines.requests import BuilderOptions, EngineRequest, check_request, parse_shapes

__all__ = [
    "BuilderOptions",
    "EngineRequest",
    "add_engines",
    "build_engines",
    "check_request",
    "check_targets",
    "graphs_of",
    "parse_shapes",
]
