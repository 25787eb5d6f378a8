"""The names that `device=` and `--device` take. Imports nothing heavy, because the commands' help lists them."""

from __future__ import annotations

from typing import Literal

PluginDevice = Literal["rtx", "webgpu"]
"""Devices that ONNX Runtime's plug-in providers run, in the order in which "auto" tries them."""

Device = Literal["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]

ComputePrecision = Literal["bundle", "bf16", "int8"]
"""The encoder's arithmetic: as the bundle was exported, bfloat16 or int8."""

Precision = Literal["bundle", "bf16", "int8", "fastest"]
"""Values of `precision=` and `--precision`: "fastest" becomes one of the others, by a measurement on this machine."""

BUNDLE: Literal["bundle"] = "bundle"
"""The precision of what does not name its own."""
