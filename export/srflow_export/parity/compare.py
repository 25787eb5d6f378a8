"""Compare any two checkpoints, bundles or devices on the exporter's photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast, get_args

from srflow_export.graphs import latent_levels
from srflow_export.parity.gate import MIN_PSNR_DB, arithmetic_of, min_psnr_db
from srflow_export.parity.measure import Comparison, ParityRow
from srflow_export.parity.photographs import photo_patches
from srflow_export.parity.runners import (
    Arithmetic,
    Runner,
    backend_runner,
    engines_runner,
    graphs_runner,
    torch_runner,
)
from srflow_export.progress import Say
from srflow_sdk.backends import Device, Precision, open_backend
from srflow_sdk.backends.tensorrt import select_engines
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.model.bundle import Bundle, Manifest, bundle_path
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import LEAST_DB
from srflow_sdk.system.hardware import DeviceName, split_device
from srflow_training.checkpoints import load_checkpoint
from srflow_training.model import Encoder, SRFlow

_ROUNDED = "rounded"
_ENGINES = "engines"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    manifest: of a checkpoint, one with just enough to draw its latents. bound_db: the PSNR that its
    precision promises.
    arithmetic: in what a torch network rounds as this side does; None if in nothing. model: a
    checkpoint's network.
    limits: the LR sizes that it takes; None: any.
    """

    runner: Runner
    manifest: Manifest
    bound_db: float
    arithmetic: Arithmetic | None
    model: SRFlow | None = None
    limits: LrProfile | None = None


def compare(first: str, second: str, *, say: Say = lambda _: None) -> list[ParityRow]:
    """Compare the second with the first; `say` receives progress and a table, a line at a time.

    Each is `PATH` or `PATH@HOW`. PATH: a bundle or the name of an embedded one, or a checkpoint,
    which runs in torch. HOW: a device, a precision, or `DEVICE@PRECISION`, as of
    :func:`srflow_sdk.backends.open_backend`, where the bundle runs as in an application; or
    "rounded", its graphs rounded as on GPUs; or "engines", its TensorRT engines without the SDK
    around them. Without HOW, its graphs run on ONNX Runtime's CPU provider, and the table says at
    which level of the flow differences arise.

    Raises: ExportError if the second is below what the lower of the two precisions promises;
    ArgumentError if they cannot be compared; what opening them raises.
    """
    one = open_side(first)
    other = open_side(second)
    ends = [(side.manifest.scale, side.manifest.latent_levels) for side in (one, other)]
    if ends[0] != ends[1]:
        raise ArgumentError(
            f"{first} and {second} cannot be compared: they differ in scale or in their latents"
        )
    multiple = max(one.manifest.size_multiple, other.manifest.size_multiple)
    limits = [side.limits for side in (one, other) if side.limits is not None]
    manifest = replace(one.manifest, size_multiple=multiple)
    photos = photo_patches(multiple, limits=limits)
    comparison = Comparison(photos, manifest, one.runner, name=first, model=one.model, say=say)
    bound_db = min(one.bound_db, other.bound_db)
    return comparison.check(second, other.runner, bound_db=bound_db, arithmetic=other.arithmetic)


def open_side(text: str) -> Side:
    """Open a side as in :func:`compare`.

    Raises: ArgumentError, CheckpointError, BundleError, ExportError.
    """
    path, how = _split_words(text)
    if path.is_file():
        if how:
            words = "@".join(how)
            raise ArgumentError(
                f"{text}: a checkpoint runs only in torch; leave @{words} out, or name a bundle"
            )
        return _open_checkpoint(path)
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    bound_db = min_psnr_db(manifest.precision, manifest.weights)
    arithmetic = arithmetic_of(manifest.precision, manifest.weights)
    limits = None
    if how in ([], [_ROUNDED]):
        runner = graphs_runner(bundle, rounded=bool(how) or manifest.precision == "bf16")
    elif how == [_ENGINES]:
        record, *_ = select_engines(bundle)
        runner = engines_runner(bundle, record)
        limits = record.profile
    else:
        device, precision = _parse_how(text, how)
        backend = partial(open_backend, bundle, device=device, precision=precision)
        runner = backend_runner(backend)
        opened = backend()
        limits = opened.window_limits  # known once its graphs are loaded
        opened.deactivate()
        if precision != "bundle":
            bound_db = min(bound_db, LEAST_DB)
            arithmetic = "bf16" if precision == "bf16" else None
    return Side(
        runner=runner,
        manifest=manifest,
        bound_db=bound_db,
        arithmetic=arithmetic,
        limits=limits,
    )


def _open_checkpoint(path: Path) -> Side:
    model = load_checkpoint(path)
    if isinstance(model, Encoder):
        raise ExportError(f"{path} holds only an LR encoder, without a flow to sample from")
    manifest = Manifest(
        name="",
        variant="",
        scale=model.config.scale,
        size_multiple=model.config.size_multiple,
        latent_levels=latent_levels(model.config),
        default_tau=0,
        halo=0,
        conditioning_bytes_per_pixel=1,
    )
    return Side(
        runner=torch_runner(model),
        manifest=manifest,
        bound_db=MIN_PSNR_DB["fp32"],
        arithmetic="fp64",
        model=model,
    )


def _split_words(text: str) -> tuple[Path, list[str]]:
    """The path, and the words that follow it, each after an @. A path may have one of its own."""
    known = (*get_args(DeviceName), *get_args(Precision), _ROUNDED, _ENGINES)
    path = text
    words = list[str]()
    while "@" in path and not bundle_path(path).exists():
        path, _, word = path.rpartition("@")
        if word.partition(":")[0] not in known:
            raise ArgumentError(f"{text}: {word!r} is not one of {', '.join(known)}")
        words.insert(0, word)
    return bundle_path(path), words


def _parse_how(text: str, words: list[str]) -> tuple[Device, Precision]:
    device = words.pop(0) if words[0].partition(":")[0] in get_args(DeviceName) else "auto"
    split_device(device)
    precision = words.pop(0) if words and words[0] in get_args(Precision) else "bundle"
    if words:
        raise ArgumentError(
            f"{text}: name a device, a precision, or DEVICE@PRECISION, such as openvino@int8"
        )
    return device, cast(Precision, precision)
