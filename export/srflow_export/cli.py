"""The srflow-export command. Heavy modules are imported only once the extra is known to be installed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from srflow_export._engine_options import add_engines_saying, engine_requests, graphs_precision
from srflow_export._optional_parts import say_what_is_missing
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError
from srflow_sdk.model.bundle import _read_manifest
from srflow_sdk.model.manifest import Precision
from srflow_sdk.system.base_command import Command, LocalPath, NameOrPath, PathOrUrl, wait_asleep
from srflow_sdk.system.interrupts import STOPPING, exit_status, raised_interrupts
from srflow_sdk.system.memory import check_address_space
from srflow_sdk.system.raising import require_extra

if TYPE_CHECKING:
    from srflow_export.exporter import Also, Gate
    from srflow_sdk.model.serving_config import Mode

_ADDRESS_SPACE = 2_000_000_000  # for torch's and ONNX Runtime's libraries, threads and a small network
_ENGINES = ("--trt", "--rtx", "--sm", "--shapes", "--builder-level", "--workspace", "--timing-cache", "--no-cache")
_REPOSITORY_MODULES = ("filelock",)
_ENGINE_MODULES = ("onnx", "filelock")  # machines that build their own engines often have no torch
_MODULES = (*_ENGINE_MODULES, "torch", "safetensors", "yaml", "polygraphy")
_MODES: dict[str, tuple[str, ...]] = {  # tasks other than exporting, and the options that each takes
    "--bundle": ("--triton", "--triton-mode", "--also", "-o", "--gate"),
    "--checkpoint-of": ("-o",),
    "--engines-for": _ENGINES,
    "--compare": (),
}
_FILE_SUFFIXES = (".onnx", ".pth", ".pt", ".ckpt", ".safetensors", ".engine", ".plan")  # a bundle is a directory


class _BundlePath(NameOrPath):
    """A bundle's path; of an embedded model, its name, as for all commands."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from srflow_sdk.model.bundle import bundle_path

        return bundle_path(super().convert(value, param, ctx))


class _ExportCommand(Command):
    """A command whose --sm takes several numbers: --sm 89 120."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _repeated("--sm", args))


def _repeated(option: str, args: Iterable[str]) -> list[str]:
    """Rewrite `--sm 89 120` as `--sm 89 --sm 120`, the form that click understands."""
    spread: list[str] = []
    values = 0  # how many the option has so far
    inside = False
    for arg in args:
        if arg == option:
            inside, values = True, 0
        elif inside and arg.isdecimal():
            if values:
                spread.append(option)
            values += 1
        else:
            inside = False
        spread.append(arg)
    return spread


def _blocks(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("expected comma-separated block numbers, such as 1,8,15,22") from error


def _check_use(context: click.Context) -> None:
    """Require --ckpt, or one of the modes with the options that it takes. Raises: click.UsageError."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if "checkpoint" in given:
        if "--ckpt" in given:
            raise click.UsageError("name the checkpoint once: with --ckpt, or without an option")
        given[given.index("checkpoint")] = "--ckpt"
    modes = [option for option in given if option in _MODES]
    if not modes:
        if "--ckpt" not in given:
            raise click.UsageError(f"name a checkpoint, or use one of {', '.join(_MODES)}")
        if "--triton-mode" in given and "--triton" not in given:
            raise click.UsageError("--triton-mode only applies to repositories: add --triton REPO")
        if "--rtx" not in given and "--trt" not in given and (lost := [name for name in given if name in _ENGINES]):
            raise click.UsageError(f"{lost[0]} only applies to engines: add --trt or --rtx")
        return
    mode, *more = modes
    others = [*more, *(option for option in given if option not in (mode, *more, *_MODES[mode]))]
    if others:
        rule = f"combined with {', '.join(_MODES[mode])}" if _MODES[mode] else "used alone"
        raise click.UsageError(f"{mode} can only be {rule}: leave {others[0]} out")
    if mode == "--checkpoint-of" and "-o" not in given:
        raise click.UsageError("--checkpoint-of writes a checkpoint: name it with -o FILE.safetensors")
    if mode == "--bundle" and not {"--triton", "--also"} & {*given}:
        raise click.UsageError("--bundle uses a bundle that exists: say what for with --triton REPO or --also int8")
    if mode == "--bundle" and "--also" not in given and (lost := [name for name in given if name in ("-o", "--gate")]):
        raise click.UsageError(f"{lost[0]} only applies to a bundle that is written: leave it out, or add --also int8")
    if mode == "--engines-for" and "--trt" not in given and "--rtx" not in given:
        raise click.UsageError("--engines-for builds engines: say which with --trt or --rtx")


