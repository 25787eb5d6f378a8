"""The names that `device=` and `--device` take.

Imports nothing heavy, because the commands' help lists them.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, cast, get_args

from srflow_sdk.errors import ArgumentError
from srflow_sdk.plain_text import short

# what ONNX Runtime's plug-in providers run, in the order of "auto"
PluginDevice = Literal["rtx", "webgpu"]
DeviceName = Literal["auto", "cpu", "cuda", "tensorrt", "rtx", "webgpu", "openvino"]

Device: TypeAlias = DeviceName | str
"""A :data:`DeviceName`, or one of :data:`NUMBERED` with the number of a GPU, such as "cuda:1"."""

# a machine may have several; without a number it is the first, 0
NUMBERED = ("cuda", "tensorrt", "rtx")

ComputePrecision = Literal["bundle", "bf16", "int8"]
"""The encoder's arithmetic: as the bundle was exported, bfloat16 or int8."""

Precision = Literal["bundle", "bf16", "int8", "fastest"]
"""Values of `precision=` and `--precision`: "fastest" becomes one of the others, by a measurement
on this machine."""


def split_device(device: object) -> tuple[DeviceName, int]:
    """The name and the GPU's number of a :data:`Device`: ("cuda", 1) for "cuda:1".

    Raises: ArgumentError.
    """
    name, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if name in get_args(DeviceName) and (
        not colon or (name in NUMBERED and re.fullmatch("0|[1-9][0-9]{0,2}", number))
    ):
        return cast(DeviceName, name), int(number or 0)
    raise ArgumentError(
        f"device is {short(device)}; it must be one of {', '.join(get_args(DeviceName))}, where "
        f"{', '.join(NUMBERED)} may have the number of a GPU, such as cuda:1"
    )
