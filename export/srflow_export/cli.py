"""The srflow-export command: its options, which go together, and the tasks that they start.

A task returns True if a part that was asked for could not be made. Heavy modules are imported only
once the extra is known to be installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from srflow_apps.commands.base_command import Command, LocalPath, NameOrPath, PathOrUrl, wait_asleep
from srflow_apps.commands.signals import STOPPING, exit_status, raised_interrupts
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError
from srflow_sdk.model.bundle import bundle_path, open_unverified
from srflow_sdk.model.manifest import INT8_ENCODER, Precision
from srflow_sdk.plain_text import command_line
from srflow_sdk.system.hardware import require_extra

if TYPE_CHECKING:
    from srflow_export.engines.requests import EngineRequest
    from srflow_export.exporter import Also, Gate

_REPOSITORY_MODULES = ("filelock",)
_ENGINE_MODULES = ("onnx", "filelock")  # machines that build their own engines often have no torch
_MODULES = (*_ENGINE_MODULES, "torch", "safetensors", "yaml", "polygraphy")
# A bundle is a directory.
_FILE_SUFFIXES = (".onnx", ".pth", ".pt", ".ckpt", ".safetensors", ".engine", ".plan")
_ENGINES = ("--trt", "--rtx", "--sm", "--shapes", "--builder-level")
_PLAIN = ("--plain", "--seed", "--size", "--io", "--opset")
# Tasks other than exporting, and the options that each takes.
_MODES: dict[str, tuple[str, ...]] = {
    "--bundle": ("--triton", "--also", "-o", "--gate", *_PLAIN, "--tau"),
    "--checkpoint-of": ("-o",),
    "--engines-for": _ENGINES,
    "--compare": (),
}
_GROUPS = {
    "Options that most people need": "output precision also default_tau trt rtx sm name "
    "engines_for compare",
    "Other tasks": "bundle checkpoint_of triton",
    "A plain ONNX file": "plain seed size io opset",
    "Graphs": "no_inverter fused weights plugins halo gate keep_inputs",
    "Checkpoint and manifest": "ckpt stacked_blocks auto_tau licence training_data",
    "Engines": "shapes builder_level",
}


class _BundlePath(NameOrPath):
    """A bundle's path; of an embedded model, its name, as for all commands."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return bundle_path(super().convert(value, param, ctx))


class _SeveralNumbers(click.Option):
    """An option with one value or more: --sm 89 120. It may also be repeated: --sm 89 --sm 120."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        option = parser._long_opt[self.opts[0]]
        take_one = option.process

        def take_all(value: str, state: Any) -> None:
            take_one(value, state)
            while state.rargs and state.rargs[0].isdecimal():
                take_one(state.rargs.pop(0), state)

        option.process = take_all


class _Number(click.FloatRange):
    """A number of a range. Click's own lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number", param, ctx) if number != number else number


def _parse_blocks(
    _context: click.Context,
    _parameter: click.Parameter,
    value: str | None,
) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            "expected comma-separated block numbers, such as 1,8,15,22"
        ) from error


def _parameter(option: str) -> str:
    """Return the name of an option's value: --builder-level is builder_level."""
    return option.removeprefix("--").replace("-", "_")


