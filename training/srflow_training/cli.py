"""Command lines of the training package.

Heavy modules are imported only after the extra is found installed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from srflow_apps.commands.base_command import Command, LocalPath, NameOrPath, fail
from srflow_apps.commands.signals import STOPPING, exit_status, raised_interrupts
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.system.hardware import require_extra
from srflow_training.inputs import check_folder, is_first_process, require_all

if TYPE_CHECKING:
    from srflow_training.trainer import Trainer

__all__ = ["train"]


_FROM_NOTHING = (
    "warning: the network starts from nothing, its LR encoder too: set schedule.encoder to what "
    "--stage encoder wrote, or schedule.start to what srflow-export --checkpoint-of {} wrote"
)


def _presets() -> Iterator[str]:
    """A line for each preset: its name, and what the first line of its file says."""
    files = (resources.files("srflow_training") / "presets").iterdir()
    for name, file in sorted(
        (file.name.removesuffix(".yaml"), file) for file in files if file.name.endswith(".yaml")
    ):
        cells = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").split(" | ")
        yield "  {:<18}{:>7}{:>16}{:>9}  {}".format(name, *cells)


_HELP = f"""Train an SRFlow network, or the LR encoder that it starts from, on photographs.

\b
Presets: parameters; hours of one core of an AMD EPYC, encoder + flow; memory of weights and a batch
{chr(10).join(_presets())}

\b
From start to finish:
  srflow-train --config x4-small --stage encoder --data PHOTOS --out runs/plain
  srflow-train --config x4-small --data PHOTOS --out runs/flow \\
               --set schedule.encoder=runs/plain/model.safetensors
  srflow-export --ckpt runs/flow/model.safetensors

\b
Common settings:  schedule.iterations  data.batch  data.crop  data.cache=FOLDER
  network.variant=paper|published  schedule.start=CKPT (fine-tuning)  objective.l1=1
  hardware.devices=4  hardware.precision=fp32|bf16
  data.degradation=photo|strong (LR images as they come from phones)  schedule.best=gmsd_tau0.8
  schedule.accumulate=4 (large batches in parts)  objective.perceptual=2  network.scale=16
  data.reduction=bilinear  data.hr_shift=4 (content transfer; with data.crop=144 of faces of
  160 pixels)
Training curves: tensorboard --logdir RUN. RUN/config.yaml lists all settings.
"""


@click.command(
    cls=Command,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    type=NameOrPath(),
    metavar="PRESET|FILE.yaml",
    help="Preset (above) or YAML file.  [default with --resume: the run's own]",
)
@click.option(
    "--stage",
    type=click.Choice(["flow", "encoder"]),
    default="flow",
    show_default=True,
    help="What to train: the flow, or the LR encoder that it starts from.",
)
@click.option(
    "--data",
    type=LocalPath(),
    required=True,
    help="Folder of photographs, at any depth.",
)
@click.option(
    "--val",
    type=LocalPath(),
    help="Folder of photographs to validate on during the run.",
)
@click.option("--out", type=LocalPath(), required=True, help="Folder to write the run to.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. data.batch=8; without VALUE, return it to its default. "
    "Repeatable.",
)
@click.version_option(__version__, prog_name="srflow-train")
def train(
    config: str | None,
    stage: Literal["flow", "encoder"],
    data: Path,
    val: Path | None,
    out: Path,
    resume: bool,
    overrides: tuple[str, ...],
) -> None:
    """The command."""
    # more than 50 lines: each way in which a run ends has its own
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        check_folder(data, option="--data")
        if val is not None:
            check_folder(val, option="--val")
        if is_first_process():  # before torch is loaded, which takes seconds
            click.echo(
                f"{'resuming' if resume else 'starting'} {out}: loading PyTorch, reading {data}"
            )
        torch = require_all()
        for module in ("lightning_fabric", "tensorboard"):
            require_extra(module, "train")
        from srflow_training.presets import load_settings
        from srflow_training.trainer import Trainer

        if config is None:
            config = _find_config(out, resume=resume)
        # batch systems send SIGTERM, and scripts start commands with SIGINT ignored
        with raised_interrupts(*STOPPING):
            settings = load_settings(config, overrides, stage=stage)
            has_start = (
                resume
                or settings.kind != "srflow"
                or settings.schedule.start
                or settings.schedule.encoder
            )
            if not has_start and is_first_process():
                click.echo(_FROM_NOTHING.format(config), err=True)
            trainer = Trainer(settings, data=data, out=out, val=val, resume=resume)
            if is_first_process():
                _describe(trainer)
            checkpoint = trainer.run(*([_report] if is_first_process() else []))
    except SRFlowError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or out}: {error.strerror or error}")
    except KeyboardInterrupt as error:
        if is_first_process():
            saved = (out / "states").is_dir()
            click.echo(
                f"stopped; {'continue with --resume' if saved else 'no state was saved yet'}",
                err=True,
            )
        sys.exit(exit_status(*error.args))
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, torch.distributed.DistError):
            raise
        reason = str(error).strip().splitlines()[0][:200]
        fail(f"another process of this run has stopped: see its message ({reason})")
    if is_first_process():
        click.echo(f"trained: {checkpoint}")
        next_step = f"export it: srflow-export --ckpt {checkpoint}"
        if settings.kind != "srflow":
            next_step = f"start a flow from it: --set schedule.encoder={checkpoint}"
        click.echo(next_step)


def _find_config(out: Path, *, resume: bool) -> str:
    """The file of the run that is resumed. Raises: ArgumentError."""
    if not resume:
        raise ArgumentError("no --config: name a preset or a YAML file (--help lists the presets)")
    path = out / "config.yaml"
    if not path.is_file():
        raise ArgumentError(
            f"{out} holds no run to resume: name its --out, or omit --resume and add --config"
        )
    return str(path)


def _describe(trainer: Trainer) -> None:
    """Print what is trained, and what was chosen for this machine."""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    click.echo(
        f"{_pluralise(len(trainer.photos), 'photograph')}, {_pluralise(parameters, 'parameter')}, "
        f"{_pluralise(trainer.fabric.world_size, 'device')}, "
        f"{_pluralise(trainer.schedule.iterations, 'iteration')}, run in {trainer.out}"
    )
    for note in trainer.notes:
        click.echo(note)


def _pluralise(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _report(figures: dict[str, float]) -> None:
    left = int(figures["seconds_left"])
    optional = [name for name in ("l1", "grid", "perceptual", "lr_consistency") if name in figures]
    terms = ", ".join(f"{name} {figures[name]:.4f}" for name in optional)
    loss = f"loss {figures['loss']:.4f}{f' ({terms})' if terms else ''}"
    line = (
        f"{figures['iteration']:>7.0f}  {loss}  gradient {figures['gradient_norm']:.3g}  lr "
        f"{figures['learning_rate']:.1e}  {figures['iterations_per_second']:.2f} it/s  "
        f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02} left"
    )
    validation = [
        f"{name.removeprefix('validation/')} {value:.4g}"
        for name, value in figures.items()
        if name.startswith("validation/")
    ]
    click.echo("  |  ".join([line, *([", ".join(validation)] if validation else [])]))
