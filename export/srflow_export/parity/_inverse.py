"""The gate that an inverter must pass to stay in its bundle: latents, nats and the way back, on photographs.

It is compared with the network, and never judged for what the network does itself: the network's own latents, nats and
round trip in the same arithmetic are the bounds where it is worse than a healthy one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from polygraphy.backend.base import BaseRunner

from srflow_export.inverter_halo import in_float32
from srflow_export.parity._gate import min_psnr_db
from srflow_export.parity._measure import MARGIN_DB, psnr
from srflow_export.parity._photos import photographs
from srflow_export.parity._runners import Arithmetic, computing_in, graphs_runner, inverse_runner
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.errors import ExportError
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import LEAST_DB, Weights
from srflow_training.model import SRFlow
from srflow_training.resampling import REDUCTIONS, round_to_8_bit

_MAX_NATS, _MAX_NATS_IN_FLOAT32 = 1e-2, 1e-3
"""Largest difference of log densities from the network's, in nats for each value of the photograph.

A bad network has latents in the hundreds, whose squares count: then as much as its own differ in the same arithmetic,
times the margin. They are compared square by square: errors of either sign may cancel in the network's sum and not in
the graphs'. A bad export leaves out, or counts twice, a step's determinant: tenths of a nat.
"""

_OVERFLOW = 1e30
"""Latents of a bad network as large as this may overflow in another order of sums: there is nothing to compare."""

Array = npt.NDArray[np.float32]
_Pair = tuple[str, Array, Array]


@dataclass(frozen=True, kw_only=True)
class InverseRow:
    """An inverter compared with the network on one photograph.

    latents_db: the least PSNR of a level's latents, relative to the spread of the network's. nats: difference of the
    log densities for each value of the photograph. round_trip_db: PSNR of what the graphs decode their latents to
    against the photograph; -200 if that is not finite. own_round_trip_db: the same of the network in the same
    arithmetic, see :func:`_own`. nonfinite: how many of the graphs' latents and densities are not finite. diverged: the
    network's own latents or density are not finite, so there is nothing to compare.
    """

    photo: str
    latents_db: float
    nats: float
    round_trip_db: float
    own_round_trip_db: float
    nonfinite: int
    diverged: bool

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def prove_inverse(model: SRFlow, bundle: Bundle) -> list[InverseRow]:
    """Compare inverter.onnx with the network on the exporter's photographs, taken as HR images.

    Half precision is computed as on GPUs. An inverter for an int8 encoder is itself in float32, so its latents are
    compared given the float32 encoder, and the round trip given the int8 one.
    Raises: ExportError if graphs and network differ on a photograph.
    """
    manifest = bundle.manifest
    pairs = list(_pairs(manifest))
    arithmetic: Arithmetic = "fp32" if manifest.precision == "int8" else manifest.precision
    if arithmetic != "fp32":
        found = list(_rounded(bundle, pairs))
    else:
        found = list(_as_it_is(bundle, pairs))
        with in_float32(bundle) as exact:
            if exact is not bundle:
                found = [
                    replace(ours, latents=theirs.latents, log_density=theirs.log_density)
                    for ours, theirs in zip(found, _as_it_is(exact, pairs), strict=True)
                ]
    references = [_own(model, pair, "fp32") for pair in pairs]
    theirs = references
    if (rounded := _rounding(arithmetic, manifest.weights)) != "fp32":
        theirs = [_own(model, pair, rounded) for pair in pairs]
    rows = [
        _row(pair, values, own, back=itself.back)
        for pair, values, own, itself in zip(pairs, found, references, theirs, strict=True)
    ]

    def itself(index: int) -> InverseRow:
        own = _own(model, pairs[index], "fp64") if theirs is references else theirs[index]
        row = _row(pairs[index], own, references[index], back=own.back)
        return replace(row, nats=max(row.nats, _squares_apart(own, references[index], pairs[index][2])))

    _check(rows, manifest, itself)
    return rows


def _rounding(arithmetic: Arithmetic, weights: Weights) -> Arithmetic:
    return "half weights" if arithmetic == "fp32" and weights == "fp16" else arithmetic


def _row(pair: _Pair, found: _Found, own: _Found, *, back: Array) -> InverseRow:
    name, _, hr = pair
    return InverseRow(
        photo=name,
        latents_db=_latents_db(found, own),
        nats=_nats_apart(found, own, hr),
        round_trip_db=psnr(found.back, hr, least_spread=1),
        own_round_trip_db=psnr(back, hr, least_spread=1),
        nonfinite=sum(int((~np.isfinite(value)).sum()) for value in (*found.latents, found.log_density)),
        diverged=any(not np.abs(latent).max() < _OVERFLOW for latent in own.latents)
        or not np.isfinite(own.log_density).all(),
    )


def _latents_db(one: _Found, other: _Found) -> float:
    return min(psnr(a, b, least_spread=0) for a, b in zip(one.latents, other.latents, strict=True))


def _nats_apart(one: _Found, other: _Found, hr: Array) -> float:
    """For each value; infinity if one is not finite."""
    apart = abs(float(one.log_density.sum(dtype=np.float64)) - float(other.log_density.sum(dtype=np.float64))) / hr.size
    return apart if np.isfinite(apart) else float(np.finfo(np.float64).max)


def _squares_apart(one: _Found, other: _Found, hr: Array) -> float:
    """The most that the latents' differences can change log densities, in nats a value: none cancels another."""
    pairs = zip(one.latents, other.latents, strict=True)
    halves = (np.abs(a.astype(np.float64) ** 2 - b.astype(np.float64) ** 2).sum() / 2 for a, b in pairs)
    return float(sum(halves)) / hr.size