def _write_checkpoint_of(bundle: Path, target: Path) -> None:
    from srflow_export._unfolding import write_checkpoint_of

    written = write_checkpoint_of(bundle, target)
    click.echo(f"wrote {target}")
    if written.collapsed:
        click.echo("its encoder's kernels are collapsed; a run that starts from it composes them again")
    if Path(written.config) == target.with_suffix(".yaml"):
        click.echo(f"wrote {written.config}")
    start = f"schedule.start={shlex.quote(str(target))}"
    click.echo(f"train it: srflow-train --config {shlex.quote(written.config)} --set {start} --data PHOTOS --out RUN")


def _target(ckpt: Path, output: Path | None) -> Path:
    """The bundle to write. Raises: CheckpointError if there is no checkpoint, ArgumentError for an odd name."""
    if (ckpt / "manifest.json").is_file():
        raise CheckpointError(
            f"{ckpt} is a bundle already: --engines-for {ckpt} adds engines to it, --checkpoint-of {ckpt} writes its "
            "checkpoint"
        )
    if not ckpt.is_file():
        raise CheckpointError(f"{ckpt}: {'is a folder: name a file in it' if ckpt.is_dir() else 'no such file'}")
    target = output if output is not None else ckpt.with_suffix(".srflow")
    if target == ckpt:
        raise ArgumentError(f"{ckpt}: the bundle would replace its checkpoint: choose another name with -o")
    return _bundle_name(target)


def _bundle_name(target: Path) -> Path:
    """The name, if a bundle may have it. Raises: ArgumentError if it looks like a file's."""
    if target.suffix.lower() in _FILE_SUFFIXES:
        raise ArgumentError(
            f"{target}: a bundle is a directory that holds encoder.onnx, sampler.onnx and more: name it "
            f"{target.with_suffix('.srflow').name}"
        )
    return target


def _needed(bundle: Path | None, engines_for: Path | None, also: tuple[Also, ...]) -> tuple[str, ...]:
    """The modules of the extra that the task takes."""
    if bundle is not None and not also:
        return _REPOSITORY_MODULES
    return _ENGINE_MODULES if engines_for is not None else _MODULES


def _write_repository(bundle: Path, repository: Path, mode: Mode | None) -> None:
    from srflow_export.triton import write_repository

    write_repository(bundle, repository, mode=mode, say=click.echo)


def _use_bundle(
    bundle: Path,
    output: Path | None,
    *,
    also: tuple[Also, ...],
    gate: Gate,
    triton: Path | None,
    triton_mode: Mode | None,
) -> None:
    """What --bundle asks for."""
    if also:
        from srflow_export.int8_encoders import add_int8_encoder

        bundle, source = _bundle_name(output or bundle), bundle
        add_int8_encoder(source, bundle, gate=gate, say=click.echo)
        click.echo(f"wrote {bundle}")
    if triton is not None:
        _write_repository(bundle, triton, triton_mode)


