"""What an inverter must show before its bundle is written: latents, nats and the way back, on photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from polygraphy.backend.base import BaseRunner

from srflow_export.parity._measure import DIVERGED, psnr
from srflow_export.parity._photos import photographs
from srflow_export.parity._runners import graphs_runner, inverse_runner
from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.bundle import Bundle, Manifest
from srflow_sdk.errors import ExportError
from srflow_training.model import SRFlow
from srflow_training.resampling import REDUCTIONS, round_to_8_bit

_MAX_NATS, _MAX_NATS_IN_FLOAT32 = 1e-2, 1e-3
"""Largest difference of log densities from the network's, in nats for each value of the photograph."""

Array = npt.NDArray[np.float32]
_Pair = tuple[str, Array, Array]


@dataclass(frozen=True, kw_only=True)
class InverseRow:
    """An inverter compared with the network on one photograph.

    latents_db: the least PSNR of a level's latents, relative to the spread of the network's. nats: difference of the
    log densities for each value of the photograph. round_trip_db: PSNR of what the graphs decode the latents to against
    the photograph. nonfinite: how many of all these values are not finite. diverged: the network's own latents are not
    finite or in the thousands, so there is nothing to compare.
    """

    photo: str
    latents_db: float
    nats: float
    round_trip_db: float
    nonfinite: int
    diverged: bool

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def prove_inverse(model: SRFlow, bundle: Bundle, *, min_db: float, rounded: bool) -> list[InverseRow]:
    """Compare inverter.onnx with the network on the exporter's photographs, taken as HR images.

    rounded: compute as GPUs do in half precision. min_db: what latents and the round trip must reach.
    Raises: ExportError if a photograph is below a bound or has values that are not finite.
    """
    pairs = list(_pairs(bundle.manifest))
    references = [_reference(model, lr, hr) for _, lr, hr in pairs]
    rows = []
    for (name, _, hr), (latents, nats), found in zip(
        pairs, references, (_rounded if rounded else _as_it_is)(bundle, pairs), strict=True
    ):
        values = (*found.latents, found.log_density, found.back)
        row = InverseRow(
            photo=name,
            latents_db=min(psnr(one, other, least_spread=0) for one, other in zip(found.latents, latents, strict=True)),
            nats=abs(float(found.log_density.sum(dtype=np.float64)) - nats) / hr.size,
            round_trip_db=psnr(found.back, hr, least_spread=1),
            nonfinite=sum(int((~np.isfinite(value)).sum()) for value in values),
            diverged=any(not np.abs(latent).max() < DIVERGED for latent in latents),
        )
        rows.append(row)
    exact = bundle.manifest.precision == "fp32"
    _check(rows, min_db=min_db, max_nats=_MAX_NATS_IN_FLOAT32 if exact else _MAX_NATS)
    return rows


def inverse_table(rows: Sequence[InverseRow]) -> Iterator[str]:
    """The rows as lines for a terminal, under a header."""
    yield "inverter  photo   latents   nats a value  round trip  not finite"
    for row in rows:
        if row.diverged:
            yield f"          {row.photo:<6}  left out: the network's own latents diverge here"
        else:
            yield (
                f"          {row.photo:<6}  {row.latents_db:5.1f} dB  {row.nats:12.1e}  {row.round_trip_db:7.1f} dB  "
                f"{row.nonfinite:10}"
            )


def _check(rows: Sequence[InverseRow], *, min_db: float, max_nats: float) -> None:
    if all(row.diverged for row in rows):
        raise ExportError("the network's own latents diverge on every photograph: there is nothing to compare with")
    for row in rows:
        if row.diverged:
            continue
        where = f"inverter on the photograph '{row.photo}'"
        if row.nonfinite:
            raise ExportError(f"{where}: {row.nonfinite} values are not finite")
        if min(row.latents_db, row.round_trip_db) < min_db or row.nats > max_nats:
            raise ExportError(
                f"{where}: latents {row.latents_db:.1f} dB and the round trip {row.round_trip_db:.1f} dB, but "
                f"{min_db:.0f} dB are needed; {row.nats:.1g} nats a value, at most {max_nats:g}"
            )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a bundle's graphs make of a photograph. back: what its latents decode to."""

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


@torch.no_grad()
def _reference(model: SRFlow, lr: Array, hr: Array) -> tuple[list[Array], float]:
    latents, nats = model.encode(torch.from_numpy(hr), torch.from_numpy(lr))
    return [latents[level].numpy() for level in sorted(latents)], float(nats)


def _outputs(runner: BaseRunner, feeds: Sequence[dict[str, Array]]) -> list[dict[str, Array]]:
    with runner:
        return [{name: np.array(value) for name, value in runner.infer(feed).items()} for feed in feeds]
