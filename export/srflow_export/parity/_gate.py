"""The gate that an export must pass before its bundle is written.

Every bound compares graphs with the network; none judges the network. The absolute ones are what graphs of a healthy
network reach. Where graphs are below one, the network itself is computed in the same arithmetic, and is as far from
itself if it is the one to blame: see :func:`srflow_export.parity._measure.check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from polygraphy.backend.base import BaseRunner

from srflow_export.parity._measure import TAUS, ParityRow, check, compared, feed, measure, table
from srflow_export.parity._photos import PATCH, LrPhoto, photo_patches
from srflow_export.parity._runners import Arithmetic, TorchRunner, fused_runner, graphs_runner
from srflow_sdk.errors import ExportError
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import FLOAT32_DB, INT8_ENCODER, LEAST_DB, REQUIRED_FILES, Precision, Weights
from srflow_training.model import SRFlow

MIN_PSNR_DB: dict[Precision, float] = {"fp32": FLOAT32_DB, "fp16": 50.0, "bf16": LEAST_DB, "int8": LEAST_DB}
"""Image-space PSNR against the float32 torch network that every photograph and tau must reach, by precision.

A bad network multiplies rounding: then its own picture in this arithmetic (float64 beside fp32, autocast to half), less
a margin, is the bound. int8 has no twin in torch: a bad network is one that int8 is too coarse for, and has no int8
encoder. A bad export has another weight, operator or order of operators than the network.
"""

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
    """True if ONNX Runtime's CPU provider can run encoder.onnx and sampler.onnx: it has no bfloat16 convolution."""
    return manifest.precision != "bf16"


def prove(
    model: SRFlow, bundle: Bundle, *, size: tuple[int, int] = PATCH, say: Callable[[str], None] = lambda _: None
) -> list[ParityRow]:
    """Compare a bundle's graphs with the network on photographs; `say` receives progress and the table.

    size: height and width, in LR pixels, of the patch of each photograph.

    The graphs run on ONNX Runtime's CPU provider: as they are, if it can run them, and rounded as on GPUs, if they are
    typed in half. fused.onnx is left to :func:`prove_fused`.
    Raises: ExportError if one is below its bound or has values that are not finite, where the network is not to blame.
    """
    manifest = bundle.manifest
    half = manifest.precision in ("fp16", "bf16")
    decoders: dict[str, BaseRunner] = {}
    rows: list[ParityRow] = []
    if manifest.precision == "int8":
        rows += _prove_integers(TorchRunner(model), bundle, REQUIRED_FILES, _AS_IT_IS, size=size, say=say)
    elif runs_on_cpus(manifest):
        decoders[_AS_IT_IS] = graphs_runner(bundle)
    if half:
        decoders[_ROUNDED] = graphs_runner(bundle, rounded=True)
    bounds = dict.fromkeys(decoders, min_psnr_db(manifest.precision, manifest.weights))
    if manifest.precision != "fp32" and manifest.float32_graphs is not None:
        decoders[_FLOAT32] = graphs_runner(bundle, names=manifest.float32_graphs)
        bounds[_FLOAT32] = min_psnr_db("fp32", manifest.weights)
    return rows + _compared(model, bundle, decoders, bounds, size=size, say=say)


def prove_fused(
    model: SRFlow, bundle: Bundle, *, size: tuple[int, int] = PATCH, say: Callable[[str], None] = lambda _: None
) -> list[ParityRow]:
    """The same for fused.onnx."""
    manifest = bundle.manifest
    decoders = {_FUSED: fused_runner(bundle, rounded=manifest.precision in ("fp16", "bf16"))}
    bounds = {_FUSED: min_psnr_db(manifest.precision, manifest.weights)}
    return _compared(model, bundle, decoders, bounds, size=size, say=say)


def _compared(
    model: SRFlow,
    bundle: Bundle,
    decoders: Mapping[str, BaseRunner],
    bounds: Mapping[str, float],
    *,
    size: tuple[int, int],
    say: Callable[[str], None],
) -> list[ParityRow]:
    if not decoders:
        return []
    manifest = bundle.manifest
    photos = photo_patches(manifest.size_multiple, size=size)
    rows = measure(photos, manifest, decoders, TorchRunner(model), say=say)
    for line in table(rows):
        say(line)
    itself = NetworkItself(model, manifest, photos, say=say)

    def own(row: ParityRow) -> ParityRow | None:
        return itself.row(row, "fp64" if row.graph == _FLOAT32 else arithmetic_of(manifest.precision, manifest.weights))

    rows = check(rows, min_psnr_db=bounds, reference=_NETWORK, own=own)
    if excused := [row.own_db for row in rows if row.own_db is not None]:
        say(
            f"the network multiplies rounding: its own pictures in the bundle's arithmetic are {min(excused):.1f} dB "
            "from its float32 ones, and the graphs are as near"
        )
    return rows


def arithmetic_of(precision: Precision, weights: Weights) -> Arithmetic | None:
    """In what the torch network shows what rounding as in these graphs makes of it; None if torch has none such."""
    if precision == "fp16":
        return "fp16"
    if precision == "bf16":
        return "bf16"
    if precision == "int8":
        return None
    return "half weights" if weights == "fp16" else "fp64"


class NetworkItself:
    """The torch network in other arithmetics beside its float32 self; computed once each, when first asked for."""

    def __init__(
        self, model: SRFlow, manifest: Manifest, photos: Sequence[LrPhoto], *, say: Callable[[str], None]
    ) -> None:
        self._model, self._manifest, self._photos, self._say = model, manifest, photos, say
        self._rows: dict[Arithmetic, dict[tuple[str, float], ParityRow]] = {}

    def row(self, of: ParityRow, arithmetic: Arithmetic | None) -> ParityRow | None:
        """Its row of the same photograph and tau."""
        if arithmetic is None:
            return None
        if arithmetic not in self._rows:
            decoders = {f"the network in {arithmetic}": TorchRunner(self._model, arithmetic)}
            rows = measure(self._photos, self._manifest, decoders, TorchRunner(self._model), say=self._say)
            self._rows[arithmetic] = {(row.photo, row.tau): row for row in rows}
        return self._rows[arithmetic][of.photo, of.tau]


def tau_of_finite_pictures(rows: Sequence[ParityRow], wanted: float) -> float:
    """The largest tau up to `wanted` at which the network diverges on no more photographs than at tau 0.

    Published networks can give values that are not finite at large tau: that is no fault of an export.
    """
    diverging = {tau: len({row.photo for row in rows if row.tau == tau and row.diverged}) for tau in TAUS}
    above = min((tau for tau in TAUS if tau >= wanted), default=1.0)  # the tested tau that stands for it
    taus = [tau for tau in TAUS if tau <= above and diverging[tau] <= diverging[0.0]]
    return wanted if above in taus else max(taus)


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
    name = _NETWORK if isinstance(reference, TorchRunner) else "the float32 graphs"
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
            if not all(row.diverged for row in rows[photo]):
                _check_integers(rows[photo], graph, name)
    found = [row for photo in photos for row in rows[photo]]
    _check_integers(found, graph, name)
    return found


def _check_integers(rows: Sequence[ParityRow], graph: str, reference: str) -> None:
    try:
        check(rows, min_psnr_db={graph: MIN_PSNR_DB["int8"]}, reference=reference)
    except ExportError as error:
        raise ExportError(
            f"int8 is too coarse for this network: {error}. Train the network further (weights near the start of "
            "training lose most), or upscale with --precision bf16, which is finer and needs no export"
        ) from error
