"""The names that `device=` and `--device` take. Imports nothing heavy, because the commands' help lists them."""

from __future__ import annotations

from typing import Literal

PluginDevice = Literal["rtx", "webgpu", "openvino"]
"""Devices that ONNX Runtime's plug-in providers run, in the order in which "auto" tries them."""

Device = Literal["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]