def inverse_table(rows: Sequence[InverseRow]) -> Iterator[str]:
    """The rows as lines for a terminal, under a header."""
    yield "inverter  photo   latents   nats a value  round trip  network's own  not finite"
    for row in rows:
        if row.diverged:
            yield f"          {row.photo:<6}  left out: the network's own latents diverge here"
        else:
            yield (
                f"          {row.photo:<6}  {row.latents_db:5.1f} dB  {row.nats:12.1e}  {row.round_trip_db:7.1f} dB  "
                f"{row.own_round_trip_db:10.1f} dB  {row.nonfinite:10}"
            )


def poor_round_trip(rows: Sequence[InverseRow], manifest: Manifest) -> float | None:
    """The worst round trip in dB, if it is below what a healthy network's is in this precision."""
    worst = min(row.round_trip_db for row in rows if not row.diverged)
    return worst if worst < min_psnr_db(manifest.precision, manifest.weights) else None


def _check(rows: Sequence[InverseRow], manifest: Manifest, itself: Callable[[int], InverseRow]) -> None:
    """Raises: ExportError where graphs and network differ. itself: the row of the network, for a row's index."""
    if all(row.diverged for row in rows):
        raise ExportError("the network's own latents or density are finite on no photograph: nothing can be compared")
    healthy_db = min_psnr_db(manifest.precision, manifest.weights)
    # int8 rounds the encoder alone; with the float32 one, an inverter in float32 is as exact as any.
    latents_db = min_psnr_db("fp32", manifest.weights) if manifest.precision == "int8" else healthy_db
    exact = manifest.precision in ("fp32", "int8")
    nats = _MAX_NATS_IN_FLOAT32 if exact else _MAX_NATS
    for index, row in enumerate(rows):
        if row.diverged:
            continue
        finite, db, most = True, latents_db, nats
        if row.nonfinite or row.latents_db < latents_db or row.nats > nats:
            own = itself(index)
            finite = not own.nonfinite
            db = min(latents_db, own.latents_db - MARGIN_DB)
            most = max(nats, own.nats * 10 ** (MARGIN_DB / 20))
        # A bad network comes back from its own latents as badly; a bad export, worse than the network. Where the
        # network comes back to another picture, nothing is compared: latents, nats and the sampler are held to it.
        back_db = min(healthy_db, row.own_round_trip_db - MARGIN_DB)
        where = f"on the photograph '{row.photo}'"
        if row.nonfinite and finite:
            raise ExportError(f"{where}, {row.nonfinite} latents are not finite, unlike the network's")
        if row.latents_db < db or row.nats > most:
            raise ExportError(
                f"{where}, latents are {row.latents_db:.1f} dB from the network's and {row.nats:.1g} nats a value, but "
                f"{db:.0f} dB and {most:.1g} are needed"
            )
        if row.own_round_trip_db >= LEAST_DB and row.round_trip_db < back_db:
            raise ExportError(
                f"{where}, the round trip is {row.round_trip_db:.1f} dB, but the network's own is "
                f"{row.own_round_trip_db:.1f} dB"
            )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A photograph, inverted by a bundle's graphs. back: the picture that its latents decode to."""

    latents: list[Array]
    log_density: Array
    back: Array