@click.command(cls=_ExportCommand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("checkpoint", required=False, type=LocalPath())
@click.option("--ckpt", type=LocalPath(), help="The same as CHECKPOINT.")
@click.option("-o", "--output", type=LocalPath(), help="Bundle to write.  [default: CKPT.srflow]")
@click.option("--no-inverter", is_flag=True, help="Leave out inverter.onnx, which makes latents from HR pictures.")
@click.option("--fused", is_flag=True, help="Also write fused.onnx: the whole reverse pass in one graph.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Arithmetic of the graphs; the flow itself is always fp32.  [default: the engines' precision, else fp32]",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Storage of the weights of fp32 graphs; fp16 halves the files, the arithmetic stays fp32.",
)
@click.option(
    "--also",
    type=click.Choice(["int8"]),
    multiple=True,
    help="Beside fp32 graphs, write a second encoder in int8, for --precision int8 of srflow-upscale.",
)
@click.option("--plugins", is_flag=True, help="Write flow operations as nodes that the native library can run.")
@click.option("--trt", type=click.Choice(["fp32", "fp16"]), help="Add TensorRT engines for this machine's GPU.")
@click.option("--rtx", type=click.Choice(["fp32", "fp16"]), help="Add TensorRT-RTX engines for --sm; needs no GPU.")
@click.option("--sm", type=int, multiple=True, metavar="89 120 …", help="Compute capabilities that --rtx builds for.")
@click.option("--shapes", metavar="MIN,OPT,MAX", help="LR sizes for engines.  [default: the runtime's tiles]")
@click.option("--builder-level", type=click.IntRange(0, 5), help="Effort to find fast kernels.  [default: 3]")
@click.option("--workspace", type=click.FloatRange(0, 1024, min_open=True), help="GiB of GPU memory for engines.")
@click.option("--timing-cache", type=LocalPath(), help="TensorRT's kernel timings, read and updated.")
@click.option("--no-cache", is_flag=True, help="Build engines even if the same ones were built before.")
@click.option("--config", type=LocalPath(), help="Published YAML of the network.  [default: detect it]")
@click.option("--blocks", callback=_blocks, metavar="1,8,15,22", help="RRDB blocks that condition the flow.")
@click.option(
    "--tau",
    type=click.FloatRange(0, 1),
    help="The bundle's default tau.  [default: 0.8, or less if the network's pictures are not finite there]",
)
@click.option("--auto-tau", is_flag=True, help="Scale it by each picture's texture, as --tau auto of srflow-upscale.")
@click.option("--halo", type=click.IntRange(0, 4096), help="LR pixels of context around tiles.  [default: measured]")
@click.option(
    "--gate",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="Size of the patches on which graphs are compared with the network; full takes two to three times as long.",
)
@click.option("--name", default="", help="Model's name in the manifest.  [default: the bundle's]")
@click.option("--licence", default="unknown", help="Licence of the weights, for the manifest.")
@click.option("--training-data", default="unknown", help="Note on the training data, for the manifest.")
@click.option(
    "--triton",
    type=PathOrUrl(),
    metavar="REPO",
    help="Also add the bundle to a model repository of Triton Inference Server, as a new version.",
)
@click.option(
    "--triton-mode",
    type=click.Choice(["python", "bls"]),
    help="What srflow_upscale runs there: the SDK, or the repository's other models, on GPU servers.  "
    "[default: the repository's, else python]",
)
@click.option(
    "--bundle",
    type=_BundlePath(),
    metavar="NAME|BUNDLE",
    help="Instead of --ckpt: use an existing bundle for --triton or --also; -o writes another one.",
)
@click.option(
    "--engines-for",
    type=_BundlePath(),
    metavar="NAME|BUNDLE",
    help="Instead of --ckpt: build engines for an existing bundle, on the machine that will run it.",
)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Instead of --ckpt: compare B with A on photographs; each is a bundle, a checkpoint, BUNDLE@DEVICE, "
    "BUNDLE@PRECISION or BUNDLE@DEVICE@PRECISION.",
)
@click.option(
    "--checkpoint-of",
    type=_BundlePath(),
    metavar="NAME|BUNDLE",
    help="Instead of --ckpt: write a bundle's network to -o FILE.safetensors, a checkpoint to train further.",
)
@click.version_option(__version__, prog_name="srflow-export")
@click.pass_context
def main(
    context: click.Context,
    /,
    checkpoint: Path | None,
    ckpt: Path | None,
    output: Path | None,
    no_inverter: bool,
    fused: bool,
    precision: Precision | None,
    weights: str,
    also: tuple[Also, ...],
    plugins: bool,
    config: Path | None,
    blocks: tuple[int, ...] | None,
    tau: float | None,
    auto_tau: bool,
    halo: int | None,
    gate: Gate,
    name: str,
    licence: str,
    training_data: str,
    triton: Path | None,
    triton_mode: Mode | None,
    bundle: Path | None,
    engines_for: Path | None,
    compare: tuple[str, str] | None,
    checkpoint_of: Path | None,
    **engines: Any,
) -> None:
    """Turn a checkpoint into a bundle that the runtime, or any ONNX runtime, can use. Options add engines.

    CHECKPOINT is a published .pth, or a .safetensors of srflow-train.

    The graphs are compared with the checkpoint's network on real photographs, at four temperatures; the bundle is
    written only if they agree. The halo of tiles is measured on the same photographs; a full-size network takes a
    minute or two in all. If engines, or what --fused or --also asks for, cannot be made, the bundle is still written,
    and the exit status is 1.
    A checkpoint written with --checkpoint-of gives the same images as the bundle and can be trained further.

    \b
      srflow-export SRFlow_DF2K_4X.pth            writes SRFlow_DF2K_4X.srflow
      srflow-upscale photo.png -o big.png --model SRFlow_DF2K_4X.srflow
      srflow-export SRFlow_DF2K_4X.pth --trt fp16          for the GPU in this machine
      srflow-export SRFlow_DF2K_4X.pth --rtx fp16 --sm 89 120        for GeForce 40 and 50
      srflow-export --bundle SRFlow_DF2K_4X.srflow --triton models/         for Triton Inference Server
      srflow-export --bundle SRFlow_DF2K_4X.srflow --also int8       faster on CPUs, see --precision of srflow-upscale
      srflow-export --compare SRFlow_DF2K_4X.pth SRFlow_DF2K_4X.srflow@cuda
      srflow-export --compare x4-small x4-small@openvino@int8
      srflow-export --checkpoint-of SRFlow_DF2K_4X.srflow -o start.safetensors
    """
    _check_use(context)
    ckpt = ckpt or checkpoint
    context.with_resource(raised_interrupts(*STOPPING))
    try:
        target = None if ckpt is None else _target(ckpt, output)  # before seconds of loading torch
        for named in (bundle, checkpoint_of):
            if named is not None:
                _read_manifest(named)
        check_address_space(_ADDRESS_SPACE, "srflow-export")
        wait_asleep()
        for module in _needed(bundle, engines_for, also):
            require_extra(module, "export")
        if bundle is not None:
            _use_bundle(bundle, output, also=also, gate=gate, triton=triton, triton_mode=triton_mode)
            return
        if checkpoint_of is not None and output is not None:
            _write_checkpoint_of(checkpoint_of, output)
            return
        if compare is not None:
            from srflow_export.parity import compare as compare_two

            compare_two(*compare, say=click.echo)
            return
        requests = engine_requests(**engines)
        if engines_for is not None:
            if add_engines_saying(engines_for, requests):
                sys.exit(1)
            return
        from srflow_export.exporter import ExportOptions, export_checkpoint

        assert ckpt is not None  # for the type checker: see _check_use
        assert target is not None
        if tau is not None and tau != tau:  # click's range lets NaN through
            raise ArgumentError("--tau is not a number")
        if triton is not None:
            from srflow_export.triton.repository import check_repository

            check_repository(triton)  # before minutes of work
        options = ExportOptions(
            fused=fused,
            inverter=not no_inverter,
            precision=graphs_precision(precision, requests),
            weights="fp16" if weights == "fp16" else "fp32",
            also=also,
            plugins=plugins,
            config=config,
            stacked_blocks=blocks,
            default_tau=tau,
            auto_tau=auto_tau,
            halo=halo,
            gate=gate,
            name=name,
            licence=licence,
            training_data=training_data,
        )
        manifest = export_checkpoint(ckpt, target, options, say=click.echo)
        click.echo(f"wrote {target}")
        failed = say_what_is_missing(manifest, fused=fused, also=also)
        failed |= add_engines_saying(target, requests)
        if triton is not None:
            _write_repository(target, triton, triton_mode)
        if failed:
            sys.exit(1)
    except (SRFlowError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        click.echo("stopped; nothing was left half written", err=True)
        sys.exit(exit_status(*stop.args))
