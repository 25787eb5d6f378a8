"""Compare one decoder with another: image by image, tau by tau, level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from polygraphy.comparator import RunResults
from polygraphy.json import save_json
from polygraphy.logger import G_LOGGER

from srflow_export.graphs import parse_level
from srflow_export.parity.photographs import Array, LrPhoto
from srflow_export.parity.runners import Arithmetic, Runner, make_torch_runner
from srflow_export.progress import Progress, Say
from srflow_sdk.errors import ExportError
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.bundle import Manifest
from srflow_sdk.plain_text import command_line
from srflow_training.model import SRFlow

G_LOGGER.module_severity = G_LOGGER.WARNING  # it announces every file

TAUS = (0.0, 0.5, 0.8, 1.0)

DIVERGED = 1e3
"""Image values are in [0, 1]; a picture with values this large is none. A bad network gives such
pictures, so they are left out, and count only where there are no others. A bad export gives them
where the network does not."""

MARGIN_DB = 10.0
"""How much further from the network's picture than the network itself in the same arithmetic graphs
may be.

Both errors are rounding, of sums in another order, and in a badly conditioned network a few pixels
have most of it: the graphs of the tests' networks are up to 4 dB below. A bad export is tens of dB
below.
"""

_MAX_DB = 200.0  # reported for equality
_MIN_DB = -200.0  # reported for values that are not finite


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One decoder compared with a reference on one photograph at one τ, with the same latents.

    Attributes:
        graph: what was compared.
        photo: the photograph's name.
        tau: the temperature.
        diverged: the reference itself is not finite, or a thousand times out of range, as published
            networks can be at large τ; such rows count only if there are no others.
        psnr_db: in image space, relative to the reference's spread (at least 1).
        max_abs: largest difference, image values in [0, 1].
        nonfinite: how many values are not finite.
        levels_db: PSNR of what each level decodes to, L first; empty if only the image is known.
        comparable: the reference is finite; otherwise the other values mean nothing.
        own_db: where psnr_db is below the bound of a healthy network, the PSNR of the network
            itself in the same arithmetic, which excuses it; -200 if that is not finite.
    """

    graph: str
    photo: str
    tau: float
    diverged: bool
    psnr_db: float
    max_abs: float
    nonfinite: int
    levels_db: Mapping[int, float]
    comparable: bool = True
    own_db: float | None = None

    @property
    def worst_level(self) -> int | None:
        """The level with the largest error."""
        return min(self.levels_db, key=lambda level: self.levels_db[level], default=None)

    def origin(self, bound_db: float) -> int | None:
        """Return the first level, in decoding order, below the bound; otherwise the worst."""
        return next(
            (level for level, db in self.levels_db.items() if db < bound_db), self.worst_level
        )


def feed(lr: Array, manifest: Manifest, *, seed: int) -> dict[str, Array]:
    """Make a runner's inputs for an LR photograph 1×3×h×w at all TAUS, with runtime noise."""
    height, width = lr.shape[2:]
    noise = window_noise(
        manifest.latent_levels,
        scale=manifest.scale,
        seed=seed,
        sample=0,
        height=height,
        width=width,
    )
    many = {
        f"noise_level{level}": np.stack([values] * len(TAUS)) for level, values in noise.items()
    }
    return {"lr": lr, **many, "tau": np.array(TAUS, np.float32)}


def compare_taus(
    graph: str,
    photo: str,
    outputs: Mapping[str, Array],
    references: Mapping[str, Array],
) -> Iterator[ParityRow]:
    """A row for each τ of one photograph, from the outputs of two runners for one :func:`feed`."""
    for index, tau in enumerate(TAUS):
        sr = outputs["sr"][index]
        reference = references["sr"][index]
        diverged = not np.abs(reference).max() < DIVERGED  # true for NaN too
        levels = {
            parse_level(name): psnr(outputs[name][index], values[index], least_spread=0)
            for name, values in references.items()
            if name != "sr" and name in outputs
        }
        yield ParityRow(
            graph=graph,
            photo=photo,
            tau=tau,
            diverged=diverged,
            psnr_db=psnr(sr, reference, least_spread=1),
            max_abs=0.0
            if diverged
            else float(np.nan_to_num(np.abs(sr - reference), nan=0, posinf=0).max()),
            comparable=bool(np.isfinite(reference).all()),
            nonfinite=int((~np.isfinite(sr)).sum()),
            levels_db={**levels, 1: psnr(sr, reference, least_spread=0)} if levels else {},
        )


