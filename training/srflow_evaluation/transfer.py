"""The protocol `transfer`: part of one picture put into another, pasted and as the flow does it.

Figure 18 of the publication's supplement. Steps, of which seams are made, are differences of
neighbours, side by side and one above the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from srflow_evaluation.bench import NONFINITE, Bench, open_bench
from srflow_evaluation.models import Subject
from srflow_evaluation.options import LevelTaus, Options
from srflow_evaluation.output import SHEETS, WHOLE, Cell, Table, table_of, write_sheet
from srflow_evaluation.pictures import Picture, PictureFiles, to_array, to_tensor
from srflow_evaluation.results import Row, mean_of
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError
from srflow_sdk.flow.options import FINEST_TAU, PLAIN_TAU, Blend
from srflow_sdk.flow.transferring import mask_of, shares
from srflow_sdk.pixels.membrane import blended
from srflow_training.data import read_photo, to_image, to_pixels
from srflow_training.figures import as_shown
from srflow_training.resampling import REDUCTIONS

Pixels = NDArray[np.uint8]
"""8-bit H×W×3."""

Mask = NDArray[np.bool_]
"""H×W."""

METHODS = ("target", "pasted", "result")
"""The figures of a picture, by their names in results.csv."""

MEASURES = {
    "seam_error": ("seam error, /255 ↓", ".2f", "lower"),
    "seam": ("seam (1: none)", ".2f", "closer to 1"),
    "detail": ("detail (1: the source's)", ".2f", "closer to 1"),
    "likeness": ("likeness (1: the source's content)", ".2f", "closer to 1"),
}
"""Heading, format and direction of the columns."""

CONVENTION = (
    "8-bit RGB. Seam error: how far each difference of neighbours across the mask's edge lies "
    "outside of those that target and source have there; 0 for either of them. Seam: the "
    "differences across the edge, divided by those up to three pixels from it. Detail: the "
    "differences inside the mask, divided by the source's. Likeness: their correlation with the "
    "source's. Every figure is the mean over pictures"
)
"""How the figures are computed."""

_AXIS = 0.2  # half axes of the ellipse, of the picture's sides
_NEAR = 3  # pixels
_MARGIN = 24  # pixels around the mask in a sheet of a larger picture


@torch.no_grad()
def transfer(options: Options) -> Table:
    """Measure and write results.csv (a row per picture and method), summary.json and sheets.

    Returns:
        The table.

    Raises:
        SRFlowError.
    """
    way = _Way.of(options)
    bench = open_bench(options)
    bench = replace(bench, pictures=_add_sources(bench.pictures, options))
    bench.subject.both_ways()  # refuses a bundle without an inverter before anything is written
    settings = {
        "source": "files" if options.source is not None else "next",
        "mask": "files" if options.mask is not None else "ellipse",
        "normalise": options.normalise,
        "tau": str(way.tau or ""),
    }

    def rows_of(files: PictureFiles, sheet: Path | None) -> list[Row]:
        return _measure_picture(bench, way, files, sheet, enlarges=options.lr is None)

    results, rows = bench.measure(options, rows_of, sheets=SHEETS, measured="transfer", **settings)
    means = {}
    for name in METHODS:
        of_method = [row for row in rows if row["method"] == name]
        means[name] = mean_of(of_method, list(MEASURES))
    notes = _write_notes(options, way, rows)
    by_method = [{"method": name, **row} for name, row in means.items()]
    summary = bench.summary("transfer", [], by_method)
    summary |= {
        "references": {},
        "convention": CONVENTION,
        "metrics": {
            name: {"heading": heading, "better": better}
            for name, (heading, _, better) in MEASURES.items()
        },
        "notes": notes,
        **settings,
    }
    results.write_summary(summary)
    columns = {name: (heading, form) for name, (heading, form, _) in MEASURES.items()}
    return table_of(columns, [*means.items()], [f"{CONVENTION}.", *notes])


def _measure_picture(
    bench: Bench,
    way: _Way,
    files: PictureFiles,
    sheet: Path | None,
    *,
    enlarges: bool,
) -> list[Row]:
    """The rows of a picture.

    Args:
        enlarges: the sheet also shows the transfer into the target's own enlargement.
    """
    subject = bench.subject
    picture = bench.read(files)
    case = _Case.of(files, picture)
    images, is_finite = case.draw_methods(subject, way)
    rows: list[Row] = []
    for name, image in images.items():
        tau = way.tau_text if name == "result" else ""
        rows.append({"picture": files.name, "method": name, "tau": tau, **case.measure(image)})
    rows[-1][NONFINITE] = float(not is_finite)
    if sheet is not None:
        cells = case.cells(images, "target")
        if enlarges:
            cells += _draw_enlarged(subject, way, case, picture)
        height, width = cells[0][1].shape[2:]
        whole = (slice(0, height), slice(0, width))
        title = f"{files.name}, transferred at τ {way.tau_text}: {subject.name}"
        write_sheet(sheet, title, cells, [whole], columns=4)
    return rows


def _draw_enlarged(subject: Subject, way: _Way, case: _Case, picture: Picture) -> list[Cell]:
    """The same of the target's own enlargement."""
    tau = subject.default_tau
    drawn = as_shown(subject.sampler(picture.lr)(tau, 0))
    enlarged = replace(case, target=to_pixels(drawn), lr=to_pixels(picture.lr))
    images, _ = enlarged.draw_methods(subject, way)
    return enlarged.cells(images, f"target, super-resolved, τ {tau}")


