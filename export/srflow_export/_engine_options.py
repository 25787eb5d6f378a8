"""srflow-export's options on engines, and what it does and says with them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.model.manifest import Precision

if TYPE_CHECKING:
    from srflow_export.engines import BuilderOptions, EngineRequest


def _builder_options(
    *, builder_level: int | None, workspace: float | None, timing_cache: Path | None, no_cache: bool
) -> BuilderOptions:
    """The options on how engines are built. Raises: ArgumentError."""
    from srflow_export.engines import BuilderOptions

    if workspace is not None and math.isnan(workspace):  # click's range lets NaN through
        raise ArgumentError("--workspace is not a number")
    size = None if workspace is None else int(workspace * 2**30)
    return BuilderOptions(level=builder_level, workspace=size, timing_cache=timing_cache, use_cache=not no_cache)


def engine_requests(
    *, trt: Any, rtx: Any, sm: tuple[int, ...], shapes: str | None, **builder: Any
) -> list[EngineRequest]:
    """The engines that the options ask for. Raises: ArgumentError."""
    from srflow_export.engines import EngineRequest, check_request, check_targets, parse_shapes

    profile = None if shapes is None else parse_shapes(shapes)
    options = _builder_options(**builder)
    requests = []
    if trt is not None:
        mine = () if rtx is not None else sm
        requests.append(EngineRequest(runtime="tensorrt", precision=trt, sms=mine, profile=profile, builder=options))
    if rtx is not None:
        untimed = options if trt is None else dataclasses.replace(options, timing_cache=None)
        requests.append(EngineRequest(runtime="tensorrt_rtx", precision=rtx, sms=sm, profile=profile, builder=untimed))
    for request in requests:
        check_request(request)
        check_targets(request)
    return requests


def add_engines_saying(bundle: Path, requests: list[EngineRequest]) -> bool:
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


def graphs_precision(asked: Precision | None, requests: list[EngineRequest]) -> Precision:
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
