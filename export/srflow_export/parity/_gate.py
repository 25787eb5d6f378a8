"""What an export must show before its bundle is written."""

from __future__ import annotations

from collections.abc import Callable

from srflow_export.parity._measure import ParityRow, check, measure, table
from srflow_export.parity._photos import PATCH, photo_patches
from srflow_export.parity._runners import TorchRunner, fused_runner, graphs_runner
from srflow_sdk._psnr_bounds import FLOAT32_DB, LEAST_DB
from srflow_sdk.bundle import Bundle, Manifest
from srflow_sdk.manifest import Precision, Weights
from srflow_training.model import SRFlow

MIN_PSNR_DB: dict[Precision, float] = {"fp32": FLOAT32_DB, "fp16": 50.0, "bf16": LEAST_DB, "int8": LEAST_DB}
"""Image-space PSNR against the float32 torch network that every photograph and tau must reach, by precision."""

MIN_PSNR_OF_HALF_WEIGHTS_DB = 50.0
"""The same for float32 graphs whose weights are stored in half."""

_AS_IT_IS, _ROUNDED, _FUSED, _FLOAT32 = "encoder+sampler", "rounded as on GPUs", "fused", "float32 graphs"


def min_psnr_db(precision: Precision, weights: Weights) -> float:
    """The PSNR that graphs of this precision and storage of weights must reach."""
    bound = MIN_PSNR_DB[precision]
    return min(bound, MIN_PSNR_OF_HALF_WEIGHTS_DB) if weights == "fp16" else bound


def runs_on_cpus(manifest: Manifest) -> bool:
    """Whether ONNX Runtime's CPU provider can run encoder.onnx and sampler.onnx: it has no bfloat16 convolution."""
    return manifest.precision != "bf16"


def prove(
    model: SRFlow, bundle: Bundle, *, size: tuple[int, int] = PATCH, say: Callable[[str], None] = lambda _: None
) -> list[ParityRow]:
    """Compare a bundle's graphs with the network on photographs; `say` receives progress and the table.

    size: height and width, in LR pixels, of the patch of each photograph.

    The graphs run on ONNX Runtime's CPU provider: as they are, if it can run them, and rounded as on GPUs, if they are
    typed in half. Raises: ExportError if one is below its bound or has values that are not finite.
    """
    manifest = bundle.manifest
    half = manifest.precision in ("fp16", "bf16")
    decoders = {}
    if runs_on_cpus(manifest):
        decoders[_AS_IT_IS] = graphs_runner(bundle)
    if half:
        decoders[_ROUNDED] = graphs_runner(bundle, rounded=True)
    if "fused.onnx" in manifest.files:
        decoders[_FUSED] = fused_runner(bundle, rounded=half)
    bounds = dict.fromkeys(decoders, min_psnr_db(manifest.precision, manifest.weights))
    if manifest.precision != "fp32" and manifest.float32_graphs is not None:
        decoders[_FLOAT32] = graphs_runner(bundle, names=manifest.float32_graphs)
        bounds[_FLOAT32] = min_psnr_db("fp32", manifest.weights)
    photos = photo_patches(manifest.size_multiple, size=size)
    rows = measure(photos, manifest, decoders, TorchRunner(model), say=say)
    for line in table(rows):
        say(line)
    check(rows, min_psnr_db=bounds, reference="the checkpoint's network")
    return rows
