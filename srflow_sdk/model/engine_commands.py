"""The command that builds engines into a bundle, for every message that suggests it."""

from __future__ import annotations

import os
import shlex

from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EnginePrecision, EngineRecord, EngineRuntime, LrProfile

RTX_SMS = (75, 80, 86, 89, 120, 121)
"""GPUs that TensorRT-RTX 1.7 builds for, as its ComputeCapability names them; others need TensorRT."""


def engines_command(
    bundle: str | os.PathLike[str],
    *,
    runtime: EngineRuntime,
    precision: EnginePrecision,
    sms: tuple[int, ...] = (),
    profile: LrProfile | None = None,
) -> str:
    """The command as a line for a POSIX shell. The arguments are those of the exporter's `EngineRequest`.

    sms: only TensorRT-RTX builds for other GPUs than this machine's.
    """
    option = "--trt" if runtime == "tensorrt" else "--rtx"
    words = ["srflow-export", "--engines-for", os.fspath(bundle), option, precision]
    if sms and runtime == "tensorrt_rtx":
        words += ["--sm", *map(str, sorted(set(sms)))]
    if profile is not None:
        words += ["--shapes", str(profile)]
    return shlex.join(words)


def first_command(bundle: Bundle, *, runtime: EngineRuntime, compute_capability: str | None) -> str:
    """The command that builds a bundle's first engines, for this GPU or, without one, for GeForce 40 and 50."""
    precision: EnginePrecision = "fp16" if bundle.manifest.precision == "fp16" else "fp32"
    sms = (89, 120) if compute_capability is None else (_sm(compute_capability),)
    return engines_command(bundle.path, runtime=_building(runtime, sms, RTX_SMS), precision=precision, sms=sms)


def rebuild_command(bundle: Bundle, record: EngineRecord, *, compute_capability: str, shapes: bool = True) -> str:
    """The command that builds engines again: for the record's GPUs if this one is among them, otherwise for this one.

    compute_capability: this GPU's, such as "8.9". shapes: include the record's sizes if they are not the default; False
    leaves them for the reader to add.
    """
    built = tuple(map(_sm, record.compute_capabilities))
    sms = built if (mine := _sm(compute_capability)) in built else (mine,)
    profile = record.profile if shapes and record.profile != bundle.manifest.default_profile else None
    runtime = _building(record.runtime, sms, (*RTX_SMS, *built))
    return engines_command(bundle.path, runtime=runtime, precision=record.precision, sms=sms, profile=profile)


def _building(runtime: EngineRuntime, sms: tuple[int, ...], known: tuple[int, ...]) -> EngineRuntime:
    """The library to build with: TensorRT if TensorRT-RTX does not support these GPUs, such as data-centre ones."""
    return runtime if set(sms) <= set(known) else "tensorrt"


def _sm(compute_capability: str) -> int:
    return int(compute_capability.replace(".", ""))