def _write_notes(options: Options, way: _Way, rows: Sequence[Row]) -> list[str]:
    """What was put where, and whose results are not finite."""
    source = "the middle of the next picture, scaled to cover"
    if options.source is not None:
        source = "from --source"
    mask = "an ellipse in the middle" if options.mask is None else "from --mask"
    notes = [f"Result: {way}. Source: {source}. Mask: {mask}."]
    broken = [str(row["picture"]) for row in rows if row.get(NONFINITE)]
    if broken:
        warning = (
            f"The result of {', '.join(broken)} is not finite (NaN or infinite): it is black "
            "inside the mask."
        )
        notes.insert(0, warning)
    return notes


def _add_sources(pictures: Sequence[PictureFiles], options: Options) -> Sequence[PictureFiles]:
    """The targets, each with the next one if no sources are named. Raises: ArgumentError."""
    if options.source is not None:
        return pictures
    if len(pictures) == 1:
        raise ArgumentError(
            "content is taken from the next picture, but there is only one: name another with "
            "--source"
        )
    nexts = [*pictures[1:], pictures[0]]
    return [replace(files, beside=after.hr) for files, after in zip(pictures, nexts, strict=True)]


@dataclass(frozen=True)
class _Way:
    """How content is put in.

    Attributes:
        tau: None is the default of the blend.
    """

    blend: Blend
    tau: LevelTaus | None

    @classmethod
    def of(cls, options: Options) -> _Way:
        """Raises: ArgumentError."""
        return cls(
            "none" if options.normalise == "published" else "gradient",
            options.number_of("transferring"),
        )

    def taus(self, levels: Sequence[int]) -> dict[int, float]:
        """By level; those that are not named stay as they are."""
        if self.tau is not None:
            return self.tau.by_level(levels)
        if self.blend == "gradient":
            return {min(levels): FINEST_TAU}
        return dict.fromkeys(levels, PLAIN_TAU)

    @property
    def tau_text(self) -> str:
        """The temperature for people."""
        if self.tau is not None:
            return str(self.tau)
        if self.blend == "gradient":
            return f"{FINEST_TAU:g} on the finest level"
        return f"{PLAIN_TAU:g}"

    def __str__(self) -> str:
        if self.blend == "none":
            return (
                "pasted as it is, the LR image stays the target's, and latents are normalised at τ "
                f"{self.tau_text}"
            )
        return f"as srflow-transfer does it, τ {self.tau_text}"


