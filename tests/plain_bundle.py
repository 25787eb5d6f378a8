"""A small bundle whose network has a plain encoder, for the tests of what runs bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_training import save_checkpoint
from tests.networks import PLAIN_X2, random_srflow, tiny_config


def write_plain_bundle(path: Path, settings: dict[str, Any] = PLAIN_X2) -> Path:
    """Export a network with random weights, ×2 unless the settings say otherwise, and its fused graph. Halo: 8."""
    checkpoint = path.with_suffix(".safetensors")
    save_checkpoint(checkpoint, random_srflow(tiny_config(image_base="bicubic", **settings)))
    export_checkpoint(checkpoint, path, ExportOptions(fused=True, inverter=False, halo=8, licence="CC0-1.0"))
    return path