def _choose_mode(context: click.Context) -> str:
    """Return --ckpt, or the one other mode that is given. Raises: click.UsageError."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if "checkpoint" in given:
        if "--ckpt" in given:
            raise click.UsageError("name the checkpoint once: with --ckpt, or without an option")
        given[given.index("checkpoint")] = "--ckpt"
    if "--plain" not in given and (lost := [name for name in given if name in _PLAIN]):
        raise click.UsageError(f"{lost[0]} only applies to a plain file: add --plain")
    modes = [option for option in given if option in _MODES]
    if not modes:
        if "--ckpt" not in given:
            raise click.UsageError(f"name a checkpoint, or use one of {', '.join(_MODES)}")
        if (
            "--rtx" not in given
            and "--trt" not in given
            and (lost := [name for name in given if name in _ENGINES])
        ):
            raise click.UsageError(f"{lost[0]} only applies to engines: add --trt or --rtx")
        return "--ckpt"
    mode, *more = modes
    others = [*more, *(option for option in given if option not in (mode, *more, *_MODES[mode]))]
    if others:
        rule = f"combined with {', '.join(_MODES[mode])}" if _MODES[mode] else "used alone"
        raise click.UsageError(f"{mode} can only be {rule}: leave {others[0]} out")
    if mode == "--checkpoint-of" and "-o" not in given:
        raise click.UsageError(
            "--checkpoint-of writes a checkpoint: name it with -o FILE.safetensors"
        )
    if mode == "--bundle":
        files = [name for name in ("--also", "--plain") if name in given]
        if "--triton" not in given and not files:
            raise click.UsageError(
                "--bundle uses one: say what for with --triton REPO or --also int8, or with --plain"
            )
        if len(files) > 1 or (files and len(context.params["bundle"]) > 1):
            raise click.UsageError(
                f"{files[0]} takes one bundle and writes one -o: name one, and use the other later"
            )
        unused = {"-o": not files, "--gate": "--also" not in given, "--tau": "--plain" not in given}
        if lost := [name for name in given if unused.get(name)]:
            raise click.UsageError(
                f"{lost[0]} only applies to a bundle that is written by --also, or to a --plain "
                "file"
            )
    if mode == "--engines-for" and "--trt" not in given and "--rtx" not in given:
        raise click.UsageError("--engines-for builds engines: say which with --trt or --rtx")
    return mode


def _export(
    ckpt: Path,
    *,
    output: Path | None,
    precision: Precision | None,
    no_inverter: bool,
    engines: Mapping[str, Any],
    triton: Path | None,
    plain: Mapping[str, Any] | None,
    **more: Any,
) -> bool:
    """Write a checkpoint's bundle.

    engines, plain: the options on them. more: as ExportOptions has them.
    """
    target = _choose_target(ckpt, output)  # before seconds of loading torch
    _check_modules(*_MODULES)
    requests = _make_requests(**engines)
    from srflow_export.exporter import ExportOptions, export_checkpoint

    if triton is not None:
        from srflow_export.triton import check_repository

        check_repository(triton)  # before minutes of work
    options = ExportOptions(
        inverter=not no_inverter,
        precision=_choose_precision(precision, requests),
        **more,
    )
    manifest = export_checkpoint(ckpt, target, options, say=click.echo)
    click.echo(f"wrote {target}")
    asked_for = {"fused.onnx": options.fused, INT8_ENCODER: options.also}
    missing = [name for name in asked_for if asked_for[name] and name not in manifest.files]
    for name in missing:  # the bundle is good without them, but a script must notice
        click.echo(f"error: {name} was asked for, and was left out", err=True)
    complete = _add_engines(target, requests) and not missing
    if plain is not None:
        _write_plain(target, target.with_name("plain.onnx"), plain)
    if triton is not None:
        _write_repository([target], triton)
    return complete


def _use_bundle(
    bundles: Sequence[Path],
    *,
    output: Path | None,
    also: tuple[Also, ...],
    gate: Gate,
    triton: Path | None,
    plain: Mapping[str, Any] | None,
    default_tau: float | None,
    **_: Any,
) -> bool:
    """Write a second encoder or a plain file for a bundle, or add bundles to a repository."""
    for bundle in bundles:
        open_unverified(bundle)
    _check_modules(*(_MODULES if also or plain is not None else _REPOSITORY_MODULES))
    if also:
        from srflow_export.exporter import add_int8_encoder

        (source,) = bundles
        bundles = [_check_name(output or source)]
        add_int8_encoder(source, bundles[0], gate=gate, say=click.echo)
        click.echo(f"wrote {bundles[0]}")
    if plain is not None:
        _write_plain(bundles[0], output or Path("plain.onnx"), {"tau": default_tau, **plain})
    if triton is not None:
        _write_repository(bundles, triton)
    return True


def _build_engines(bundle: Path, *, engines: Mapping[str, Any], **_: Any) -> bool:
    """Build engines for a bundle, on the machine that will run it."""
    _check_modules(*_ENGINE_MODULES)
    return _add_engines(bundle, _make_requests(**engines))


def _compare(models: tuple[str, str], **_: Any) -> bool:
    """Compare two models on photographs."""
    _check_modules(*_MODULES)
    from srflow_export.parity.compare import compare

    compare(*models, say=click.echo)
    return True


def _write_checkpoint(bundle: Path, *, output: Path, **_: Any) -> bool:
    """Write a bundle's network as a checkpoint, and how to train it further."""
    open_unverified(bundle)
    _check_modules(*_MODULES)
    from srflow_export.unfolding import write_trainable_checkpoint

    config = write_trainable_checkpoint(bundle, output)
    click.echo(f"wrote {output}")
    if Path(config) == output.with_suffix(".yaml"):
        click.echo(f"wrote {config}")
    options = [
        "--config",
        str(config),
        "--set",
        f"schedule.start={output}",
        "--data",
        "PHOTOS",
        "--out",
        "RUN",
    ]
    click.echo(f"train it: {command_line(['srflow-train', *options])}")
    return True


