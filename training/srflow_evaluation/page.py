"""The protocol `report`: figures by crop; with a folder, each protocol that applies, and all of it as one page.

The page is one HTML file with tables, plots, and crops to compare. It needs no network.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from srflow_evaluation.bench import check_out, open_bench, open_networks
from srflow_evaluation.crops import (
    BICUBIC,
    PHOTOGRAPH,
    Crops,
    ShownCrop,
    large_enough,
    measure_crops,
    shown_method,
    too_small,
)
from srflow_evaluation.models import Subject, open_subject
from srflow_evaluation.options import Options
from srflow_evaluation.output import Table
from srflow_evaluation.pictures import Cut, PictureFiles, picture_files
from srflow_evaluation.protocols import PROTOCOLS, Protocol
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, BundleError, SRFlowError
from srflow_sdk.system.local_files import write_atomically
from srflow_training.data import image_files

PAGE = "report.html"

_PLOTS = {
    "tau_sweep": "Each metric, and how much samples differ, over the temperature τ",
    "perception_distortion": "Each temperature as a point: closeness to the photograph, and naturalness",
    "best_of_n": "The best of the first n samples by each metric",
    "latents": "Quantiles of each photograph's latents over those of a standard normal distribution (dashed), by level",
    "calibration": "Error over the samples' deviation, coverage of central intervals, and the photograph's rank among "
    "the samples; dashed is a calibrated model",
}

_SHEETS = {
    "tau-sweep": "A detail of a photograph at each temperature",
    "best-of-n": "A detail of a photograph: its best samples",
    "restore": "A detail of a photograph: degraded, super-resolved and restored",
    "transfer": "Content of one picture put into another",
    "samples": "A detail of a photograph: samples of it, and the map of their deviation",
    "ntire21": "A detail of a photograph: samples of it",
    "diagnose": "The inputs that are no photographs, made of one",
}

_CROPS = (
    "How close each method comes to the photographs, and how the samples differ. Look for a model whose figures beat "
    "those of bicubic, and for an LR-PSNR above 45 dB: its pictures then agree with their inputs. PSNR falls as the "
    "temperature τ rises; that is the price of texture. Move the sliders to judge with your own eyes."
)

_WORDS = (
    "SRFlow draws samples: each is a sharp picture that the small one may have come from. The seed is the number that "
    "a sample is drawn from: the same seed gives the same sample. The temperature, τ (tau), says how much samples "
    "differ: at 0 there is one, smooth and closest to the photograph on average. Diversity measures how much they do: "
    "the deviation of each value among the samples of a picture, averaged, of 255 levels. Bicubic is ordinary "
    "enlarging. LR is the small picture, HR the photograph that it was made from.",
    "PSNR, SSIM, MS-SSIM and HaarPSI are higher the closer a picture is to the photograph; LPIPS, GMSD and FLIP "
    "are lower. LPIPS comes closest to what people see as alike. Y-PSNR is PSNR of brightness "
    "alone. LR-PSNR says how well a picture reduces to its input again."
    "The figures whose numbers are given are those of the publication's "
    "supplement (Lugmayr et al., ECCV 2020).",
)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """All that is open before anything is measured."""

    subject: Subject
    cut: Cut
    pictures: Sequence[PictureFiles]
    settings: Mapping[str, Any]
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    left_out: str = ""


def report(options: Options) -> str:
    """Return the table of crops. With a folder, measure all that applies into it, and write report.html beside it.

    What was measured before, also by a protocol's own command, is not measured again. taus: of the crops; protocols
    have their own. A protocol that raises an SRFlowError is named on the page with the reason.
    Raises: SRFlowError for what concerns the whole report, and, after the page is written, for what is not in it.
    """
    if options.output is None:
        return _printed(options)
    if options.out.suffix in (".html", ".json"):
        raise ArgumentError(f"-o {options.out}: report writes a folder with report.html in it: name a folder")
    measured = _opened(options)
    if measured.left_out:
        options.progress(f"left out: {measured.left_out}")
    steps = len(measured.protocols) + 1
    crops = _crops(measured, replace(options, progress=_counted(options.progress, "crops", 1, steps)))
    sections, shown = [], set[Path]()
    for number, (name, protocol) in enumerate(measured.protocols.items(), start=2):
        progress = _counted(options.progress, name, number, steps)
        sections.append(_run(name, protocol, replace(options, taus=(), progress=progress), shown))
    if crops is None:
        first = Section(name="crops", problem=too_small(measured.cut))
    else:
        first = Section(name="crops", reading=_CROPS, table=crops.table, crops=comparisons(crops.shown))
    title, written = f"{measured.subject.name}, ×{measured.subject.scale}", options.out / PAGE
    write_atomically(written, render(title, _facts(measured, options, crops), _WORDS, [first, *sections]))
    printed = "" if crops is None else f"{crops.table}\n\n"
    printed += f"{written}: {written.stat().st_size / 1e6:.1f} MB; open it in a browser"
    failed = "; ".join(f"{section.name}: {section.problem}" for section in sections if section.problem)
    if failed:
        options.say(printed)
        raise ArgumentError(f"{written} is written without {failed}. Choose the others with --only")
    return printed


def _printed(options: Options) -> str:
    """The table of crops of all photographs that are large enough, without its notes."""
    subject = open_subject(options.model, device=options.device)
    for tau in options.taus:
        subject.check(tau)
    cut = Cut(scale=subject.scale, multiple=subject.scale * subject.multiple)
    pictures = [PictureFiles(name=str(path), hr=path) for path in image_files(options.hr)]
    with tempfile.TemporaryDirectory() as folder:
        found = measure_crops(subject, pictures, cut, options, out=Path(folder), settings={}, most_shown=0)
    for note in found.table.notes[1:]:
        options.progress(note)
    return str(replace(found.table, notes=()))


def _crops(measured: _Measured, options: Options) -> Crops | None:
    """Measure the crops; None if no photograph holds one. Raises: ImageError if the page would then be empty."""
    if measured.protocols and not large_enough(measured.pictures, measured.cut):
        options.progress(f"not measured: {too_small(measured.cut)}")
        return None
    subject, pictures, cut = measured.subject, measured.pictures, measured.cut
    return measure_crops(subject, pictures, cut, options, out=options.out, settings=measured.settings)


def _not_applying(subject: Subject, pictures: Sequence[PictureFiles]) -> dict[str, list[str]]:
    """The protocols that these photographs or this model cannot have, by the reason."""
    reasons: dict[str, list[str]] = {}
    try:
        subject.both_ways()
    except BundleError as error:
        reasons[str(error)] = [name for name, protocol in PROTOCOLS.items() if protocol.in_report and protocol.inverts]
    if len(pictures) == 1:
        alone = [name for name, protocol in PROTOCOLS.items() if protocol.in_report and protocol.pairs]
        named = {name for names in reasons.values() for name in names}
        reasons["it takes content from the next photograph, and there is only one"] = [
            name for name in alone if name not in named
        ]
    return {reason: names for reason, names in reasons.items() if names}


def _opened(options: Options) -> _Measured:
    check_out(options)
    subject = open_subject(options.model, device=options.device)
    for tau in options.taus:
        subject.check(tau)
    if subject.flow is not None:
        bench = open_bench(options)
        without = {} if options.only else _not_applying(subject, bench.pictures)
        skipped = {name for names in without.values() for name in names}
        return _Measured(
            subject=subject,
            cut=bench.cut,
            pictures=bench.pictures,
            settings=bench.settings,
            protocols={
                name: protocol
                for name, protocol in PROTOCOLS.items()
                if protocol.in_report and (name in options.only if options.only else name not in skipped)
            },
            left_out="; ".join(f"{', '.join(names)}: {reason}" for reason, names in without.items()),
        )
    of_protocols = {
        "--only": options.only,
        "--reference": options.references,
        "--other": options.others or options.tools,
        "--lr": options.lr,
        "--convention": options.convention != "default",
    }
    if unused := [flag for flag, value in of_protocols.items() if value]:
        raise ArgumentError(
            f"{subject.name} is an RRDB, which has one answer and no temperature, so that its report has only crops: "
            f"leave out {', '.join(unused)}"
        )
    cut = Cut(scale=subject.scale, multiple=subject.scale * subject.multiple, centre=options.centre)
    settings = {
        "version": __version__,
        "model": subject.sha256,
        "crop": options.centre,
        "device": options.device,
        "metrics": list(options.metrics),
        **open_networks(options, subject.scale, subject.reduction)[1],
    }
    pictures = picture_files(options.hr, cut=cut, most=options.most)
    return _Measured(subject=subject, cut=cut, pictures=pictures, settings=settings)


def _run(name: str, protocol: Protocol, options: Options, shown: set[Path]) -> Section:
    """Run a protocol in its folder. shown: files that are on the page, which grows."""
    folder = options.out / (protocol.folder or name)
    try:
        found = protocol.run(protocol.without_others(replace(options, protocol=name, output=folder)))
    except SRFlowError as error:
        options.progress(f"not measured: {error}")
        return Section(name=name, about=protocol.about, problem=str(error))
    others = {f"{other.replace('-', '_')}.png" for other in PROTOCOLS if other != name}
    files = [path for path in sorted(folder.glob("*.png")) if path.name not in others and path not in shown]
    shown.update(files)
    files.sort(key=lambda path: path.stem != name.replace("-", "_"))  # the plot first
    return Section(
        name=name,
        about=protocol.about,
        reading=protocol.reading,
        table=found,
        figures=embedded({path: _caption_of(name, path) for path in files}),
    )


def _caption_of(protocol: str, path: Path) -> str:
    """A sentence on a plot or sheet of a protocol, with the name of its file; of others the name alone."""
    is_sheet = path.stem == "sheet" or path.stem.startswith("sheet_")
    text = _SHEETS.get(protocol, "") if is_sheet else _PLOTS.get(path.stem, "")
    return f"{text} ({path.name})." if text else f"{path.name}."


def _counted(progress: Callable[[str], None], name: str, number: int, steps: int) -> Callable[[str], None]:
    return lambda line: progress(f"{name} ({number} of {steps}): {line}")


def _facts(measured: _Measured, options: Options, crops: Crops | None) -> dict[str, str]:
    """Say what was measured, and with what, at the top of the page."""
    names = [files.name for files in measured.pictures]
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    cut = f", the centre of each, at most {options.centre} pixels a side" if options.centre else ""
    reduced = f"{measured.subject.reduction} reduction, 8 bits"
    return {
        "model": measured.subject.name,
        "sha256": measured.subject.sha256,
        "scale": f"×{measured.subject.scale}",
        "photographs": f"{len(names)} from {options.hr}{cut}: {listed}",
        "crops": _counted_crops(crops),
        **({"left out": measured.left_out} if measured.left_out else {}),
        "LR images": f"from {options.lr} (crops: reduced)" if options.lr else reduced,
        "convention": f"{options.convention}; each section states it in full",
        "version": f"srflow-sdk {__version__}",
    }


def _counted_crops(crops: Crops | None) -> str:
    if crops is None:
        return "none, because no photograph is large enough"
    of = f"{len(crops.names)} photographs" if len(crops.names) > 1 else "a photograph"
    shown = f"; {len(crops.shown)} photographs have crops to compare" if len(crops.shown) < len(crops.names) else ""
    return f"{crops.count} {'crop' if crops.count == 1 else 'crops'} of {of}{shown}"


_USUAL = ("tau auto", "tau 0.8")
"""The temperatures that are seen first, where they were measured."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """An image inside the page. source: a data: URI. width, height: pixels. stem: its file's name without `.png`."""

    name: str
    stem: str
    source: str
    width: int
    height: int
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A crop by several methods.

    before, after: the images for each side of the slider. first: of `after`, the one that is seen first. labels: by
    image name.
    """

    picture: str
    before: list[Embedded]
    after: list[Embedded]
    first: Embedded
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page. about: what it measures. reading: what to look for. problem: why it was not measured."""

    name: str
    about: str = ""
    reading: str = ""
    table: Table | None = None
    figures: Sequence[Embedded] = ()
    crops: Sequence[Comparison] = field(default=())
    problem: str = ""

    def figures_of(self, table: Table) -> list[Embedded]:
        """The plots that draw this part of the table."""
        return [figure for figure in self.figures if figure.stem == table.figure]

    @property
    def other_figures(self) -> list[Embedded]:
        """The figures that belong to no part of the table alone."""
        drawn = [] if self.table is None else [part.figure for part in self.table.parts]
        return [figure for figure in self.figures if figure.stem not in drawn]


