"""What an export must show before its bundle is written."""

from __future__ import annotations

from collections.abc import Callable

from polygraphy.backend.base import BaseRunner

from srflow_export.parity._measure import ParityRow, check, compared, feed, measure, table
from srflow_export.parity._photos import PATCH, photo_patches
from srflow_export.parity._runners import TorchRunner, fused_runner, graphs_runner
from srflow_sdk._psnr_bounds import FLOAT32_DB, LEAST_DB
from srflow_sdk.bundle import Bundle, Manifest
from srflow_sdk.errors import ExportError
from srflow_sdk.manifest import INT8_ENCODER, REQUIRED_FILES, Precision, Weights
from srflow_training.model import SRFlow

MIN_PSNR_DB: dict[Precision, float] = {"fp32": FLOAT32_DB, "fp16": 50.0, "bf16": LEAST_DB, "int8": LEAST_DB}
"""Image-space PSNR against the float32 torch network that every photograph and tau must reach, by precision."""

MIN_PSNR_OF_HALF_WEIGHTS_DB = 50.0
"""The same for float32 graphs whose weights are stored in half."""

INT8_GRAPHS = "encoder.int8+sampler"
"""The name of the second encoder's rows in a manifest."""

_HARDEST = "fur"
"""The photograph on which int8 is furthest off, in small and full-size networks, so that a failure shows at once."""

_NETWORK = "the checkpoint's network"
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
    rows: list[ParityRow] = []
    if manifest.precision == "int8":
        rows += _prove_integers(TorchRunner(model), bundle, REQUIRED_FILES, _AS_IT_IS, size=size, say=say)
    elif runs_on_cpus(manifest):
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
    others = measure(photos, manifest, decoders, TorchRunner(model), say=say) if decoders else []
    if others:
        for line in table(others):
            say(line)
        check(others, min_psnr_db=bounds, reference=_NETWORK)
    return rows + others


def prove_int8_encoder(
    reference: SRFlow | Bundle,
    bundle: Bundle,
    *,
    size: tuple[int, int] = PATCH,
    say: Callable[[str], None] = lambda _: None,
) -> list[ParityRow]:
    """Compare a bundle's second encoder, with the bundle's own sampler, with the network or with float32 graphs.

    One photograph after the other, and the hardest first: a failure ends it. size, say: as in :func:`prove`.
    Raises: ExportError if a photograph and tau are below what int8 promises, or not finite.
    """
    runner = graphs_runner(reference) if isinstance(reference, Bundle) else TorchRunner(reference)
    return _prove_integers(runner, bundle, (INT8_ENCODER, REQUIRED_FILES[1]), INT8_GRAPHS, size=size, say=say)


def _prove_integers(
    reference: BaseRunner,
    bundle: Bundle,
    names: tuple[str, str],
    graph: str,
    *,
    size: tuple[int, int],
    say: Callable[[str], None],
) -> list[ParityRow]:
    manifest, rows = bundle.manifest, {}
    bound, name = MIN_PSNR_DB["int8"], _NETWORK if isinstance(reference, TorchRunner) else "the float32 graphs"
    photos = {photo.name: (seed, photo) for seed, photo in enumerate(photo_patches(manifest.size_multiple, size=size))}
    say(f"comparing {graph} with {name}")
    with reference, graphs_runner(bundle, names=names) as decoder:
        for photo in sorted(photos, key=lambda name: name != _HARDEST):
            seed, patch = photos[photo]
            inputs = feed(patch.lr, manifest, seed=seed)
            expected = {key: value.copy() for key, value in reference.infer(inputs).items()}
            rows[photo] = list(compared(graph, photo, decoder.infer(inputs), expected))
            for line in list(table(rows[photo]))[len(rows) > 1 :]:
                say(line)
            try:
                check(rows[photo], min_psnr_db={graph: bound}, reference=name)
            except ExportError as error:
                raise ExportError(
                    f"int8 is too coarse for this network: {error}. Train the network further (weights near the start "
                    "of training lose most), or upscale with --precision bf16, which is finer and needs no export"
                ) from error
    return [row for photo in photos for row in rows[photo]]
