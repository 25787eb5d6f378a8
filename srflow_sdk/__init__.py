"""Super-resolution that samples: SRFlow, a conditional normalizing flow, as an SDK without torch.

    from srflow_sdk import Upscaler

    with Upscaler() as upscaler:  # the embedded ×4 model
        upscaler.upscale("photo.jpg").save("large.png")

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import os

from srflow_sdk._lazy_names import lazy_names

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take longer than all the rest here

if TYPE_CHECKING:
    from srflow_sdk._batch.folder import upscale_folder
    from srflow_sdk._batch.jobs import FolderFile, FolderResult
    from srflow_sdk._drawing.file_upscaling import FileOutput, FileResult
    from srflow_sdk._drawing.measuring import lr_psnr
    from srflow_sdk._drawing.output_size import OutputSize
    from srflow_sdk._files import ImageFile, Metadata, Provenance, read_image, read_provenance, write_image
    from srflow_sdk.async_upscaler import AsyncEncoding, AsyncUpscaler
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
        RemoteError,
        SRFlowError,
        UnavailableError,
    )
    from srflow_sdk.model_choice import ModelChoice, choose_model
    from srflow_sdk.picture_latents import Latents
    from srflow_sdk.upscaler import Upscaler

__version__: str

# From its import on, ONNX Runtime reports what it runs on to its maker, unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "ArgumentError",
    "AsyncEncoding",
    "AsyncUpscaler",
    "Bundle",
    "BundleError",
    "CancelledError",
    "CheckpointError",
    "DeviceError",
    "Encoding",
    "ExportError",
    "FileOutput",
    "FileResult",
    "FolderFile",
    "FolderResult",
    "ImageError",
    "ImageFile",
    "Latents",
    "Metadata",
    "MissingExtraError",
    "ModelChoice",
    "NonFiniteError",
    "OutOfMemoryError",
    "OutputSize",
    "Provenance",
    "RemoteError",
    "SRFlowError",
    "UnavailableError",
    "Upscaler",
    "choose_model",
    "lr_psnr",
    "read_image",
    "read_provenance",
    "upscale_folder",
    "write_image",
]

_HOMES = {
    "AsyncEncoding": "async_upscaler",
    "AsyncUpscaler": "async_upscaler",
    "Bundle": "bundle",
    "Encoding": "encoding",
    "FileOutput": "_drawing.file_upscaling",
    "FileResult": "_drawing.file_upscaling",
    "FolderFile": "_batch.jobs",
    "FolderResult": "_batch.jobs",
    "ImageFile": "_files",
    "Latents": "picture_latents",
    "Metadata": "_files",
    "ModelChoice": "model_choice",
    "OutputSize": "_drawing.output_size",
    "Provenance": "_files",
    "Upscaler": "upscaler",
    "choose_model": "model_choice",
    "__version__": "_version",
    "lr_psnr": "_drawing.measuring",
    "read_image": "_files",
    "read_provenance": "_files",
    "upscale_folder": "_batch.folder",
    "write_image": "_files",
}


__getattr__, __dir__ = lazy_names(__name__, {name: _HOMES.get(name, "errors") for name in [*__all__, "__version__"]})
