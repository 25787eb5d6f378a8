"""srflow-export. Nothing heavy is imported before the extra is known to be there."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import get_args

import click
from click.core import ParameterSource

from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError, require_extra
from srflow_sdk.manifest import Precision


def _blocks(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("comma-separated block numbers were expected, such as 1,8,15,22") from error


def _write_checkpoint_of(bundle: Path, target: Path) -> None:
    from srflow_export.unfolding import write_checkpoint_of

    name = write_checkpoint_of(bundle, target).name
    is_preset = (resources.files("srflow_training") / "presets" / f"{name}.yaml").is_file()
    config = name if is_preset else "ITS_CONFIG.yaml"
    click.echo(f"wrote {target}")
    click.echo(f"train on: srflow-train --config {config} --set schedule.start={target} --data PHOTOS --out RUN")


def _check_use(context: click.Context) -> None:
    """Either --ckpt, or --checkpoint-of with -o and nothing else. Raises: click.UsageError."""
    given = {
        parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    }
    if "--checkpoint-of" not in given:
        if "--ckpt" not in given:
            raise click.UsageError("name a checkpoint with --ckpt, or a bundle with --checkpoint-of")
    elif "-o" not in given:
        raise click.UsageError("--checkpoint-of writes a checkpoint: name it with -o FILE.safetensors")
    elif others := sorted(given - {"--checkpoint-of", "-o"}):
        raise click.UsageError(f"--checkpoint-of goes with -o alone: leave {others[0]} out")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--ckpt", type=click.Path(path_type=Path), help="Published .pth, or our .safetensors.")
@click.option(
    "--checkpoint-of",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Instead of --ckpt: write this bundle's network as a checkpoint, -o FILE.safetensors, to train it further.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: CKPT.srflow]")
@click.option("--fused", is_flag=True, help="Also write fused.onnx: the whole reverse pass in one graph.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="fp32", help="Of the arithmetic.")
@click.option(
    "--weights",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="How weights are stored; fp16 halves the files, the arithmetic stays fp32.",
)
@click.option("--config", type=click.Path(path_type=Path), help="Published YAML, instead of detecting the network.")
@click.option("--blocks", callback=_blocks, metavar="1,8,15,22", help="RRDB blocks that condition the flow.")
@click.option("--tau", type=click.FloatRange(0, 2), default=0.8, show_default=True, help="The bundle's default tau.")
@click.option("--halo", type=click.IntRange(0, 4096), help="LR pixels around a tile.  [default: measured]")
@click.option("--name", default="", help="Name in the manifest.  [default: the bundle's]")
@click.option("--licence", default="unknown", help="Licence of the weights, for the manifest.")
@click.option("--training-data", default="unknown", help="Note on the training data, for the manifest.")
@click.pass_context
def main(
    context: click.Context,
    ckpt: Path | None,
    checkpoint_of: Path | None,
    output: Path | None,
    fused: bool,
    precision: Precision,
    weights: str,
    config: Path | None,
    blocks: tuple[int, ...] | None,
    tau: float,
    halo: int | None,
    name: str,
    licence: str,
    training_data: str,
) -> None:
    """Turn a checkpoint into a bundle that the runtime, or any ONNX runtime, can use; or a bundle into a checkpoint.

    The graphs are compared with the checkpoint's network on real photographs; a bundle is written only if they agree.
    The halo of tiles is measured on the same photographs, which takes a minute or two with the full-size network.
    A checkpoint made with --checkpoint-of gives the bundle's images and is there to be trained further.

    \b
      srflow-export --ckpt SRFlow_DF2K_4X.pth            writes SRFlow_DF2K_4X.srflow
      srflow-upscale photo.png -o big.png --model SRFlow_DF2K_4X.srflow
      srflow-export --checkpoint-of SRFlow_DF2K_4X.srflow -o start.safetensors
    """
    _check_use(context)
    try:
        for module in ("torch", "onnx", "onnxscript", "safetensors", "yaml"):
            require_extra(module, "export")
        if checkpoint_of is not None and output is not None:
            _write_checkpoint_of(checkpoint_of, output)
            return
        from srflow_export.exporter import ExportOptions, export_checkpoint

        assert ckpt is not None  # for the type checker: see _check_use
        if not ckpt.is_file():
            raise CheckpointError(f"{ckpt}: no such file")
        if tau != tau:  # click's range lets NaN through
            raise ArgumentError("--tau is not a number")
        target = output if output is not None else ckpt.with_suffix(".srflow")
        if target == ckpt:
            raise ArgumentError(f"{ckpt}: the bundle would replace its checkpoint: name another with -o")
        options = ExportOptions(
            fused=fused,
            precision=precision,
            weights="fp16" if weights == "fp16" else "fp32",
            config=config,
            stacked_blocks=blocks,
            default_tau=tau,
            halo=halo,
            name=name,
            licence=licence,
            training_data=training_data,
        )
        export_checkpoint(ckpt, target, options, say=click.echo)
    except SRFlowError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("stopped; nothing was written", err=True)
        sys.exit(130)
    click.echo(f"wrote {target}")