def _check_modules(*modules: str) -> None:
    """Check that the modules of the extra are installed. Raises: MissingExtraError."""
    wait_asleep()
    for module in modules:
        require_extra(module, "export")


def _choose_target(ckpt: Path, output: Path | None) -> Path:
    """Return the bundle to write. Raises: CheckpointError, or ArgumentError for an odd name."""
    if (ckpt / "manifest.json").is_file():
        raise CheckpointError(
            f"{ckpt} is a bundle already: --engines-for {ckpt} adds engines to it, "
            f"--checkpoint-of {ckpt} writes its checkpoint"
        )
    if not ckpt.is_file():
        raise CheckpointError(
            f"{ckpt}: {'is a folder: name a file in it' if ckpt.is_dir() else 'no such file'}"
        )
    target = output if output is not None else ckpt.with_suffix(".srflow")
    if target == ckpt:
        raise ArgumentError(
            f"{ckpt}: the bundle would replace its checkpoint: choose another name with -o"
        )
    return _check_name(target)


def _check_name(target: Path) -> Path:
    """The name, if a bundle may have it. Raises: ArgumentError if it looks like a file's."""
    if target.suffix.lower() in _FILE_SUFFIXES:
        raise ArgumentError(
            f"{target}: a bundle is a directory that holds encoder.onnx, sampler.onnx and more: "
            f"name it {target.with_suffix('.srflow').name}"
        )
    return target


def _make_requests(
    *,
    trt: Any,
    rtx: Any,
    sm: tuple[int, ...],
    shapes: str | None,
    builder_level: int | None,
) -> list[EngineRequest]:
    """The engines that the options ask for. Raises: ArgumentError."""
    from srflow_export.engines.requests import EngineRequest, check_request, parse_shapes

    profile = None if shapes is None else parse_shapes(shapes)
    request = partial(EngineRequest, profile=profile, level=builder_level)
    requests = []
    if trt is not None:
        mine = () if rtx is not None else sm
        requests.append(request(runtime="tensorrt", precision=trt, sms=mine))
    if rtx is not None:
        requests.append(request(runtime="tensorrt_rtx", precision=rtx, sms=sm))
    for each in requests:
        check_request(each)
    return requests


def _choose_precision(asked: Precision | None, requests: list[EngineRequest]) -> Precision:
    """Return the precision of the graphs that was asked for, or that engines need.

    Raises: ArgumentError.
    """
    precisions = {request.precision for request in requests}
    if asked is None:
        # float32 engines can be built from the float32 graphs that are written beside
        # half-precision ones.
        return "fp16" if "fp16" in precisions else "fp32"
    if odd := sorted(precisions - {asked, "fp32"}):
        raise ArgumentError(
            f"engines in {odd[0]} are built from graphs in {odd[0]}: leave --precision out, or "
            f"use --precision {odd[0]}"
        )
    return asked


def _add_engines(bundle: Path, requests: list[EngineRequest]) -> bool:
    """Build every engine that can be built, then report the failures. True if there were none."""
    from srflow_export.engines.bundles import add_engines

    failures = []
    for request in requests:
        try:
            add_engines(bundle, request, say=click.echo)
        except SRFlowError as error:
            failures.append(str(error))
    if len(failures) < len(requests):
        click.echo(f"wrote {bundle}")
    for failure in dict.fromkeys(failures):  # a fault of the bundle itself fails every request
        click.echo(f"error: {failure}", err=True)
    return not failures


