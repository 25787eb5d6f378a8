"""srflow-export. Nothing heavy is imported before the extra is known to be there."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError, require_extra


def _blocks(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("comma-separated block numbers were expected, such as 1,8,15,22") from error


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--ckpt", type=click.Path(path_type=Path), required=True, help="Published .pth, or our .safetensors.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: FILE.srflow]")
@click.option("--fused", is_flag=True, help="Also write fused.onnx: the whole reverse pass in one graph.")
@click.option("--precision", type=click.Choice(["fp32"]), default="fp32", show_default=True, help="Of the arithmetic.")
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
@click.option("--halo", type=click.IntRange(0, 4096), default=16, show_default=True, help="LR pixels around a tile.")
@click.option("--name", default="", help="Name in the manifest.  [default: the bundle's]")
@click.option("--licence", default="unknown", help="Licence of the weights, for the manifest.")
@click.option("--training-data", default="unknown", help="Note on the training data, for the manifest.")
def main(
    ckpt: Path,
    output: Path | None,
    fused: bool,
    precision: str,
    weights: str,
    config: Path | None,
    blocks: tuple[int, ...] | None,
    tau: float,
    halo: int,
    name: str,
    licence: str,
    training_data: str,
) -> None:
    """Turn a checkpoint into a bundle that the runtime, or any ONNX runtime, can use.

    The graphs are compared with the checkpoint's network on real photographs; a bundle is written only if they agree.

    \b
      srflow-export --ckpt SRFlow_DF2K_4X.pth            writes SRFlow_DF2K_4X.srflow
      srflow-upscale photo.png -o big.png --model SRFlow_DF2K_4X.srflow
    """
    try:
        for module in ("torch", "onnx", "onnxscript", "safetensors", "yaml"):
            require_extra(module, "export")
        from srflow_export.exporter import ExportOptions, export_checkpoint

        if not ckpt.is_file():
            raise CheckpointError(f"{ckpt}: no such file")
        if tau != tau:  # click's range lets NaN through
            raise ArgumentError("--tau is not a number")
        target = output if output is not None else ckpt.with_suffix(".srflow")
        if target == ckpt:
            raise ArgumentError(f"{ckpt}: the bundle would replace its checkpoint: name another with -o")
        options = ExportOptions(
            fused=fused,
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