@dataclass(frozen=True)
class _Case:
    """A target, what is put into it, and where.

    Attributes:
        lr: the target's true LR image, None if it is to be reduced.
    """

    target: Pixels
    source: Pixels
    mask: Mask
    lr: Pixels | None

    @classmethod
    def of(cls, files: PictureFiles, picture: Picture) -> _Case:
        """Raises: ImageError for masks without an edge."""
        target = to_pixels(picture.hr)
        height, width = target.shape[:2]
        if files.beside is not None:
            other = Image.fromarray(read_photo(files.beside))
            source = np.asarray(ImageOps.fit(other, (width, height), Image.Resampling.BICUBIC))
        else:
            source = to_pixels(picture.inputs["source"])
        mask = _ellipse(height, width)
        if (drawn := picture.inputs.get("mask")) is not None:
            mask = mask_of(to_pixels(drawn))
            if mask.all() or not mask.any():
                what = "nothing is at least half as bright as white"
                if mask.all():
                    what = "all of the picture is inside"
                raise ImageError(
                    f"{files.inputs['mask']}: {what}: paint white what is to be taken, on black"
                )
        lr = None if files.lr is None else to_pixels(picture.lr)
        return cls(target, source, mask, lr)

    def draw_methods(self, subject: Subject, way: _Way) -> tuple[dict[str, Pixels], bool]:
        """The target, the source's content pasted, and transferred; and whether the last is finite.

        One that is not is black inside the mask.
        """
        pasted = np.where(self.mask[..., None], self.source, self.target)
        try:
            result = self._transfer(subject, way)
            is_finite = True
        except NonFiniteError:
            result = np.where(self.mask[..., None], np.uint8(0), self.target)
            is_finite = False
        return {"target": self.target, "pasted": pasted, "result": result}, is_finite

    def _transfer(self, subject: Subject, way: _Way) -> Pixels:
        if subject.upscaler is None:
            return self._transfer_by_network(subject, way)
        taus = way.taus([entry.level for entry in subject.upscaler.bundle.manifest.latent_levels])
        return subject.upscaler.transfer(
            self.target,
            self.source,
            self.mask,
            self.lr,
            blend=way.blend,
            tau=taus,
        )

    def _transfer_by_network(self, subject: Subject, way: _Way) -> Pixels:
        """Transfer as :meth:`Upscaler.transfer` does, with a checkpoint's network.

        It takes the whole picture. In one that is larger than the mask's surroundings, other random
        numbers normalise the latents.
        """
        before = to_array(to_image(self.target))
        content = to_array(to_image(self.source))
        if way.blend == "gradient":
            content = np.clip(blended(before, content, self.mask), np.float32(0), np.float32(1))
        pasted = to_tensor(np.where(self.mask[..., None], content, before))
        reduce = REDUCTIONS[subject.reduction]
        own = reduce(to_tensor(before), subject.scale).clamp(0, 1)
        lr = own if self.lr is None else to_image(self.lr)
        if way.blend == "gradient":
            of_pasted = reduce(pasted, subject.scale).clamp(0, 1)
            lr = (lr + of_pasted - own).clamp(0, 1)
        flow = subject.both_ways()(lr)
        latents = flow.invert(pasted)
        taus = way.taus(list(latents.levels))
        drawn = flow.decode(latents.normalised(taus, over="local", where=self.mask))
        share = torch.from_numpy(shares(self.mask))
        after = to_tensor(before) + share * (drawn - to_tensor(before))
        result = to_pixels(as_shown(after))
        outside = shares(self.mask) == 0
        result[outside] = self.target[outside]
        return result

    def measure(self, image: Pixels) -> dict[str, float]:
        """The figures of a picture; the target has no content whose detail could be left."""
        measures: dict[str, float | None] = {
            "seam_error": seam_error(image, self.target, self.source, self.mask),
            "seam": seam(image, self.mask),
        }
        if image is not self.target:
            measures["detail"] = detail(image, self.source, self.mask)
            measures["likeness"] = likeness(image, self.source, self.mask)
        return {name: value for name, value in measures.items() if value is not None}

    def cells(self, images: Mapping[str, Pixels], target_caption: str) -> list[Cell]:
        """A row of figure 18: the target, the source with the mask's edge, pasted, transferred.

        Whole pictures up to 256 pixels a side; of larger ones the surroundings of the mask.
        """
        outlined = self.source.copy()
        outlined[grow(self.mask, 1) & ~self.mask] = 255
        cells = [
            (target_caption, self._cut_surroundings(self.target)),
            ("source, and the mask's edge", self._cut_surroundings(outlined)),
        ]
        for name in METHODS[1:]:
            image = images[name]
            error = seam_error(image, self.target, self.source, self.mask)
            cells.append((f"{name}\nseam error {error:.2f}", self._cut_surroundings(image)))
        return cells

    def _cut_surroundings(self, image: Pixels) -> Tensor:
        if max(self.mask.shape) > WHOLE:
            spans = []
            for axis in (1, 0):
                inside = np.flatnonzero(self.mask.any(axis=axis))
                start = max(int(inside[0]) - _MARGIN, 0)
                spans.append(slice(start, int(inside[-1]) + 1 + _MARGIN))
            image = image[spans[0], spans[1]]
        part = to_image(image)
        factor = WHOLE / max(part.shape[2:])
        if factor < 1:
            part = F.interpolate(
                part,
                scale_factor=factor,
                mode="bicubic",
                antialias=True,
                align_corners=False,
            )
        return part


