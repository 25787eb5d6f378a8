"""The protocol `report` with a folder: figures by crop, each protocol that applies, and all of it as one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from srflow_evaluation import page
from srflow_evaluation.bench import check_out, network_digests, open_bench
from srflow_evaluation.crop_folder import MOST_SHOWN, CropFigures, large_enough, measure_crops, too_small
from srflow_evaluation.crop_report import DEFAULT_TAUS, Networks, table
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Cut, PictureFiles, picture_files
from srflow_evaluation.protocols import PROTOCOLS, Protocol
from srflow_evaluation.subjects import Subject, open_subject
from srflow_evaluation.tables import Table
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, BundleError, SRFlowError
from srflow_sdk.system.local_files import write_atomically

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
    "PSNR, SSIM, MS-SSIM and HaarPSI are higher the closer a picture is to the photograph; LPIPS, GMSD, FLIP and the "
    "VGG16 feature distance are lower. LPIPS comes closest to what people see as alike. Y-PSNR is PSNR of brightness "
    "alone. LR-PSNR says how well a picture reduces to its input again."
    "The figures whose numbers are given are those of the publication's "
    "supplement (Lugmayr et al., ECCV 2020).",
)


@dataclass(frozen=True, kw_only=True)
class FullReport:
    """A report that was written.

    table: figures over crops; None if no photograph holds a crop. page: the HTML file. failed: why a protocol is not in
    it, by its name; those that do not apply to this model and these photographs are not among them.
    """

    table: Table | None
    page: Path
    failed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """All that is open before anything is measured."""

    subject: Subject
    cut: Cut
    pictures: Sequence[PictureFiles]
    settings: Mapping[str, Any]
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    left_out: str = ""


def full_report(options: Options, only: Sequence[str] = ()) -> FullReport:
    """Measure crops and run the protocols into folders of `options.out`; write report.html beside them.

    What was measured before, also by a protocol's own command, is not measured again. taus: of the crops; protocols
    have their own. only: names of the protocols to run; all that apply if empty. A protocol that raises an SRFlowError
    is named on the page with the reason. Raises: SRFlowError for what concerns the whole report, OSError.
    """
    measured = _opened(options, only)
    if measured.left_out:
        options.progress(f"left out: {measured.left_out}")
    steps = len(measured.protocols) + 1
    crops = _crops(measured, options, _counted(options.progress, "crops", 1, steps))
    sections, shown = [], set[Path]()
    for number, (name, protocol) in enumerate(measured.protocols.items(), start=2):
        progress = _counted(options.progress, name, number, steps)
        section = _run(name, protocol, replace(options, taus=(), progress=progress), shown)
        sections.append(section)
    if crops is None:
        figures, first = None, page.Section(name="crops", problem=too_small(measured.cut))
    else:
        figures = table(crops.rows, crops.notes)
        first = page.Section(name="crops", reading=_CROPS, table=figures, crops=page.comparisons(crops.shown))
    written = options.out / PAGE
    title = f"{measured.subject.name}, ×{measured.subject.scale}"
    content = page.render(title, _facts(measured, options, crops), _WORDS, [first, *sections])
    write_atomically(written, content)
    failed = {section.name: section.problem for section in sections if section.problem}
    return FullReport(table=figures, page=written, failed=failed)


def _crops(measured: _Measured, options: Options, progress: Callable[[str], None]) -> CropFigures | None:
    """Measure the crops; None if no photograph holds one. Raises: ImageError if the page would then be empty."""
    if measured.protocols and not large_enough(measured.pictures, measured.cut):
        progress(f"not measured: {too_small(measured.cut)}")
        return None
    return measure_crops(
        measured.subject,
        measured.pictures,
        measured.cut,
        options.taus or DEFAULT_TAUS,
        networks=Networks.open(options.vgg16, options.device),
        metrics=options.metrics,
        out=options.out,
        settings=measured.settings,
        progress=progress,
    )


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


def _opened(options: Options, only: Sequence[str]) -> _Measured:
    check_out(options)
    subject = open_subject(options.model, device=options.device)
    for tau in options.taus:
        subject.check(tau)
    if subject.condition is not None:
        bench = open_bench(options)
        without = {} if only else _not_applying(subject, bench.pictures)
        skipped = {name for names in without.values() for name in names}
        names = [
            name
            for name, protocol in PROTOCOLS.items()
            if protocol.in_report and (name in only if only else name not in skipped)
        ]
        return _Measured(
            subject=subject,
            cut=bench.cut,
            pictures=bench.pictures,
            settings=bench.settings,
            protocols={name: PROTOCOLS[name] for name in names},
            left_out="; ".join(f"{', '.join(names)}: {reason}" for reason, names in without.items()),
        )
    of_protocols = {
        "--only": only,
        "--reference": options.references,
        "--other": options.others or options.tools,
        "--lr": options.lr,
        "--convention": options.convention != "default",
    }
    unused = [flag for flag, value in of_protocols.items() if value]
    if unused:
        raise ArgumentError(
            f"{subject.name} is an RRDB, which has one answer and no temperature, so that its report has only crops: "
            f"leave out {', '.join(unused)}"
        )
    cut = Cut(scale=subject.scale, multiple=subject.scale * subject.multiple, centre=options.centre)
    pictures = picture_files(options.hr, lr=None, others={}, cut=cut, most=options.most)
    settings = {
        "version": __version__,
        "model": subject.sha256,
        "crop": options.centre,
        "device": options.device,
        "metrics": list(options.metrics),
        **network_digests(options),
    }
    return _Measured(subject=subject, cut=cut, pictures=pictures, settings=settings)


def _run(name: str, protocol: Protocol, options: Options, shown: set[Path]) -> page.Section:
    """Run a protocol in its folder. shown: files that are on the page, which grows."""
    folder = options.out / (protocol.folder or name)
    try:
        found = protocol.run(protocol.without_others(replace(options, out=folder)))
    except SRFlowError as error:
        options.progress(f"not measured: {error}")
        return page.Section(name=name, about=protocol.about, problem=str(error))
    others = {f"{other.replace('-', '_')}.png" for other in PROTOCOLS if other != name}
    files = [path for path in sorted(folder.glob("*.png")) if path.name not in others and path not in shown]
    shown.update(files)
    files.sort(key=lambda path: path.stem != name.replace("-", "_"))  # the plot first
    return page.Section(
        name=name,
        about=protocol.about,
        reading=protocol.reading,
        table=found,
        figures=page.figures({path: _caption_of(name, path) for path in files}),
    )


def _caption_of(protocol: str, path: Path) -> str:
    """A sentence on a plot or sheet of a protocol, with the name of its file; of others the name alone."""
    is_sheet = path.stem == "sheet" or path.stem.startswith("sheet_")
    text = _SHEETS.get(protocol, "") if is_sheet else _PLOTS.get(path.stem, "")
    return f"{text} ({path.name})." if text else f"{path.name}."


def _counted(progress: Callable[[str], None], name: str, number: int, steps: int) -> Callable[[str], None]:
    return lambda line: progress(f"{name} ({number} of {steps}): {line}")


def _facts(measured: _Measured, options: Options, crops: CropFigures | None) -> dict[str, str]:
    """Say what was measured, and with what, at the top of the page."""
    names = [files.name for files in measured.pictures]
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    cut = f", the centre of each, at most {options.centre} pixels a side" if options.centre else ""
    left_out = {"left out": measured.left_out} if measured.left_out else {}
    return {
        "model": measured.subject.name,
        "sha256": measured.subject.sha256,
        "scale": f"×{measured.subject.scale}",
        "photographs": f"{len(names)} from {options.hr}{cut}: {listed}",
        "crops": _counted_crops(crops),
        **left_out,
        "LR images": f"from {options.lr} (crops: reduced)"
        if options.lr
        else f"{measured.subject.reduction} reduction, 8 bits",
        "convention": f"{options.convention}; each section states it in full",
        "version": f"srflow-sdk {__version__}",
    }


def _counted_crops(crops: CropFigures | None) -> str:
    if crops is None:
        return "none, because no photograph is large enough"
    of = f"{len(crops.names)} photographs" if len(crops.names) > 1 else "a photograph"
    shown = f"; {MOST_SHOWN} photographs have crops to compare" if len(crops.shown) < len(crops.names) else ""
    return f"{crops.crops} {'crop' if crops.crops == 1 else 'crops'} of {of}{shown}"
