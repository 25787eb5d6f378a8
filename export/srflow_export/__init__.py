"""Export a checkpoint as a bundle of ONNX graphs, proved equal to the network on photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_export.exporter import ExportOptions, export_checkpoint

__all__ = ["ExportOptions", "export_checkpoint"]

__getattr__, __dir__ = lazy_names(
    __name__, {"ExportOptions": "exporter", "export_checkpoint": "exporter"}
)
