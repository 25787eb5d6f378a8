"""`srflow_upscale`, the model that clients call: its config, and the model.py that leads to the SDK."""

from __future__ import annotations

from srflow_export.triton.config_text import Tensor, document, parameters, quoted, tensors
from srflow_sdk._version import __version__
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import MODEL_PARAMETER, VERSION_PARAMETER, ServingOptions, described

NAME = "srflow_upscale"

_INPUTS = (
    Tensor(name="image", dtype="UINT8", dims=(-1, -1, 3), optional=True),
    Tensor(name="image_bytes", dtype="STRING", dims=(1,), optional=True),
    Tensor(name="tile", dtype="FP32", dims=(-1, -1, 3), optional=True),
    Tensor(name="tau", dtype="FP32", dims=(1,), optional=True),
    Tensor(name="seed", dtype="INT64", dims=(1,), optional=True),
    Tensor(name="samples", dtype="INT32", dims=(1,), optional=True),
    Tensor(name="sample", dtype="INT64", dims=(1,), optional=True),
    Tensor(name="origin", dtype="INT64", dims=(2,), optional=True),
    Tensor(name="tau_map", dtype="FP32", dims=(-1, -1), optional=True),
)
_OUTPUTS = (
    Tensor(name="upscaled", dtype="UINT8", dims=(-1, -1, -1, 3)),
    Tensor(name="tile_upscaled", dtype="FP32", dims=(-1, -1, -1, 3)),
)

MODEL_PY = f'''"""Loaded by Triton's python backend; srflow-sdk, in the server's Python environment, does the work."""

try:
    from srflow_apps.serving.triton_model import TritonPythonModel
except ImportError as error:
    raise ImportError(
        f"srflow_upscale needs srflow-sdk in the server's Python environment ({{error}}): "
        "pip install 'srflow-sdk>={__version__}'"
    ) from error

__all__ = ["TritonPythonModel"]
'''


def upscale_config(bundle: Bundle, name: str, options: ServingOptions, *, kind: str) -> str:
    """The config for instances of this kind, KIND_AUTO (one for each GPU, or one on the CPU) or KIND_CPU.

    name: the model's.
    No batches of Triton's: its batches need equal shapes of whole pictures, and the SDK batches tiles.
    """
    return document(
        f"name: {quoted(name)}",
        'backend: "python"',
        "max_batch_size: 0",
        tensors("input", _INPUTS),
        tensors("output", _OUTPUTS),
        f"instance_group [ {{ kind: {kind} count: 1 }} ]",
        "version_policy: { latest: { num_versions: 1 } }",
        parameters({VERSION_PARAMETER: __version__, MODEL_PARAMETER: described(bundle)} | options.parameters()),
    )