def _write_plain(bundle: Path, target: Path, options: Mapping[str, Any]) -> None:
    from srflow_export.plain import PlainOptions, write_plain

    write_plain(bundle, target, PlainOptions(**options), say=click.echo)


def _write_repository(bundles: Sequence[Path], repository: Path) -> None:
    from srflow_export.triton import write_repository

    write_repository(bundles, repository, say=click.echo)


# Each returns True if all that was asked for was made.
_TASKS: dict[str, Callable[..., bool]] = {
    "--ckpt": _export,
    "--bundle": _use_bundle,
    "--checkpoint-of": _write_checkpoint,
    "--engines-for": _build_engines,
    "--compare": _compare,
}


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    groups=_GROUPS,
)
@click.argument("checkpoint", required=False, type=LocalPath())
@click.option("--ckpt", type=LocalPath(), help="The same as CHECKPOINT.")
@click.option("-o", "--output", type=LocalPath(), help="Bundle to write.  [default: CKPT.srflow]")
@click.option(
    "--no-inverter",
    is_flag=True,
    help="Leave out inverter.onnx, which makes latents from HR pictures.",
)
@click.option(
    "--fused",
    is_flag=True,
    help="Also write fused.onnx: the whole reverse pass in one graph.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Arithmetic of the graphs; the flow itself is always fp32.  [default: the engines' "
    "precision, else fp32]",
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
    help="Beside fp32 graphs, write a second encoder in int8, for --precision int8 of "
    "srflow-upscale.",
)
@click.option(
    "--plugins",
    is_flag=True,
    help="Write flow operations as nodes that native libraries run: kernels of ONNX Runtime, "
    "plugins of TensorRT.",
)
@click.option(
    "--trt",
    type=click.Choice(["fp32", "fp16"]),
    help="Add TensorRT engines for this machine's GPU.",
)
@click.option(
    "--rtx",
    type=click.Choice(["fp32", "fp16"]),
    help="Add TensorRT-RTX engines for --sm; needs no GPU.",
)
@click.option(
    "--sm",
    cls=_SeveralNumbers,
    type=int,
    multiple=True,
    metavar="89 120 …",
    help="Compute capabilities that --rtx builds for.",
)
@click.option(
    "--shapes",
    metavar="MIN,OPT,MAX",
    help="LR sizes for engines.  [default: the runtime's tiles]",
)
@click.option(
    "--builder-level",
    type=click.IntRange(0, 5),
    help="Effort to find fast kernels.  [default: 3]",
)
@click.option(
    "--blocks",
    "stacked_blocks",
    callback=_parse_blocks,
    metavar="1,8,15,22",
    help="RRDB blocks that condition the flow.",
)
@click.option(
    "--tau",
    "default_tau",
    type=_Number(0, 1),
    help="The bundle's default tau, or the plain file's of --bundle.  [default: that of the bundle "
    "which the training began with, or 0.8; less if the network's pictures are not finite there]",
)
@click.option(
    "--auto-tau",
    is_flag=True,
    help="Scale the default tau by each picture's texture, as --tau auto of srflow-upscale.",
)
@click.option(
    "--halo",
    type=click.IntRange(0, 4096),
    help="LR pixels of context around tiles.  [default: measured]",
)
@click.option(
    "--gate",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="Size of the patches on which graphs are compared with the network; full takes two to "
    "three times as long.",
)
@click.option(
    "--keep-inputs",
    type=LocalPath(),
    metavar="FOLDER",
    help="Leave what the gate compared there, as files of Polygraphy's. One that fails does so in "
    "any case.",
)
@click.option("--name", default="", help="Model's name in the manifest.  [default: the bundle's]")
@click.option("--licence", default="unknown", help="Licence of the weights, for the manifest.")
@click.option(
    "--training-data",
    default="unknown",
    help="Note on the training data, for the manifest.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Also write plain.onnx, picture to picture, for programs without latents.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    default=0,
    help="Seed of its latents.",
)
@click.option(
    "--size",
    type=click.IntRange(16, 2048),
    help="LR pixels of both its sides.  [default: any]",
)
@click.option(
    "--io",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    help="Type of its pictures.",
)
@click.option(
    "--opset",
    type=click.IntRange(17, 18),
    default=18,
    help="Of its operators, for older programs 17.",
)
@click.option(
    "--triton",
    type=PathOrUrl(),
    metavar="REPO",
    help="Also add the bundle to a model repository of Triton Inference Server, as a new version.",
)
@click.option(
    "--bundle",
    type=_BundlePath(),
    metavar="NAME|BUNDLE",
    multiple=True,
    help="Instead of --ckpt: use an existing bundle for --triton, --also or --plain; -o names what "
    "is written. For --triton it may be repeated: a model for each.",
)
@click.option(
    "--engines-for",
    type=_BundlePath(),
    metavar="NAME|BUNDLE",
    help="Instead of --ckpt: build engines for an existing bundle, on the machine that will run "
    "it.",
)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Instead of --ckpt: compare B with A on photographs; each is a bundle, a checkpoint, "
    "BUNDLE@DEVICE, BUNDLE@PRECISION, BUNDLE@DEVICE@PRECISION, or BUNDLE@engines: TensorRT's "
    "alone.",
)
@click.option(
    "--checkpoint-of",
    type=_BundlePath(),
    metavar="NAME|BUNDLE",
    help="Instead of --ckpt: write a bundle's network to -o FILE.safetensors, a checkpoint to "
    "train further.",
)
@click.version_option(__version__, prog_name="srflow-export")
@click.pass_context
def main(
    context: click.Context, /, checkpoint: Path | None, ckpt: Path | None, **options: Any
) -> None:
    """Turn a checkpoint into a bundle that the runtime, or any ONNX runtime, can use.

    CHECKPOINT is a published .pth, or a .safetensors of srflow-train.

    The graphs are compared with the checkpoint's network on real photographs, at four temperatures;
    the bundle is written only if they agree. The halo of tiles is measured on the same photographs;
    a full-size network takes a minute or two in all. If engines, or what --fused or --also asks
    for, cannot be made, the bundle is still written, and the exit status is 1. A checkpoint written
    with --checkpoint-of gives the same images as the bundle and can be trained further.

    \b
      srflow-export SRFlow_DF2K_4X.pth            writes SRFlow_DF2K_4X.srflow
      srflow-upscale photo.png -o big.png --model SRFlow_DF2K_4X.srflow
      srflow-export SRFlow_DF2K_4X.pth --trt fp16          for the GPU in this machine
      srflow-export SRFlow_DF2K_4X.pth --rtx fp16 --sm 89 120        for GeForce 40 and 50
      srflow-export --bundle SRFlow_DF2K_4X.srflow --triton models/    for Triton
      srflow-export --bundle x4-small --bundle x4-photo --triton models/    for both
      srflow-export --bundle SRFlow_DF2K_4X.srflow --also int8       faster on CPUs
      srflow-export --bundle x4-small --plain --tau 0.7 -o plain.onnx       for editors
      srflow-export --compare SRFlow_DF2K_4X.pth SRFlow_DF2K_4X.srflow@cuda
      srflow-export --compare SRFlow_DF2K_4X.srflow SRFlow_DF2K_4X.srflow@openvino@int8
      srflow-export --checkpoint-of SRFlow_DF2K_4X.srflow -o start.safetensors
    """
    mode = _choose_mode(context)
    subjects = {option: options.pop(_parameter(option)) for option in _MODES} | {
        "--ckpt": ckpt or checkpoint
    }
    engines = {_parameter(option): options.pop(_parameter(option)) for option in _ENGINES}
    plain = {_parameter(option): options.pop(_parameter(option)) for option in _PLAIN}
    try:
        with raised_interrupts(*STOPPING):
            succeeded = _TASKS[mode](
                subjects[mode],
                engines=engines,
                plain=plain if plain.pop("plain") else None,
                **options,
            )
    except (SRFlowError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        click.echo("stopped; nothing was left half written", err=True)
        sys.exit(exit_status(*stop.args))
    if not succeeded:
        sys.exit(1)
