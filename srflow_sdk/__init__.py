"""Super-resolution that samples: SRFlow, a conditional normalizing flow, as an SDK without torch.

    from srflow_sdk import Upscaler

    with Upscaler() as upscaler:  # the embedded ×4 model that suits each picture
        upscaler.upscale("photo.jpg").save("large.png")

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import os

from srflow_sdk._lazy_names import lazy_names

# type checkers take it for true; importing typing would take longer than all the rest here
TYPE_CHECKING = False

if TYPE_CHECKING:  # each twice, by which type checkers know what is public
    from srflow_apps.batch.results import FolderFile as FolderFile, FolderResult as FolderResult
    from srflow_apps.batch.run import upscale_folder as upscale_folder
    from srflow_sdk.aio import AsyncEncoding as AsyncEncoding, AsyncUpscaler as AsyncUpscaler
    from srflow_sdk.drawing.file_upscaling import FileOutput as FileOutput, FileResult as FileResult
    from srflow_sdk.drawing.finishing import lr_psnr as lr_psnr
    from srflow_sdk.encoding import Encoding as Encoding
    from srflow_sdk.errors import *  # noqa: F403
    from srflow_sdk.files import (
        ImageFile as ImageFile,
        Metadata as Metadata,
        Provenance as Provenance,
        read_image as read_image,
        read_provenance as read_provenance,
        write_image as write_image,
    )
    from srflow_sdk.geometry.sizes import OutputSize as OutputSize
    from srflow_sdk.latents.picture_latents import Latents as Latents
    from srflow_sdk.model.bundle import Bundle as Bundle
    from srflow_sdk.model.model_choice import (
        ModelChoice as ModelChoice,
        choose_model as choose_model,
    )
    from srflow_sdk.upscaler import Upscaler as Upscaler

__version__: str

# From its import on, ONNX Runtime reports what it runs on to its maker, unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_NAMES = {  # by module
    "aio": ("AsyncEncoding", "AsyncUpscaler"),
    "model.bundle": ("Bundle",),
    "encoding": ("Encoding",),
    "drawing.file_upscaling": ("FileOutput", "FileResult"),
    "srflow_apps.batch.results": ("FolderFile", "FolderResult"),
    "files": (
        "ImageFile",
        "Metadata",
        "Provenance",
        "read_image",
        "read_provenance",
        "write_image",
    ),
    "latents.picture_latents": ("Latents",),
    "model.model_choice": ("ModelChoice", "choose_model"),
    "geometry.sizes": ("OutputSize",),
    "upscaler": ("Upscaler",),
    "drawing.finishing": ("lr_psnr",),
    "srflow_apps.batch.run": ("upscale_folder",),
    "errors": (
        "ArgumentError",
        "BundleError",
        "CancelledError",
        "CheckpointError",
        "DeviceError",
        "ExportError",
        "ImageError",
        "MissingExtraError",
        "NonFiniteError",
        "OutOfMemoryError",
        "RemoteError",
        "SRFlowError",
        "UnavailableError",
    ),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, {**_HOMES, "__version__": "_version"})
