"""The tasks of srflow-eval: each takes the options of its command, and returns the text to print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from srflow_evaluation.protocols import PROTOCOLS
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.raising import require_extra

if TYPE_CHECKING:
    from srflow_evaluation.options import Options


def measure_pictures(protocol: str, **given: Any) -> str:
    """Run a protocol on whole pictures; return its table and the names of the files. Raises: SRFlowError."""
    from srflow_evaluation.results import ShardMeasuredError

    options = _options(protocol, **given)
    try:
        table = PROTOCOLS[protocol].run(options)
    except ShardMeasuredError as measured:
        return str(measured)
    written = sorted(path.name for path in options.out.iterdir() if path.suffix != ".part")
    return f"{table}\n\nin {options.out}: {', '.join(written)}"


def report_folder(*, only: Sequence[str], **given: Any) -> str:
    """Make the report's folder. Raises: SRFlowError, ArgumentError also after it is written, for what is not in it."""
    from srflow_evaluation.full_report import full_report

    options = _options("report", **given)
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


def report_crops(
    *,
    models: Sequence[str],
    hr: Path,
    taus: Sequence[str],
    vgg16: Path | None,
    metrics: str | None,
    device: str | None,
) -> str:
    """Return the table of bicubic and a model on 256×256 crops. Raises: SRFlowError."""
    import srflow_evaluation as evaluation
    from srflow_evaluation.convention import parse_metrics

    rows = evaluation.report(
        _only_model("report", models),
        hr,
        [evaluation.LevelTaus.parse(tau) for tau in taus] or evaluation.DEFAULT_TAUS,
        vgg16=vgg16,
        metrics=() if metrics is None else parse_metrics(metrics),
        device=device or "cpu",
        progress=_progress,
    )
    return evaluation.markdown(rows)


def choose_default_tau(
    *, models: Sequence[str], hr: Path, output: Path | None, vgg16: Path | None, device: str | None
) -> str:
    """Choose a bundle's default temperature and write it into the manifest. Raises: SRFlowError."""
    from srflow_evaluation import default_tau
    from srflow_sdk import Bundle
    from srflow_sdk.system.local_files import write_atomically

    model = _only_model("default-tau", models)
    if model is None:
        raise ArgumentError("default-tau changes a bundle: name it with --model BUNDLE")
    bundle = Bundle.open(model)
    points = default_tau.measure(bundle, hr, vgg16=vgg16, device=device or "cpu", progress=_progress)
    choice = default_tau.choose(points, removes_damage=bundle.manifest.removes_damage)
    default_tau.write(bundle, choice)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, (json.dumps(default_tau.to_json(choice), indent=2) + "\n").encode())
    return f"{default_tau.markdown(choice)}\n\n{default_tau.columns(choice)}\n{model}: {choice}"


def measure_intervals(
    *,
    models: Sequence[str],
    hr: Path,
    output: Path | None,
    degradations: Sequence[str],
    device: str | None,
    write: bool,
) -> str:
    """Measure what a bundle's intervals hold; with `write`, calibrate them first. Raises: SRFlowError."""
    from srflow_evaluation import intervals
    from srflow_evaluation.damaged import parse_damages
    from srflow_evaluation.pictures import picture_files
    from srflow_evaluation.subjects import open_subject
    from srflow_sdk.system.local_files import write_atomically

    upscaler = open_subject(model := _only_model("calibrate", models), device=device or "cpu").upscaler
    if upscaler is None or (model is None and write):
        raise ArgumentError("intervals are a bundle's: name it with --model BUNDLE")
    manifest, path = upscaler.bundle.manifest, upscaler.bundle.path / "manifest.json"
    files = picture_files(hr, lr=None, others={}, cut=intervals.cut_of(manifest))
    found = intervals.measure(upscaler, files, _progress, parse_damages(degradations) if degradations else ())
    chosen = intervals.choose(found) if write else manifest.intervals
    if write and chosen is not None:  # added to what is there, so that nothing else changes
        content = {**json.loads(path.read_bytes()), "intervals": asdict(chosen)}
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    table = intervals.table_of(found, chosen)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, (json.dumps([table.headings, *table.rows]) + "\n").encode())
    return str(table)


def _options(
    protocol: str,
    *,
    output: Path | None,
    device: str | None,
    taus: Sequence[str] = (),
    sample_tau: str | None = None,
    others: Sequence[str] = (),
    convention: Literal["default", "published"] | None = None,
    metrics: str | None = None,
    shard: str | None = None,
    **more: Any,
) -> Options:
    """Parse the options of a protocol that writes a folder. Raises: ArgumentError."""
    if output is None:
        raise ArgumentError(f"{protocol} writes a folder of results: name it with -o OUT")
    for module in ("matplotlib", "jinja2"):
        require_extra(module, "train")
    from srflow_evaluation.convention import parse_metrics
    from srflow_evaluation.flows import LevelTaus
    from srflow_evaluation.options import Options, parse_others
    from srflow_evaluation.realesrgan import MODELS
    from srflow_evaluation.results import Shard

    return Options(
        out=output,
        taus=[LevelTaus.parse(tau) for tau in taus],
        sample_tau=None if sample_tau is None else LevelTaus.parse(sample_tau),
        others=parse_others([text for text in others if text not in MODELS]),
        tools=tuple(dict.fromkeys(text for text in others if text in MODELS)),
        convention=convention or "default",
        metrics=() if metrics is None else parse_metrics(metrics),
        device=device or "cpu",
        shard=None if shard is None else Shard.parse(shard),
        progress=_progress,
        **more,
    )


def _only_model(protocol: str, models: Sequence[str]) -> str | None:
    if len(models) > 1:
        raise ArgumentError(f"{protocol} measures one model, not {len(models)}: give --model once")
    return models[0] if models else None


def _progress(line: str) -> None:
    click.echo(line, err=True)