class Comparison:
    """Compares decoders with a reference on photographs. What the reference draws is computed once.

    name: the reference's, for errors. model: its network, if it has one in torch. `say` receives
    lines of progress and tables.
    """

    def __init__(
        self,
        photos: Sequence[LrPhoto],
        manifest: Manifest,
        reference: Runner,
        *,
        name: str,
        model: SRFlow | None = None,
        say: Say = lambda _: None,
    ) -> None:
        self.name = name
        self.model = model
        self.say = say
        self._photos = photos
        self._reference = reference
        self._feeds = [feed(photo.lr, manifest, seed=seed) for seed, photo in enumerate(photos)]
        self._references: list[Mapping[str, Array]] = []
        self._own: dict[Arithmetic, dict[tuple[str, float], ParityRow]] = {}

    def compare(self, graph: str, decoder: Runner) -> list[ParityRow]:
        """Compare a decoder on every photograph at every τ, with one runner active at a time."""
        self._references = self._references or self._run(self._reference, self.name)
        outputs = self._run(decoder, graph)
        return [
            row
            for photo, ours, theirs in zip(self._photos, outputs, self._references, strict=True)
            for row in compare_taus(graph, photo.name, ours, theirs)
        ]

    def check(
        self,
        graph: str,
        decoder: Runner,
        *,
        bound_db: float,
        arithmetic: Arithmetic | None,
    ) -> list[ParityRow]:
        """Compare a decoder, show the table, and check that it is good enough; see :func:`check`.

        arithmetic: what the network shows in torch of what rounding as in these graphs makes of it;
            None if nothing.
        """
        rows = self.compare(graph, decoder)
        for line in table(rows):
            self.say(line)

        def own(row: ParityRow) -> ParityRow | None:
            return self._compare_network(row, arithmetic)

        rows = check(rows, bound_db=bound_db, reference=self.name, own=own)
        if excused := [row.own_db for row in rows if row.own_db is not None]:
            self.say(
                "the network multiplies rounding: its own pictures in the bundle's arithmetic are "
                f"{min(excused):.1f} dB from its float32 ones, and the graphs are as near"
            )
        return rows

    def keep(self, folder: Path, graph: onnx.ModelProto, *, bound_db: float) -> None:
        """Write a graph, its inputs and the reference's outputs, for Polygraphy, and say how."""
        results = RunResults()
        results.add(self._references, runner_name=self.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            onnx.save(graph, folder / "graph.onnx")
            save_json(self._feeds, str(folder / "inputs.json"))
            results.save(str(folder / "outputs.json"))
        except OSError as error:
            self.say(f"{folder}: the gate's inputs cannot be kept: {error.strerror or error}")
            return
        path = command_line([str(folder)])
        self.say(
            f"to look into what was compared: polygraphy run {path}/graph.onnx --onnxrt "
            f"--load-inputs {path}/inputs.json --load-outputs {path}/outputs.json --compare psnr "
            f"--psnr-threshold {bound_db:g}"
        )

    def _compare_network(self, row: ParityRow, arithmetic: Arithmetic | None) -> ParityRow | None:
        """Return the row of the torch network in another arithmetic, computed once."""
        if arithmetic is None or self.model is None:
            return None
        if arithmetic not in self._own:
            rows = self.compare(
                f"the network in {arithmetic}", make_torch_runner(self.model, arithmetic)
            )
            self._own[arithmetic] = {(row.photo, row.tau): row for row in rows}
        return self._own[arithmetic][row.photo, row.tau]

    def _run(self, runner: Runner, name: str) -> list[Mapping[str, Array]]:
        progress = Progress(f"comparing {name}", len(self._feeds), self.say)
        outputs = []
        with runner() as infer:
            for each in self._feeds:
                outputs.append(infer(each))
                progress.step()
        return outputs


Own = Callable[[ParityRow], ParityRow | None]
"""The row of the network itself in a row's arithmetic, with the same photograph and τ; None if
there is none."""


def check(
    rows: Sequence[ParityRow],
    *,
    bound_db: float,
    reference: str,
    own: Own = lambda _: None,
) -> list[ParityRow]:
    """Return the rows, those that the network itself excuses with their `own_db`.

    bound_db: what graphs of a healthy network reach. A bad network is further from itself in
    another arithmetic, or
    not finite in it: then its own row, less :data:`MARGIN_DB`, is the bound. Only a bad export is
    below that, or not finite where the network is. reference: what the rows were compared with, for
    the message.
    Raises: ExportError naming the worst row below its bound, or that there is nothing to compare.
    """
    counted = [row for row in rows if not row.diverged] or [row for row in rows if row.comparable]
    if not counted:
        raise ExportError(
            f"{reference} itself gives no finite picture of any photograph, at any tau: there is "
            "nothing to compare; train it further, or check that its file is the right one and "
            "whole"
        )
    excused: dict[int, float] = {}
    for row in sorted(counted, key=lambda row: (not row.nonfinite, row.psnr_db)):
        bound = bound_db
        if not row.nonfinite and row.psnr_db >= bound:
            continue
        itself = own(row)
        if itself is not None:
            bound = min(bound, itself.psnr_db - MARGIN_DB)
            if itself.nonfinite if row.nonfinite else row.psnr_db >= bound:
                excused[id(row)] = itself.psnr_db
                continue
        where = f"{row.graph} at tau {row.tau:g} on the photograph '{row.photo}'"
        level = row.origin(bound)
        at = (
            ""
            if level is None
            else f"; it goes wrong at level {level} ({row.levels_db[level]:.1f} dB there)"
        )
        if row.nonfinite:
            raise ExportError(
                f"{where}: {row.nonfinite} values are not finite, unlike those of {reference}{at}"
            )
        raise ExportError(
            f"{where}: {row.psnr_db:.1f} dB against {reference}, but {bound:.0f} dB are needed "
            f"(largest difference {row.max_abs:.2g}){at}"
        )
    if all(row.nonfinite for row in counted):
        raise ExportError(
            f"{counted[0].graph}: {reference} itself gives no finite picture in this precision, "
            "on any photograph; use another one, such as --precision fp32"
        )
    return [replace(row, own_db=excused.get(id(row))) for row in rows]


def table(rows: Sequence[ParityRow]) -> Iterator[str]:
    """The rows as lines for a terminal, under a header."""
    width = max(len("graph"), *(len(row.graph) for row in rows))
    yield f"{'graph':<{width}}  photo   tau      PSNR  largest difference  not finite  worst level"
    for row in rows:
        head = f"{row.graph:<{width}}  {row.photo:<6}  {row.tau:3g}"
        if row.diverged:
            yield f"{head}  left out: the reference itself diverges here"
            continue
        level = row.worst_level
        worst = "" if level is None else f"{level}: {row.levels_db[level]:.1f} dB"
        line = f"{head}  {row.psnr_db:5.1f} dB  {row.max_abs:18.1e}  {row.nonfinite:10}  {worst}"
        yield line.rstrip()


def psnr(values: Array, reference: Array, *, least_spread: float) -> float:
    """PSNR in dB, −200 … 200, relative to the reference's spread, at least this much."""
    if not np.isfinite(values).all() or not np.isfinite(reference).all():
        return _MIN_DB
    expected = reference.astype(np.float64)
    mean_square = float(np.mean((values - expected) ** 2))
    spread = max(least_spread, float(np.ptp(expected)))
    if mean_square == 0:
        return _MAX_DB
    return min(_MAX_DB, -10 * float(np.log10(mean_square / spread**2))) if spread else _MIN_DB
