"""The gate that an export must pass before its bundle is written.

Every bound compares graphs with the network; none judges the network. The absolute ones are what
graphs of a healthy network reach. Where graphs are below one, the network itself is computed in the
same arithmetic, and is as far from itself if it is the one to blame: see
:func:`srflow_export.parity.measure.check`.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch

from srflow_export import onnx_models
from srflow_export.parity.measure import MARGIN_DB, TAUS, Comparison, ParityRow, psnr
from srflow_export.parity.photographs import Array, photographs
from srflow_export.parity.runners import Arithmetic, compute_in, make_graphs_runner
from srflow_export.progress import Progress, Say
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.errors import ExportError
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import (
    FLOAT32_DB,
    FP32_GRAPHS,
    INT8_ENCODER,
    INVERTER,
    LEAST_DB,
    REQUIRED_FILES,
    Precision,
    Weights,
)
from srflow_training.model import SRFlow
from srflow_training.resampling import REDUCTIONS, round_to_8_bit

MIN_PSNR_DB: dict[Precision, float] = {
    "fp32": FLOAT32_DB,
    "fp16": 50.0,
    "bf16": LEAST_DB,
    "int8": LEAST_DB,
}
"""Image-space PSNR against the float32 torch network that every photograph and tau must reach, by
precision.

A bad network multiplies rounding: then its own picture in this arithmetic (float64 beside fp32,
autocast to half), less a margin, is the bound. int8 has no twin in torch: a bad network is one that
int8 is too coarse for, and has no int8 encoder. A bad export has another weight, operator or order
of operators than the network.
"""

MIN_PSNR_OF_HALF_WEIGHTS_DB = 50.0
"""The same for float32 graphs whose weights are stored in half."""

INT8_GRAPHS = "encoder.int8+sampler"
"""The name of the second encoder's rows in a manifest."""

_MAX_NATS = 1e-2
_MAX_NATS_IN_FLOAT32 = 1e-3
"""Largest difference of log densities from the network's, in nats for each value of the photograph.

A bad network has latents in the hundreds, whose squares count: then as much as its own differ in
the same arithmetic, times the margin. They are compared square by square: errors of either sign may
cancel in the network's sum and not in the graphs'. A bad export leaves out, or counts twice, a
step's determinant: tenths of a nat.
"""

_OVERFLOW = 1e30
"""Latents of a bad network as large as this may overflow in another order of sums: there is nothing
to compare."""

_Pair = tuple[str, Array, Array]

_AS_IT_IS = "encoder+sampler"
_ROUNDED = "rounded as on GPUs"
_FUSED = "fused"
_FLOAT32 = "float32 graphs"

FUSED = "fused.onnx"


def min_psnr_db(precision: Precision, weights: Weights) -> float:
    """The PSNR that graphs of this precision and storage of weights must reach."""
    bound = MIN_PSNR_DB[precision]
    return min(bound, MIN_PSNR_OF_HALF_WEIGHTS_DB) if weights == "fp16" else bound


def prove(comparison: Comparison, bundle: Bundle) -> list[ParityRow]:
    """Compare a bundle's required graphs, and float32 ones beside them, with the network.

    They run on ONNX Runtime's CPU provider: as they are, if it can run them, and rounded as on
    GPUs, if they are typed in half. Raises: ExportError if one is below its bound or has values
    that are not finite, where the network is not to blame.
    """
    manifest = bundle.manifest
    rows = list[ParityRow]()
    if manifest.precision == "int8":
        rows += _check_int8(comparison, bundle, REQUIRED_FILES, _AS_IT_IS)
    elif manifest.precision != "bf16":  # ONNX Runtime has no bfloat16 convolution for CPUs
        rows += _check_graphs(comparison, bundle, REQUIRED_FILES, _AS_IT_IS)
    if manifest.precision in ("fp16", "bf16"):
        rows += _check_graphs(comparison, bundle, REQUIRED_FILES, _ROUNDED, rounded=True)
    if manifest.precision != "fp32" and manifest.float32_graphs is not None:
        rows += comparison.check(
            _FLOAT32,
            make_graphs_runner(bundle, *manifest.float32_graphs),
            bound_db=min_psnr_db("fp32", manifest.weights),
            arithmetic="fp64",
        )
    return rows


def prove_fused(comparison: Comparison, bundle: Bundle) -> list[ParityRow]:
    """The same for fused.onnx."""
    rounded = bundle.manifest.precision in ("fp16", "bf16")
    return _check_graphs(comparison, bundle, (FUSED,), _FUSED, rounded=rounded)


