"""The protocol `report`: figures by crop, printed or as a page.

With a folder, each protocol that applies, and all of it as one page.

The page is one HTML file with tables, plots, and crops to compare. It needs no network.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from srflow_evaluation.bench import Bench, check_output_folder, open_bench
from srflow_evaluation.crops import (
    BICUBIC,
    PHOTOGRAPH,
    ShownCrop,
    explain_too_small,
    large_enough,
    measure_crops,
    shown_method,
)
from srflow_evaluation.metrics import METRICS
from srflow_evaluation.models import Subject, open_subject
from srflow_evaluation.options import Options
from srflow_evaluation.output import Table
from srflow_evaluation.pictures import Cut, PictureFiles
from srflow_evaluation.protocols import PROTOCOLS, Protocol
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, BundleError, SRFlowError
from srflow_sdk.system.local_files import write_atomically
from srflow_training.data import image_files

PAGE = "report.html"

_CAPTIONS = {
    "tau_sweep": "Each metric, and how much samples differ, over the temperature τ",
    "perception_distortion": "Each temperature as a point: closeness to the photograph, and "
    "naturalness",
    "best_of_n": "The best of the first n samples by each metric",
    "sheet": "A detail of a photograph, or what was made of one, side by side",
}
"""Captions of plots by their names, and of all sheets."""

_CROPS = (
    "How close each method comes to the photographs, and how the samples differ. Look for a model "
    "whose figures beat those of bicubic, and for an LR-PSNR above 45 dB: its pictures then agree "
    "with their inputs. PSNR falls as the temperature τ rises; that is the price of texture. Move "
    "the sliders to judge with your own eyes."
)

_HIGHER, _LOWER = (
    ", ".join(metric.title.removesuffix(", dB") for metric in METRICS if metric.better == better)
    for better in ("higher", "lower")
)

_WORDS = (
    "SRFlow draws samples: each is a sharp picture that the small one may have come from. The seed "
    "is the number that a sample is drawn from: the same seed gives the same sample. The "
    "temperature, τ (tau), says how much samples differ: at 0 there is one, smooth and closest to "
    "the photograph on average. Diversity measures how much they do: the deviation of each value "
    "among the samples of a picture, averaged, of 255 levels. Bicubic is ordinary enlarging. LR is "
    "the small picture, HR the photograph that it was made from.",
    f"{_HIGHER} are higher the closer a picture is to the photograph; {_LOWER} are lower. LPIPS "
    "comes closest to what people see as alike. Y-PSNR is PSNR of brightness alone. LR-PSNR says "
    "how well a picture reduces to its input again. The figures whose numbers are given are those "
    "of the publication's supplement (Lugmayr et al., ECCV 2020).",
)


def report(options: Options) -> str:
    """Return the table of crops.

    With a folder, measure all that applies into it, and write report.html beside it.

    What was measured before, also by a protocol's own command, is not measured again. taus: of the
    crops; protocols have their own. A protocol that raises an SRFlowError is named on the page with
    the reason.

    Raises:
        SRFlowError: for what concerns the whole report, and, after the page is written, for what is
            not in it.
    """
    if options.output is None:
        return _make_crops_table(options)
    if options.out.suffix in (".html", ".json"):
        raise ArgumentError(
            f"-o {options.out}: report writes a folder with report.html in it: name a folder"
        )
    check_output_folder(options)
    bench = open_bench(options)
    names = [name for name in _in_report() if name in options.only]
    left_out = ""
    if not names:
        unsuitable = _find_unsuitable(bench.subject, bench.pictures)
        names = [name for name in _in_report() if name not in unsuitable]
        reasons = dict.fromkeys(unsuitable.values())
        left_out = "; ".join(f"{_join_keys(unsuitable, reason)}: {reason}" for reason in reasons)
    if left_out:
        options.progress(f"left out: {left_out}")

    def progress_of(name: str, number: int) -> Callable[[str], None]:
        return lambda line: options.progress(f"{name} ({number} of {len(names) + 1}): {line}")

    crops, counts = _measure_crops(replace(options, progress=progress_of("crops", 1)), bench)
    sections = [crops]
    for number, name in enumerate(names, start=2):
        given = replace(options, taus=(), progress=progress_of(name, number))
        sections.append(_run(name, PROTOCOLS[name], given))
    facts = _list_facts(options, bench, counts, left_out)
    page = options.out / PAGE
    write_atomically(page, _render(bench.subject, facts, sections))
    printed = "" if crops.table is None else f"{crops.table}\n\n"
    printed += f"{page}: {page.stat().st_size / 1e6:.1f} MB; open it in a browser"
    failed = [f"{part.name}: {part.problem}" for part in sections[1:] if part.problem]
    if failed:
        options.say(printed)
        raise ArgumentError(
            f"{page} is written without {'; '.join(failed)}. Choose the others with --only"
        )
    return printed


def _in_report() -> list[str]:
    """The protocols that a report runs."""
    return [name for name, protocol in PROTOCOLS.items() if protocol.in_report]


def _measure_crops(options: Options, bench: Bench) -> tuple[Section, str]:
    """The section of crops, and how many there are, in words."""
    cut = bench.cut
    if not large_enough(bench.pictures, cut):
        problem = explain_too_small(cut)
        options.progress(f"not measured: {problem}")
        section = Section(name="crops", problem=problem)
        return section, "none, because no photograph is large enough"
    crops = measure_crops(
        bench.subject,
        bench.pictures,
        cut,
        options,
        out=options.out,
        settings=bench.settings,
    )
    shown = [_embed_crop(crop) for crop in crops.shown]
    counts = (
        f"{crops.count}, from {len(crops.names)} photographs, of which {len(crops.shown)} have "
        "one to compare"
    )
    return Section(name="crops", reading=_CROPS, table=crops.table, crops=shown), counts


def _list_facts(options: Options, bench: Bench, counts: str, left_out: str) -> dict[str, str]:
    """What was measured, by name, for the top of the page."""
    subject = bench.subject
    names = [files.name for files in bench.pictures]
    listed = ", ".join(names[:12])
    if len(names) > 12:
        listed += f" and {len(names) - 12} more"
    centre = ""
    if options.centre:
        centre = f", the centre of each, at most {options.centre} pixels a side"
    lr = f"{subject.reduction} reduction, 8 bits"
    if options.lr:
        lr = f"from {options.lr} (crops: reduced)"
    facts = {
        "model": subject.name,
        "sha256": subject.sha256,
        "scale": f"×{subject.scale}",
        "photographs": f"{len(names)} from {options.hr}{centre}: {listed}",
        "crops": counts,
        "left out": left_out,
        "LR images": lr,
        "convention": f"{options.convention}; each section states it in full",
        "version": f"srflow-sdk {__version__}",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _make_crops_table(options: Options) -> str:
    """The table of crops of all photographs that are large enough, without its notes."""
    subject = open_subject(options.model, device=options.device)
    for tau in options.taus:
        subject.check(tau)
    cut = Cut(scale=subject.scale, multiple=subject.scale * subject.multiple)
    pictures = [PictureFiles(name=str(path), hr=path) for path in image_files(options.hr)]
    with tempfile.TemporaryDirectory() as folder:
        crops = measure_crops(
            subject,
            pictures,
            cut,
            options,
            out=Path(folder),
            settings={},
            most_shown=0,
        )
    for note in crops.table.notes[1:]:
        options.progress(note)
    return str(replace(crops.table, notes=()))


def _find_unsuitable(subject: Subject, pictures: Sequence[PictureFiles]) -> dict[str, str]:
    """The protocols that these photographs or this model cannot have, each with the reason."""
    inverts = ""
    try:
        subject.both_ways()
    except BundleError as error:
        inverts = str(error)
    reasons = {}
    for name in _in_report():
        if PROTOCOLS[name].inverts and inverts:
            reasons[name] = inverts
        elif PROTOCOLS[name].pairs and len(pictures) == 1:
            reasons[name] = "it takes content from the next photograph, and there is only one"
    return reasons


def _join_keys(reasons: Mapping[str, str], reason: str) -> str:
    return ", ".join(name for name, why in reasons.items() if why == reason)


def _run(name: str, protocol: Protocol, options: Options) -> Section:
    """Run a protocol in its folder."""
    folder = options.out / name
    try:
        table = protocol.run(
            protocol.without_others(replace(options, protocol=name, output=folder))
        )
    except SRFlowError as error:
        options.progress(f"not measured: {error}")
        return Section(name=name, about=protocol.about, problem=str(error))
    # plots first
    files = sorted(
        folder.glob("*.png"), key=lambda path: (path.stem.startswith("sheet"), path.name)
    )
    return Section(
        name=name,
        about=protocol.about,
        reading=protocol.reading,
        table=table,
        figures=[_embed(path, path.stem.replace("_", " "), _caption(path)) for path in files],
    )


def _caption(path: Path) -> str:
    """A sentence on a plot or sheet, with the name of its file."""
    return f"{_CAPTIONS['sheet' if path.stem.startswith('sheet') else path.stem]} ({path.name})."


_USUAL = ("tau auto", "tau 0.8")
"""The temperatures that are seen first, where they were measured."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """An image inside the page.

    Attributes:
        source: a data: URI.
        width, height: pixels.
    """

    name: str
    source: str
    width: int
    height: int
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A crop by several methods.

    Attributes:
        before, after: the images for each side of the slider.
        first: of `after`, the one that is seen first.
        labels: by image name.
    """

    picture: str
    before: list[Embedded]
    after: list[Embedded]
    first: Embedded
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
        about: what it measures.
        reading: what to look for.
        problem: why it was not measured.
    """

    name: str
    about: str = ""
    reading: str = ""
    table: Table | None = None
    figures: Sequence[Embedded] = ()
    crops: Sequence[Comparison] = ()
    problem: str = ""


def _render(subject: Subject, facts: Mapping[str, str], sections: Sequence[Section]) -> bytes:
    """The page in UTF-8. Every text is escaped. facts: by name, what was measured, for its top."""
    environment = Environment(
        loader=PackageLoader("srflow_evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        title=f"{subject.name}, ×{subject.scale}",
        facts=facts,
        words=_WORDS,
        sections=sections,
    )
    return page.encode()


def _embed_crop(crop: ShownCrop) -> Comparison:
    images = {method: _embed(path, shown_method(method)) for method, path in crop.images.items()}
    after = [image for method, image in images.items() if method not in (BICUBIC, PHOTOGRAPH)]
    usual = [images[method] for method in _USUAL if method in images]
    return Comparison(
        picture=crop.picture,
        before=[images[BICUBIC], images[PHOTOGRAPH]],
        after=after,
        first=[*usual, *after][0],
        labels={
            PHOTOGRAPH: f"{PHOTOGRAPH} (the truth)",
            **{
                shown_method(method): f"{shown_method(method)}, {psnr:.2f} dB"
                for method, psnr in crop.psnr.items()
            },
        },
    )


def _embed(path: Path, name: str, caption: str = "") -> Embedded:
    """Read a PNG; lossless WebP takes its place where that is smaller."""
    kind = "png"
    content = path.read_bytes()
    smaller = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        image.convert("RGB").save(smaller, format="WEBP", lossless=True, method=4)
    if smaller.tell() < len(content):
        kind = "webp"
        content = smaller.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Embedded(name=name, source=source, width=width, height=height, caption=caption)