def _ellipse(height: int, width: int) -> Mask:
    """In the middle; its half axes are a fifth of the sides."""
    rows, columns = np.mgrid[:height, :width]
    down = (rows + 0.5 - height / 2) / (_AXIS * height)
    right = (columns + 0.5 - width / 2) / (_AXIS * width)
    inside: Mask = down**2 + right**2 < 1
    return inside


def seam_error(picture: Pixels, target: Pixels, source: Pixels, mask: Mask) -> float:
    """Gradient error across the mask's edge, in 8-bit levels, 0 for the target and for the source.

    The mean of how far each step across it lies outside of those that target and source have at
    that place.
    """
    errors = []
    for axis in (0, 1):
        across = np.diff(mask, axis=axis)
        steps, one, other = (
            np.diff(image.astype(np.float64), axis=axis)[across]
            for image in (picture, target, source)
        )
        below = np.minimum(one, other) - steps
        above = steps - np.maximum(one, other)
        outside = np.maximum(below, above)
        errors.append(np.maximum(outside, 0).ravel())
    return float(np.concatenate(errors).mean())


def seam(picture: Pixels, mask: Mask) -> float | None:
    """How much larger steps across the mask's edge are than those up to 3 pixels from it.

    1 is no seam; None if nothing differs there.
    """
    near = grow(mask, _NEAR) & grow(~mask, _NEAR)
    across = _mean_step(picture, near, across=True, mask=mask)
    beside = _mean_step(picture, near, across=False, mask=mask)
    if across is None or not beside:
        return None
    return across / beside


def detail(picture: Pixels, source: Pixels, mask: Mask) -> float | None:
    """How much of the source's steps is left inside the mask, more than 3 pixels from its edge.

    None if it has none.
    """
    inside = ~grow(~mask, _NEAR)
    left = _mean_step(picture, inside, across=False, mask=mask)
    whole = _mean_step(source, inside, across=False, mask=mask)
    if left is None or not whole:
        return None
    return left / whole


def likeness(picture: Pixels, source: Pixels, mask: Mask) -> float | None:
    """Correlation of the steps inside the mask with the source's, more than 3 pixels from its edge.

    1 is its content. Brightness and colour do not count. None if either has no steps.
    """
    inside = ~grow(~mask, _NEAR)
    own, theirs = (_steps_inside(image, inside) for image in (picture, source))
    size = np.sqrt((own @ own) * (theirs @ theirs))
    return float(own @ theirs / size) if size else None


def _steps_inside(image: Pixels, inside: Mask) -> NDArray[np.float64]:
    """The differences of neighbours that both lie inside."""
    steps = []
    for axis in (0, 1):
        both = np.delete(inside, -1, axis) & np.delete(inside, 0, axis)
        differences = np.diff(image.astype(np.float64), axis=axis)
        steps.append(differences[both].ravel())
    return np.concatenate(steps)


def grow(mask: Mask, steps: int) -> Mask:
    """Make a mask wider by some pixels."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        rows = padded[:-2, 1:-1] | padded[2:, 1:-1]
        columns = padded[1:-1, :-2] | padded[1:-1, 2:]
        mask = mask | rows | columns
    return mask


def _mean_step(picture: Pixels, near: Mask, *, across: bool, mask: Mask) -> float | None:
    """Mean size of the steps between two pixels `near`, beside the mask's edge or across it."""
    sizes = []
    values = picture.astype(np.float64)
    for axis in (0, 1):
        crosses = np.delete(mask, -1, axis) != np.delete(mask, 0, axis)
        both = np.delete(near, -1, axis) & np.delete(near, 0, axis)
        lengths = np.abs(np.diff(values, axis=axis)).mean(axis=2)
        sizes.append(lengths[both & (crosses == across)])
    steps = np.concatenate(sizes)
    return float(steps.mean()) if steps.size else None
