"""The tasks of srflow-export: a checkpoint's way into a bundle, and what is done with bundles that exist.

Each returns True if a part that was asked for could not be made. Heavy modules are imported only once the extra is
known to be installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srflow_apps.commands.base_command import wait_asleep
from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import INT8_ENCODER, Precision
from srflow_sdk.system.raising import require_extra

if TYPE_CHECKING:
    from srflow_export.engines import EngineRequest
    from srflow_export.exporter import Also, Gate

_REPOSITORY_MODULES = ("filelock",)
_ENGINE_MODULES = ("onnx", "filelock")  # machines that build their own engines often have no torch
_MODULES = (*_ENGINE_MODULES, "torch", "safetensors", "yaml")
_FILE_SUFFIXES = (".onnx", ".pth", ".pt", ".ckpt", ".safetensors", ".engine", ".plan")  # a bundle is a directory


def export(
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
    """Write a checkpoint's bundle. engines, plain: the options on them. more: as ExportOptions has them."""
    target = _target(ckpt, output)  # before seconds of loading torch
    _get_ready(*_MODULES)
    requests = _engine_requests(**engines)
    from srflow_export.exporter import ExportOptions, export_checkpoint

    if triton is not None:
        from srflow_export.triton import check_repository

        check_repository(triton)  # before minutes of work
    options = ExportOptions(inverter=not no_inverter, precision=_graphs_precision(precision, requests), **more)
    manifest = export_checkpoint(ckpt, target, options, say=click.echo)
    click.echo(f"wrote {target}")
    asked = {"fused.onnx": "--fused"} if options.fused else {}
    asked |= {INT8_ENCODER: "--also int8"} if options.also else {}
    missing = [name for name in asked if name not in manifest.files]
    for name in missing:  # the bundle is good without them, but a script must notice
        click.echo(f"error: the bundle has no {name}, which {asked[name]} asks for: it was left out", err=True)
    failed = _add_engines(target, requests) or bool(missing)
    if plain is not None:
        _write_plain(target, target.with_name("plain.onnx"), plain)
    if triton is not None:
        _write_repository([target], triton)
    return failed


def use_bundle(
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
    """Write a bundle with a second encoder or a plain file, or add it, or several, to a repository of models."""
    for bundle in bundles:
        Bundle._described(bundle)
    _get_ready(*(_MODULES if also or plain is not None else _REPOSITORY_MODULES))
    if also:
        from srflow_export.exporter import add_int8_encoder

        (source,) = bundles
        bundles = [_bundle_name(output or source)]
        add_int8_encoder(source, bundles[0], gate=gate, say=click.echo)
        click.echo(f"wrote {bundles[0]}")
    if plain is not None:
        _write_plain(bundles[0], output or Path("plain.onnx"), {"tau": default_tau, **plain})
    if triton is not None:
        _write_repository(bundles, triton)
    return False


def build_engines(bundle: Path, *, engines: Mapping[str, Any], **_: Any) -> bool:
    """Build engines for a bundle, on the machine that will run it."""
    _get_ready(*_ENGINE_MODULES)
    return _add_engines(bundle, _engine_requests(**engines))


def compare(models: tuple[str, str], **_: Any) -> bool:
    """Compare two models on photographs."""
    _get_ready(*_MODULES)
    from srflow_export.parity.compare import compare as compare_two

    compare_two(*models, say=click.echo)
    return False


def write_checkpoint(bundle: Path, *, output: Path, **_: Any) -> bool:
    """Write a bundle's network as a checkpoint, and how to train it further."""
    Bundle._described(bundle)
    _get_ready(*_MODULES)
    from srflow_export.unfolding import write_checkpoint_of

    written = write_checkpoint_of(bundle, output)
    click.echo(f"wrote {output}")
    if written.collapsed:
        click.echo("its encoder's kernels are collapsed; a run that starts from it composes them again")
    if Path(written.config) == output.with_suffix(".yaml"):
        click.echo(f"wrote {written.config}")
    start = f"schedule.start={shlex.quote(str(output))}"
    click.echo(f"train it: srflow-train --config {shlex.quote(written.config)} --set {start} --data PHOTOS --out RUN")
    return False


def _get_ready(*modules: str) -> None:
    """Check that the modules of the extra are installed. Raises: MissingExtraError."""
    wait_asleep()
    for module in modules:
        require_extra(module, "export")


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


def _engine_requests(
    *,
    trt: Any,
    rtx: Any,
    sm: tuple[int, ...],
    shapes: str | None,
    builder_level: int | None,
    timing_cache: Path | None,
) -> list[EngineRequest]:
    """The engines that the options ask for. Raises: ArgumentError."""
    from srflow_export.engines import EngineRequest, check_request, parse_shapes

    more: dict[str, Any] = {"profile": None if shapes is None else parse_shapes(shapes), "level": builder_level}
    requests = []
    if trt is not None:
        mine = () if rtx is not None else sm
        requests.append(EngineRequest(runtime="tensorrt", precision=trt, sms=mine, timing_cache=timing_cache, **more))
    if rtx is not None:
        cache = timing_cache if trt is None else None  # else it is TensorRT's
        requests.append(EngineRequest(runtime="tensorrt_rtx", precision=rtx, sms=sm, timing_cache=cache, **more))
    for request in requests:
        check_request(request)
    return requests


def _graphs_precision(asked: Precision | None, requests: list[EngineRequest]) -> Precision:
    """Precision of the bundle's graphs: as asked for, otherwise as the engines need it. Raises: ArgumentError."""
    wanted = {request.precision for request in requests}
    if asked is None:
        # float32 engines can be built from the float32 graphs that are written beside half-precision ones.
        return "fp16" if "fp16" in wanted else "fp32"
    if odd := sorted(wanted - {asked, "fp32"}):
        raise ArgumentError(
            f"engines in {odd[0]} are built from graphs in {odd[0]}: leave --precision out, or use --precision {odd[0]}"
        )
    return asked


def _add_engines(bundle: Path, requests: list[EngineRequest]) -> bool:
    """Build every engine that can be built, then report the failures; whether there were any."""
    from srflow_export.engines import add_engines

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
    return bool(failures)


def _write_plain(bundle: Path, target: Path, options: Mapping[str, Any]) -> None:
    from srflow_export.plain import PlainOptions, write_plain

    write_plain(bundle, target, PlainOptions(**options), say=click.echo)


def _write_repository(bundles: Sequence[Path], repository: Path) -> None:
    from srflow_export.triton import write_repository

    write_repository(bundles, repository, say=click.echo)