def prove_int8_encoder(comparison: Comparison, bundle: Bundle) -> list[ParityRow]:
    """Compare a second encoder, with the bundle's own sampler.

    Raises: ExportError if a photograph and tau are below what int8 promises, or not finite.
    """
    return _check_int8(comparison, bundle, (INT8_ENCODER, REQUIRED_FILES[1]), INT8_GRAPHS)


def _check_graphs(
    comparison: Comparison,
    bundle: Bundle,
    names: tuple[str, ...],
    graph: str,
    *,
    rounded: bool = False,
) -> list[ParityRow]:
    precision = bundle.manifest.precision
    weights = bundle.manifest.weights
    runner = make_graphs_runner(bundle, *names, rounded=rounded)
    bound = min_psnr_db(precision, weights)
    return comparison.check(
        graph,
        runner,
        bound_db=bound,
        arithmetic=choose_arithmetic(precision, weights),
    )


def _check_int8(
    comparison: Comparison,
    bundle: Bundle,
    names: tuple[str, str],
    graph: str,
) -> list[ParityRow]:
    try:
        return comparison.check(
            graph,
            make_graphs_runner(bundle, *names),
            bound_db=MIN_PSNR_DB["int8"],
            arithmetic=None,
        )
    except ExportError as error:
        raise ExportError(
            f"int8 is too coarse for this network: {error}. Train the network further (weights "
            "near the start of training lose most), or upscale with --precision bf16, which is "
            "finer and needs no export"
        ) from error


def choose_arithmetic(precision: Precision, weights: Weights) -> Arithmetic | None:
    """Return in what the torch network rounds as these graphs do; None if torch has none such."""
    if precision == "fp32":
        return "half weights" if weights == "fp16" else "fp64"
    return None if precision == "int8" else precision


def tau_of_finite_pictures(rows: Sequence[ParityRow], wanted: float) -> float:
    """Return the largest tau up to `wanted` at which the network diverges no more than at 0.

    Published networks can give values that are not finite at large tau: that is no fault of an
        export.
    """
    diverging = {
        tau: len({row.photo for row in rows if row.tau == tau and row.diverged}) for tau in TAUS
    }
    # the tested tau that stands for it
    above = min((tau for tau in TAUS if tau >= wanted), default=1.0)
    taus = [tau for tau in TAUS if tau <= above and diverging[tau] <= diverging[0.0]]
    return wanted if above in taus else max(taus)


@dataclass(frozen=True, kw_only=True)
class InverseRow:
    """An inverter compared with the network on one photograph.

    Attributes:
        photo: the photograph's name.
        latents_db: the least PSNR of a level's latents, relative to the spread of the network's.
        nats: difference of the log densities for each value of the photograph.
        round_trip_db: PSNR of what the graphs decode their latents to; -200 if not finite.
        own_round_trip_db: the same of the network in the same arithmetic.
        nonfinite: how many of the graphs' latents and densities are not finite.
        diverged: the network's own latents or density are not finite: nothing to compare.
    """

    photo: str
    latents_db: float
    nats: float
    round_trip_db: float
    own_round_trip_db: float
    nonfinite: int
    diverged: bool


def prove_inverse(model: SRFlow, bundle: Bundle, *, say: Say = lambda _: None) -> list[InverseRow]:
    """Compare inverter.onnx with the network on the exporter's photographs, taken as HR images.

    Half precision is computed as on GPUs. An inverter for an int8 encoder is itself in float32, so
    its latents are compared given the float32 encoder, and the round trip given the int8 one. `say`
    receives lines of progress. Raises: ExportError if graphs and network differ on a photograph.
    """
    manifest = bundle.manifest
    pairs = list(_read_pairs(manifest))
    arithmetic: Arithmetic = "fp32" if manifest.precision == "int8" else manifest.precision
    ours = list(_invert_by_graphs(bundle, pairs, REQUIRED_FILES[0], rounded=arithmetic != "fp32"))
    if manifest.precision == "int8":
        exact = _invert_by_graphs(bundle, pairs, FP32_GRAPHS[0])
        ours = [replace(each, back=int8.back) for each, int8 in zip(exact, ours, strict=True)]
    references = _invert_by_network(model, pairs, "fp32", say)
    if arithmetic == "fp32" and manifest.weights == "fp16":
        arithmetic = "half weights"
    theirs = (
        references if arithmetic == "fp32" else _invert_by_network(model, pairs, arithmetic, say)
    )
    rows = [
        _compare_inverse(pair, values, own, back=itself.back)
        for pair, values, own, itself in zip(pairs, ours, references, theirs, strict=True)
    ]

    def measure_own(index: int) -> InverseRow:
        own = _invert_pair(model, pairs[index], "fp64") if theirs is references else theirs[index]
        row = _compare_inverse(pairs[index], own, references[index], back=own.back)
        return replace(
            row, nats=max(row.nats, _difference_of_squares(own, references[index], pairs[index][2]))
        )

    _check_rows(rows, manifest, measure_own)
    return rows


