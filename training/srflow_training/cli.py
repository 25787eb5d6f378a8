"""Command lines of the training package. Nothing heavy is imported before the extra is known to be there."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from srflow_sdk.errors import SRFlowError, require_extra


def _require_all() -> Any:
    """torch, once all that the [train] extra brings is known to be there. Raises: MissingExtraError."""
    for module in ("safetensors", "yaml", "piq"):
        require_extra(module, "train")
    return require_extra("torch", "train")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", required=True, metavar="PRESET|FILE.yaml", help="A preset (see below) or your own YAML.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of photographs, any depth.")
@click.option("--val", type=click.Path(path_type=Path), help="Folder of photographs to watch progress on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="E.g. schedule.iterations=2000.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
def train(
    config: str,
    data: Path,
    val: Path | None,
    out: Path,
    resume: bool,
    overrides: tuple[str, ...],
    threads: int | None,
) -> None:
    """Train an SRFlow network on a folder of photographs.

    \b
    Presets: x4-small (the embedded model), rrdb-x4-small (the encoder that it starts from).
    A small model, start to end:
      srflow-train --config rrdb-x4-small --data PHOTOS --out runs/rrdb
      srflow-train --config x4-small --data PHOTOS --out runs/flow \\
                   --set schedule.encoder=runs/rrdb/model.safetensors
      srflow-export --ckpt runs/flow/model.safetensors
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        torch = _require_all()
        from srflow_training.settings import load_settings
        from srflow_training.trainer import Trainer

        if threads:
            torch.set_num_threads(min(threads, os.cpu_count() or 1))
        settings = load_settings(config, overrides)
        trainer = Trainer(settings, data=data, out=out, val=val, resume=resume)
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        click.echo(f"{len(trainer.crops.photos)} photographs, {parameters:,} parameters, run in {out}")
        checkpoint = trainer.run(_report)
    except SRFlowError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.filename or out}: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        state = out / "state.pt"
        mend = "go on from the last saved state with --resume" if state.exists() else "no state had been saved yet"
        click.echo(f"stopped; {mend}", err=True)
        sys.exit(130)
    click.echo(f"trained: {checkpoint}\nexport it: srflow-export --ckpt {checkpoint}")


def _report(figures: dict[str, float]) -> None:
    left = int(figures["seconds_left"])
    line = (
        f"{figures['iteration']:>7.0f}  loss {figures['loss']:.4f}  lr {figures['learning_rate']:.1e}  "
        f"{figures['iterations_per_second']:.2f} it/s  {left // 3600}:{left % 3600 // 60:02}:{left % 60:02} left"
    )
    if "val_psnr" in figures:
        line += f"  | val PSNR {figures['val_psnr']:.2f} dB (bicubic {figures['val_psnr_bicubic']:.2f})"
    if "val_nll" in figures:
        line += f", NLL {figures['val_nll']:.3f} bits, {figures['val_nonfinite']:.0f} non-finite"
    click.echo(line)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("protocol", type=click.Choice(["report"]))
@click.option("--model", metavar="BUNDLE|CKPT", help="Bundle or checkpoint.  [default: the embedded model]")
@click.option("--hr", type=click.Path(path_type=Path), required=True, help="Folder of HR photographs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file to write the figures to.")
@click.option("--tau", "taus", multiple=True, type=click.FloatRange(0, 2), help="Repeatable.")
def evaluate(protocol: str, model: str | None, hr: Path, output: Path | None, taus: tuple[float, ...]) -> None:
    """Measure a model on photographs.

    \b
    report: PSNR, GMSD, HaarPSI, LR-PSNR and diversity against tau, beside bicubic, on every whole 256x256 crop.
      srflow-eval report --hr PHOTOS
    """
    try:
        _require_all()
        from srflow_training import evaluation

        rows = evaluation.report(
            model, hr, taus or (0.0, 0.5, 0.8, 0.9, 1.0), progress=lambda line: click.echo(line, err=True)
        )
        if output is not None:
            from srflow_training.checkpoints.io import write_atomically

            write_atomically(output, (json.dumps(evaluation.to_json(rows), indent=2) + "\n").encode())
    except SRFlowError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.filename or output}: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    click.echo(evaluation.markdown(rows))
