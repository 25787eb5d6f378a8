"""Super-resolution that samples: SRFlow, a conditional normalizing flow, as an SDK without torch.

    from srflow_sdk import Upscaler

    with Upscaler() as upscaler:  # the embedded ×4 model
        upscaler.upscale("photo.jpg").save("large.png")

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srflow_sdk.bundle import Bundle
    from srflow_sdk.encoding import Encoding
    from srflow_sdk.errors import (
        ArgumentError,
        BundleError,
        CancelledError,
        CheckpointError,
        DeviceError,
        ExportError,
        ImageError,
        MissingExtraError,
        NonFiniteError,
        OutOfMemoryError,
        SRFlowError,
    )
    from srflow_sdk.files import ImageFile, read_image, write_image
    from srflow_sdk.upscaler import Upscaler

__version__: str

__all__ = [
    "ArgumentError",
    "Bundle",
    "BundleError",
    "CancelledError",
    "CheckpointError",
    "DeviceError",
    "Encoding",
    "ExportError",
    "ImageError",
    "ImageFile",
    "MissingExtraError",
    "NonFiniteError",
    "OutOfMemoryError",
    "SRFlowError",
    "Upscaler",
    "read_image",
    "write_image",
]

_HOMES = {
    "Bundle": "bundle",
    "Encoding": "encoding",
    "ImageFile": "files",
    "Upscaler": "upscaler",
    "read_image": "files",
    "write_image": "files",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("srflow-sdk")
    elif name in __all__:
        value = getattr(importlib.import_module(f"srflow_sdk.{_HOMES.get(name, 'errors')}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