def _compare_inverse(pair: _Pair, ours: _Inverse, own: _Inverse, *, back: Array) -> InverseRow:
    name, _, hr = pair
    latents = zip(ours.latents, own.latents, strict=True)
    values = (*ours.latents, ours.log_density)
    overflows = any(not np.abs(latent).max() < _OVERFLOW for latent in own.latents)
    return InverseRow(
        photo=name,
        latents_db=min(psnr(a, b, least_spread=0) for a, b in latents),
        nats=_difference_of_nats(ours, own, hr),
        round_trip_db=psnr(ours.back, hr, least_spread=1),
        own_round_trip_db=psnr(back, hr, least_spread=1),
        nonfinite=sum(int((~np.isfinite(value)).sum()) for value in values),
        diverged=overflows or not np.isfinite(own.log_density).all(),
    )


def _difference_of_nats(one: _Inverse, other: _Inverse, hr: Array) -> float:
    """For each value; infinity if one is not finite."""
    sums = [float(each.log_density.sum(dtype=np.float64)) for each in (one, other)]
    apart = abs(sums[0] - sums[1]) / hr.size
    return apart if np.isfinite(apart) else float(np.finfo(np.float64).max)


def _difference_of_squares(one: _Inverse, other: _Inverse, hr: Array) -> float:
    """The most that latents' differences change log densities, in nats a value."""
    pairs = zip(one.latents, other.latents, strict=True)
    halves = (
        np.abs(a.astype(np.float64) ** 2 - b.astype(np.float64) ** 2).sum() / 2 for a, b in pairs
    )
    return float(sum(halves)) / hr.size


def inverse_table(rows: Sequence[InverseRow]) -> Iterator[str]:
    """The rows as lines for a terminal, under a header."""
    yield "inverter  photo   latents   nats a value  round trip  network's own  not finite"
    for row in rows:
        if row.diverged:
            yield f"          {row.photo:<6}  left out: the network's own latents diverge here"
        else:
            yield (
                f"          {row.photo:<6}  {row.latents_db:5.1f} dB  {row.nats:12.1e}  "
                f"{row.round_trip_db:7.1f} dB  {row.own_round_trip_db:10.1f} dB  "
                f"{row.nonfinite:10}"
            )


def poor_round_trip(rows: Sequence[InverseRow], manifest: Manifest) -> float | None:
    """The worst round trip in dB, if it is below what a healthy network's is in this precision."""
    worst = min(row.round_trip_db for row in rows if not row.diverged)
    return worst if worst < min_psnr_db(manifest.precision, manifest.weights) else None


def _check_rows(
    rows: Sequence[InverseRow],
    manifest: Manifest,
    measure_own: Callable[[int], InverseRow],
) -> None:
    """Check that graphs and network agree. Raises: ExportError.

    measure_own: the row of the network, for a row's index.
    """
    if all(row.diverged for row in rows):
        raise ExportError(
            "the network's own latents or density are finite on no photograph: nothing can be "
            "compared"
        )
    healthy_db = min_psnr_db(manifest.precision, manifest.weights)
    # int8 rounds the encoder alone; with the float32 one, an inverter in float32 is as exact as
    # any.
    latents_db = (
        min_psnr_db("fp32", manifest.weights) if manifest.precision == "int8" else healthy_db
    )
    exact = manifest.precision in ("fp32", "int8")
    nats = _MAX_NATS_IN_FLOAT32 if exact else _MAX_NATS
    for index, row in enumerate(rows):
        if row.diverged:
            continue
        finite = True
        db = latents_db
        most = nats
        if row.nonfinite or row.latents_db < latents_db or row.nats > nats:
            own = measure_own(index)
            finite = not own.nonfinite
            db = min(latents_db, own.latents_db - MARGIN_DB)
            most = max(nats, own.nats * 10 ** (MARGIN_DB / 20))
        # A bad network comes back from its own latents as badly; a bad export, worse than the
        # network. Where the network comes back to another picture, nothing is compared: latents,
        # nats and the sampler are held to it.
        back_db = min(healthy_db, row.own_round_trip_db - MARGIN_DB)
        where = f"on the photograph '{row.photo}'"
        if row.nonfinite and finite:
            raise ExportError(
                f"{where}, {row.nonfinite} latents are not finite, unlike the network's"
            )
        if row.latents_db < db or row.nats > most:
            raise ExportError(
                f"{where}, latents are {row.latents_db:.1f} dB from the network's and "
                f"{row.nats:.1g} nats a value, but {db:.0f} dB and {most:.1g} are needed"
            )
        if row.own_round_trip_db >= LEAST_DB and row.round_trip_db < back_db:
            raise ExportError(
                f"{where}, the round trip is {row.round_trip_db:.1f} dB, but the network's own is "
                f"{row.own_round_trip_db:.1f} dB"
            )


