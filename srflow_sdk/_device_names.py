"""The names that `device=` and `--device` take. Imports nothing heavy, because the commands' help lists them."""

from __future__ import annotations

from typing import Literal

PluginDevice = Literal["rtx", "webgpu"]
"""Devices that ONNX Runtime's plug-in providers run, in the order in which "auto" tries them."""

Device = Literal["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]

ComputePrecision = Literal["bundle", "bf16", "int8"]
"""What `precision=` and `--precision` take: the bundle's own arithmetic, or an encoder that computes in less."""