def _as_it_is(bundle: Bundle, pairs: Sequence[_Pair]) -> Iterator[_Found]:
    with OnnxRuntimeBackend(bundle, device="cpu") as backend:
        for _, lr, hr in pairs:
            conditioning = backend.encode(lr)
            latents, log_density = backend.invert(conditioning, hr)
            back = backend.sample(conditioning, latents, 1.0)
            yield _Found(latents=[latents[level] for level in sorted(latents)], log_density=log_density, back=back)


def _rounded(bundle: Bundle, pairs: Sequence[_Pair]) -> Iterator[_Found]:
    levels = [f"level{entry.level}" for entry in bundle.manifest.latent_levels]
    inverse = _outputs(inverse_runner(bundle, rounded=True), [{"hr": hr, "lr": lr} for _, lr, hr in pairs])
    noise = [{f"noise_{level}": found[f"latent_{level}"] for level in levels} for found in inverse]
    tau = {"tau": np.ones(1, np.float32)}
    feeds = [{"lr": lr, **drawn, **tau} for (_, lr, _), drawn in zip(pairs, noise, strict=True)]
    for found, decoded in zip(inverse, _outputs(graphs_runner(bundle, rounded=True), feeds), strict=True):
        latents = [found[f"latent_{level}"] for level in levels]
        yield _Found(latents=latents, log_density=found["log_density"], back=decoded["sr"])


def _pairs(manifest: Manifest) -> Iterator[_Pair]:
    """Name, LR and HR image of each photograph."""
    for photo in photographs(manifest.scale * manifest.size_multiple):
        hr = torch.from_numpy(photo.lr)
        lr = round_to_8_bit(REDUCTIONS[manifest.reduction](hr, manifest.scale))
        yield photo.name, lr.numpy(), photo.lr


def _own(model: SRFlow, pair: _Pair, arithmetic: Arithmetic) -> _Found:
    """A photograph, inverted by the torch network.

    The way back from latents of half weights is with the exact ones: in graphs, a 1×1 and its inverse are each rounded,
    so that one does not undo the other, whereas torch would invert the rounded one.
    """
    _, lr, hr = pair
    with computing_in(model, arithmetic) as (network, dtype):
        condition = network.condition(torch.from_numpy(lr).to(dtype))
        latents, nats = network.encode_conditioned(torch.from_numpy(hr).to(dtype), condition)
        if arithmetic == "half weights":
            network, condition = model, model.condition(torch.from_numpy(lr))
        back = network.decode_conditioned(condition, latents)
    return _Found(
        latents=[latents[level].numpy() for level in sorted(latents)], log_density=nats.numpy(), back=back.numpy()
    )


def _outputs(runner: BaseRunner, feeds: Sequence[dict[str, Array]]) -> list[dict[str, Array]]:
    with runner:
        return [{name: np.array(value) for name, value in runner.infer(feed).items()} for feed in feeds]
