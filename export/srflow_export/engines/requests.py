"""Requests for engines: their libraries, GPUs and LR sizes, checked before any export."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from srflow_sdk.errors import ArgumentError, ExportError, MissingExtraError
from srflow_sdk.geometry import tiles
from srflow_sdk.model.engine_records import (
    EnginePrecision,
    EngineRuntime,
    LrProfile,
    engines_command,
)
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.hardware import Gpu, cuda_of_wheels, find_gpu

OLDEST = {"tensorrt": (10, 15), "tensorrt_rtx": (1, 7)}
"""The oldest versions that have all the calls that this exporter makes, with the same meaning."""
_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}

_MOST = 1 << 14  # LR pixels per side; a larger engine would need more memory than any GPU has
_SIDE = re.compile(r"[0-9]{1,6}", re.ASCII)
_NO_CAPABILITIES = ("NONE", "CURRENT")  # CURRENT needs a GPU


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """Which engines to build.

    Attributes:
        runtime: the library.
        precision: of the graphs that they are built from.
        sms: GPUs that TensorRT-RTX builds for, as compute capabilities without the dot, such as
            (89, 120); empty for TensorRT, which builds for this machine's GPU.
        profile: LR sizes; None: those of
            :func:`srflow_export.engines.bundles.default_profile`.
        level: 0 to 5, the effort to find fast kernels; None: the library's default.
    """

    runtime: EngineRuntime
    precision: EnginePrecision
    sms: tuple[int, ...] = ()
    profile: LrProfile | None = None
    level: int | None = None


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library that can build engines on this machine.

    Attributes:
        runtime: its name in a request.
        module: the builder's `trt`.
        version: the library's own.
        gpu: the GPU that TensorRT builds for and times kernels on; None for TensorRT-RTX.
    """

    runtime: EngineRuntime
    module: Any
    version: str
    gpu: Gpu | None

    @property
    def title(self) -> str:
        """Its name for display, such as "TensorRT-RTX"."""
        return _TITLES[self.runtime]


def check_request(request: EngineRequest) -> None:
    """Refuse impossible requests, and GPUs too if the library can be loaded.

    Raises: ArgumentError.
    """
    is_rtx = request.runtime == "tensorrt_rtx"
    if is_rtx and not request.sms:
        raise ArgumentError(
            "TensorRT-RTX must know which GPUs to build for: add --sm with their compute "
            "capabilities, such as --sm 89 120 for GeForce 40 and 50"
        )
    if request.sms and not is_rtx:
        raise ArgumentError(
            "--sm goes with --rtx: TensorRT builds for this machine's own GPU; leave --sm out"
        )
    if is_rtx:
        # told later, when there is a bundle to build from
        with contextlib.suppress(MissingExtraError, ExportError):
            check_sms(load_library(request.runtime, elsewhere="").module, request.sms)


def check_sms(trt: Any, sms: Iterable[int]) -> None:
    """Refuse the first GPU that the library does not build for. Raises: ArgumentError."""
    names = trt.ComputeCapability.__members__
    known = sorted(int(name.removeprefix("SM")) for name in names if name not in _NO_CAPABILITIES)
    for sm in sms:
        if sm not in known:
            raise ArgumentError(
                f"--sm {sm}: {trt.__name__} {trt.__version__} does not build for this GPU, only "
                f"for {', '.join(map(str, known))}. Others, such as data-centre GPUs, need "
                "TensorRT itself: --trt on a machine that has one"
            )


def format_command(request: EngineRequest, *, bundle: str | os.PathLike[str] = "BUNDLE") -> str:
    """The command that builds the same engines on any machine that can."""
    command = engines_command(
        bundle,
        runtime=request.runtime,
        precision=request.precision,
        sms=request.sms,
        profile=request.profile,
    )
    return command if request.level is None else f"{command} --builder-level {request.level}"


