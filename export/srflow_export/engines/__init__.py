"""Build TensorRT and TensorRT-RTX engines from a bundle's graphs, and check, cache and record them. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_export.engines._builder import BuilderOptions
    from srflow_export.engines._bundles import add_engines, trtexec_commands
    from srflow_export.engines._pairs import build_engines, graphs_of
    from srflow_export.engines._profiles import parse_shapes
    from srflow_export.engines._request import EngineRequest, check_request, check_targets

__all__ = [
    "BuilderOptions",
    "EngineRequest",
    "add_engines",
    "build_engines",
    "check_request",
    "check_targets",
    "graphs_of",
    "parse_shapes",
    "trtexec_commands",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BuilderOptions": "_builder",
        "EngineRequest": "_request",
        "add_engines": "_bundles",
        "build_engines": "_pairs",
        "check_request": "_request",
        "check_targets": "_request",
        "graphs_of": "_pairs",
        "parse_shapes": "_profiles",
        "trtexec_commands": "_bundles",
    },
)