@dataclass(frozen=True, kw_only=True)
class _Inverse:
    """A photograph, inverted by a bundle's graphs. back: the picture that its latents decode to."""

    latents: list[Array]
    log_density: Array
    back: Array


def _invert_by_graphs(
    bundle: Bundle,
    pairs: Sequence[_Pair],
    encoder: str,
    *,
    rounded: bool = False,
) -> Iterator[_Inverse]:
    levels = [f"level{entry.level}" for entry in bundle.manifest.latent_levels]
    with make_graphs_runner(bundle, encoder, rounded=rounded)() as encode:
        conditioning = [encode({"lr": lr}) for _, lr, _ in pairs]
    with make_graphs_runner(bundle, INVERTER, rounded=rounded)() as invert:
        inverse = [
            invert({**features, "hr": hr})
            for features, (_, _, hr) in zip(conditioning, pairs, strict=True)
        ]
    with make_graphs_runner(bundle, REQUIRED_FILES[1], rounded=rounded)() as decode:
        for features, outputs in zip(conditioning, inverse, strict=True):
            latents = [outputs[f"latent_{level}"] for level in levels]
            noise = {f"noise_{level}": outputs[f"latent_{level}"] for level in levels}
            back = decode({**features, **noise, "tau": np.ones(1, np.float32)})["sr"]
            yield _Inverse(latents=latents, log_density=outputs["log_density"], back=back)


def _read_pairs(manifest: Manifest) -> Iterator[_Pair]:
    """Name, LR and HR image of each photograph."""
    for photo in photographs(manifest.scale * manifest.size_multiple):
        hr = torch.from_numpy(photo.lr)
        lr = round_to_8_bit(REDUCTIONS[manifest.reduction](hr, manifest.scale))
        yield photo.name, lr.numpy(), photo.lr


def _invert_by_network(
    model: SRFlow,
    pairs: Sequence[_Pair],
    arithmetic: Arithmetic,
    say: Say,
) -> list[_Inverse]:
    """All photographs, inverted by the torch network."""
    progress = Progress(f"proving the inverter, by the network in {arithmetic}", len(pairs), say)
    inverted = []
    for pair in pairs:
        inverted.append(_invert_pair(model, pair, arithmetic))
        progress.step()
    return inverted


def _invert_pair(model: SRFlow, pair: _Pair, arithmetic: Arithmetic) -> _Inverse:
    """A photograph, inverted by the torch network.

    The way back from latents of half weights is with the exact ones: in graphs, a 1×1 and its
    inverse are each rounded, so that one does not undo the other, whereas torch would invert the
    rounded one.
    """
    _, lr, hr = pair
    with compute_in(model, arithmetic) as (network, dtype):
        condition = network.condition(torch.from_numpy(lr).to(dtype))
        latents, nats = network.encode_conditioned(torch.from_numpy(hr).to(dtype), condition)
        if arithmetic == "half weights":
            network = model
            condition = model.condition(torch.from_numpy(lr))
        back = network.decode_conditioned(condition, latents)
    return _Inverse(
        latents=[latents[level].numpy() for level in sorted(latents)],
        log_density=nats.numpy(),
        back=back.numpy(),
    )


@contextmanager
def float32_backend(bundle: Bundle) -> Iterator[Backend]:
    """Open a bundle's float32 graphs on the CPU, with its inverter in float32 too.

    Raises: BundleError if there are no float32 graphs.
    """
    manifest = bundle.manifest
    if manifest.precision == "fp32":
        with OnnxRuntimeBackend(bundle, device="cpu") as backend:
            yield backend
        return
    with tempfile.TemporaryDirectory() as folder:
        files = dict(zip(REQUIRED_FILES, FP32_GRAPHS, strict=True))
        for name, twin in files.items():
            shutil.copyfile(bundle.file(twin), Path(folder) / name)
        if INVERTER in manifest.files:
            proto = onnx.load(bundle.file(INVERTER))
            onnx_models.convert_to_float32(proto)
            onnx.save(proto, Path(folder) / INVERTER)
            files[INVERTER] = INVERTER
        wider = 1 if manifest.precision == "int8" else 2  # than in half
        exact = dataclasses.replace(
            manifest,
            precision="fp32",
            conditioning_bytes_per_pixel=wider * manifest.conditioning_bytes_per_pixel,
            files={name: {} for name in files},
        )
        with OnnxRuntimeBackend(Bundle(path=Path(folder), manifest=exact), device="cpu") as backend:
            yield backend