def load_library(runtime: EngineRuntime, *, elsewhere: str) -> Library:
    """Import a library and make sure that it can build on this machine.

    Args:
        runtime: the library.
        elsewhere: the command that builds the same engines on another machine, for errors.

    Raises:
        MissingExtraError: it is not installed, or incomplete.
        ExportError: it is too old, or finds no GPU but needs one.
    """
    title = _TITLES[runtime]
    rest = f"The ONNX graphs work on any machine; to build engines on another: {elsewhere}"
    gpu = find_gpu() if runtime == "tensorrt" else None
    extra = f"tensorrt-cu{cuda_of_wheels(gpu.cuda)}" if gpu else _EXTRAS[runtime]
    install = f'pip install "srflow-sdk[{extra}]"'
    needs = (
        " It also needs an NVIDIA GPU of the kind that will run the engines."
        if runtime == "tensorrt"
        else ""
    )
    try:
        module = importlib.import_module(runtime)
        version = str(module.__version__)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no engines: {title} is not installed: {install}.{needs} {rest}"
        ) from error
    except (ImportError, OSError, AttributeError) as error:
        raise MissingExtraError(
            f"no engines: {title} is installed but does not load ({error}). Its Python module and "
            f"its libraries are separate packages that must have the same version: {install} "
            f"--force-reinstall. {rest}"
        ) from error
    if _release(version) < OLDEST[runtime]:
        oldest = ".".join(map(str, OLDEST[runtime]))
        raise ExportError(
            f"no engines: {title} {version} is too old; {oldest} is the first version that builds "
            f"these graphs: {install} --upgrade. {rest}"
        )
    if runtime == "tensorrt" and gpu is None:
        raise ExportError(
            f"no engines: {title} {version} is installed, but there is no NVIDIA GPU that this "
            "process may use. It times kernels on the GPU that will run them, so it cannot build "
            "without one. srflow-doctor says what the driver sees; a container needs --gpus all. "
            f"TensorRT-RTX (--rtx) builds without a GPU. {rest}"
        )
    return Library(runtime=runtime, module=module, version=version, gpu=gpu)


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:2])


def parse_shapes(text: str) -> LrProfile:
    """Parse `--shapes`: three LR sizes, such as "16,88,256" or "16x16,88x120,256x256".

    The latter are height×width.

    Raises: ArgumentError for anything else, and for sizes that are not in order.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise _bad_shapes(text, f"expected three sizes, not {len(parts)}")
    low, best, high = (_parse_size(text, part) for part in parts)
    return _check_order(LrProfile(min=low, opt=best, max=high), text=text)


def check_profile(profile: LrProfile, manifest: Manifest) -> None:
    """Check that sizes are in order and the model takes them. Raises: ArgumentError."""
    _check_order(profile, text=str(profile))
    multiple = manifest.size_multiple
    for size in (profile.min, profile.opt, profile.max):
        if any(side % multiple for side in size):
            fix = tiles.padded_size(size[0], multiple), tiles.padded_size(size[1], multiple)
            raise ArgumentError(
                f"--shapes {profile}: this model needs LR sides that are multiples of {multiple}, "
                f"and {_size_text(size)} is not; use {_size_text(fix)}"
            )


def _parse_size(text: str, part: str) -> tuple[int, int]:
    sides = part.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(_SIDE.fullmatch(side) for side in sides):
        raise _bad_shapes(text, f"{part!r} is not a size")
    return int(sides[0]), int(sides[-1])


def _check_order(profile: LrProfile, *, text: str) -> LrProfile:
    for low, best, high in zip(profile.min, profile.opt, profile.max, strict=True):
        if not 1 <= low <= best <= high <= _MOST:
            raise _bad_shapes(
                text, f"the smallest, best and largest size must be in order, from 1 to {_MOST}"
            )
    return profile


def _size_text(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _bad_shapes(text: str, why: str) -> ArgumentError:
    return ArgumentError(
        f"--shapes {text}: {why}; give the smallest, best and largest LR size, such as 16,88,256 "
        "for squares or 16x16,88x120,256x256 as height x width"
    )