def embedded(captions: Mapping[Path, str]) -> list[Embedded]:
    """Embed plots and sheets, named by their files. captions: by file, in the page's order. Raises: OSError."""
    return [_embed(path, path.stem.replace("_", " "), caption) for path, caption in captions.items()]


def comparisons(crops: Sequence[ShownCrop]) -> list[Comparison]:
    """Embed crops. Raises: OSError."""
    return [_comparison(crop) for crop in crops]


def render(title: str, facts: Mapping[str, str], words: Sequence[str], sections: Sequence[Section]) -> bytes:
    """The page in UTF-8. Every text is escaped. facts: by name, what was measured. words: what the reader must know."""
    environment = Environment(
        loader=PackageLoader("srflow_evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values = {"title": title, "facts": facts, "words": words, "sections": sections}
    return environment.get_template("page.html").render(**values).encode()


def _data_uri(png: bytes) -> str:
    """A PNG as a data: URI; lossless WebP takes its place where that is smaller."""
    kind, content, smaller = "png", png, io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(smaller, format="WEBP", lossless=True, method=4)
    if smaller.tell() < len(png):
        kind, content = "webp", smaller.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _comparison(crop: ShownCrop) -> Comparison:
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
            **{shown_method(method): f"{shown_method(method)}, {psnr:.2f} dB" for method, psnr in crop.psnr.items()},
        },
    )


def _embed(path: Path, name: str, caption: str = "") -> Embedded:
    """Read a PNG."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return Embedded(name=name, stem=path.stem, source=_data_uri(content), width=width, height=height, caption=caption)
