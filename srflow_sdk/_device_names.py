"""The names that `device=` and `--device` take. Nothing is imported here: commands name them in their help."""

from __future__ import annotations

from typing import Literal

PluginDevice = Literal["rtx", "webgpu", "openvino"]
"""Devices that ONNX Runtime's plug-in providers run, in the order in which "auto" tries them."""

Device = Literal["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]
