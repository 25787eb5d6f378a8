"""Requests for engines: what they hold, checks before anything is exported, and the equivalent command."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field

from srflow_export.engines._builder import BuilderOptions, check_sms
from srflow_export.engines._library import load_library
from srflow_export.engines._timing_cache import read_measurements
from srflow_sdk.errors import ArgumentError, ExportError, MissingExtraError
from srflow_sdk.model.engine_records import EnginePrecision, EngineRuntime, LrProfile, engines_command


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """Which engines to build.

    runtime: the library. precision: of the graphs that they are built from. sms: GPUs that TensorRT-RTX builds for, as
    compute capabilities without the dot, such as (89, 120); empty for TensorRT, which builds for this machine's GPU.
    profile: LR sizes; None: those of :attr:`srflow_sdk.model.manifest.Manifest.default_profile`. builder: how they are
    built.
    """

    runtime: EngineRuntime
    precision: EnginePrecision
    sms: tuple[int, ...] = ()
    profile: LrProfile | None = None
    builder: BuilderOptions = field(default_factory=BuilderOptions)


def check_request(request: EngineRequest) -> None:
    """Refuse impossible requests before anything is exported. Raises: ArgumentError."""
    is_rtx = request.runtime == "tensorrt_rtx"
    if is_rtx and not request.sms:
        raise ArgumentError(
            "TensorRT-RTX must know which GPUs to build for: add --sm with their compute capabilities, such as "
            "--sm 89 120 for GeForce 40 and 50"
        )
    if request.sms and not is_rtx:
        raise ArgumentError("--sm goes with --rtx: TensorRT builds for this machine's own GPU; leave --sm out")
    builder = request.builder
    if builder.timing_cache is not None and is_rtx:
        raise ArgumentError("TensorRT-RTX does not time kernels while it builds: leave the timing cache out")
    if builder.timing_cache is not None:
        if not builder.timing_cache.parent.is_dir():
            raise ArgumentError(f"{builder.timing_cache}: its folder does not exist; create it, or name another file")
        read_measurements(builder.timing_cache)
    if builder.level is not None and not 0 <= builder.level <= 5:
        raise ArgumentError(f"the builder level is {builder.level}; it must be from 0 to 5")
    if builder.workspace is not None and builder.workspace < 1 << 20:
        raise ArgumentError(f"the workspace is {builder.workspace} bytes; give it at least 1 MiB, or leave it out")


def check_targets(request: EngineRequest) -> None:
    """Let the library refuse GPUs before anything is exported; does nothing if the library cannot be loaded.

    Raises: ArgumentError for a GPU that it does not build for.
    """
    if not request.sms:
        return
    try:
        library = load_library(request.runtime, elsewhere="")
    except (MissingExtraError, ExportError):
        return  # reported when the build starts: by then there is a bundle for its command to name
    check_sms(library.module, request.sms)


def command_of(request: EngineRequest, *, bundle: str | os.PathLike[str] = "BUNDLE") -> str:
    """The command that builds the same engines on any machine that can."""
    command = engines_command(
        bundle, runtime=request.runtime, precision=request.precision, sms=request.sms, profile=request.profile
    )
    words = []
    if request.builder.level is not None:
        words += ["--builder-level", str(request.builder.level)]
    if request.builder.workspace is not None:
        words += ["--workspace", _gibibytes(request.builder.workspace)]
    return f"{command} {shlex.join(words)}" if words else command


def _gibibytes(size: int) -> str:
    """The shortest number of GiB that srflow-export reads back as the same bytes."""
    numbers = (f"{size / 2**30:.{digits}g}" for digits in range(4, 18))
    return next(number for number in numbers if int(float(number) * 2**30) == size)
