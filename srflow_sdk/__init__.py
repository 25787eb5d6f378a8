"""Super-resolution that samples: SRFlow, a conditional normalizing flow, as an SDK without torch.

    from srflow_sdk import Upscaler

    with Upscaler() as upscaler:  # the embedded ×4 model that suits each picture
        upscaler.upscale("photo.jpg").save("large.png")

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import os

from srflow_sdk._lazy_names import lazy_names

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take longer than all the rest here

if TYPE_CHECKING:
    from srflow_apps.batch.jobs import FolderFile, FolderResult
    from srflow_apps.batch.run import upscale_folder
    from srflow_sdk.aio import AsyncEncoding, AsyncUpscaler
    from srflow_sdk.drawing.file_upscaling import FileOutput, FileResult
    from srflow_sdk.drawing.finishing import lr_psnr
    from srflow_sdk.drawing.options import OutputSize
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
    from srflow_sdk.files import ImageFile, Metadata, Provenance, read_image, read_provenance, write_image
    from srflow_sdk.latents.picture_latents import Latents
    from srflow_sdk.model.bundle import Bundle
    from srflow_sdk.model.model_choice import ModelChoice, choose_model
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

_NAMES = {  # by module; all others are errors
    "aio": ("AsyncEncoding", "AsyncUpscaler"),
    "model.bundle": ("Bundle",),
    "encoding": ("Encoding",),
    "drawing.file_upscaling": ("FileOutput", "FileResult"),
    "srflow_apps.batch.jobs": ("FolderFile", "FolderResult"),
    "files": ("ImageFile", "Metadata", "Provenance", "read_image", "read_provenance", "write_image"),
    "latents.picture_latents": ("Latents",),
    "model.model_choice": ("ModelChoice", "choose_model"),
    "drawing.options": ("OutputSize",),
    "upscaler": ("Upscaler",),
    "_version": ("__version__",),
    "drawing.finishing": ("lr_psnr",),
    "srflow_apps.batch.run": ("upscale_folder",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__getattr__, __dir__ = lazy_names(__name__, {name: _HOMES.get(name, "errors") for name in [*__all__, "__version__"]})
