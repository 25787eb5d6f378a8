"""Compare any two checkpoints, bundles or devices on the exporter's photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast, get_args

from srflow_export.graphs import latent_levels
from srflow_export.parity.gate import MIN_PSNR_DB, NetworkItself, arithmetic_of, min_psnr_db, runs_on_cpus
from srflow_export.parity.measure import ParityRow, check, measure, table
from srflow_export.parity.photographs import photo_patches
from srflow_export.parity.runners import Arithmetic, Runner, backend_runner, graphs_runner, torch_runner
from srflow_sdk.backends import Backend, Device, Precision, open_backend
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.latents.random_field import LatentLevel
from srflow_sdk.model.bundle import Bundle, Manifest, bundle_path
from srflow_sdk.model.engine_records import LrProfile
from srflow_sdk.model.manifest import LEAST_DB
from srflow_sdk.system.device_names import DeviceName, split_device
from srflow_training.checkpoints import load_checkpoint
from srflow_training.model import Encoder, SRFlow

_ROUNDED = "rounded"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    name: as the user gave it. bound_db: the PSNR that its precision promises. arithmetic: in what a torch network
    rounds as this side does; None if in nothing. model: a checkpoint's network. backend: opens a device's.
    """

    name: str
    runner: Runner
    scale: int
    size_multiple: int
    latent_levels: tuple[LatentLevel, ...]
    bound_db: float
    arithmetic: Arithmetic | None
    model: SRFlow | None = None
    backend: Callable[[], Backend] | None = None

    def window_limits(self) -> list[LrProfile]:
        """LR sizes that a device takes; known only once its graphs are loaded."""
        if self.backend is None:
            return []
        backend = self.backend()
        limits = backend.window_limits
        backend.deactivate()
        return [] if limits is None else [limits]


def compare(first: str, second: str, *, say: Callable[[str], None] = lambda _: None) -> list[ParityRow]:
    """Compare the second with the first; `say` receives progress and a table, a line at a time.

    Each is `PATH` or `PATH@HOW`. PATH: a bundle or the name of an embedded one, or a checkpoint, which runs in torch.
    HOW: a device, a precision, or `DEVICE@PRECISION`, as of :func:`srflow_sdk.backends.open_backend`, where the bundle
    runs as in an application; or "rounded", its graphs rounded as on GPUs. Without HOW, its graphs run on ONNX
    Runtime's CPU provider, and the table says at which level of the flow differences arise.

    Raises: ExportError if the second is below what the lower of the two precisions promises; ArgumentError if they
    cannot be compared; what opening them raises.
    """
    one, other = open_side(first), open_side(second)
    if (one.scale, one.latent_levels) != (other.scale, other.latent_levels):
        raise ArgumentError(f"{first} and {second} cannot be compared: they differ in scale or in their latents")
    manifest = _common(one, other)
    photos = photo_patches(manifest.size_multiple, limits=[*one.window_limits(), *other.window_limits()])
    rows = measure(photos, manifest, {other.name: other.runner}, one.runner, say=say)
    for line in table(rows):
        say(line)
    bounds = {other.name: min(one.bound_db, other.bound_db)}
    if one.model is None:
        return check(rows, min_psnr_db=bounds, reference=one.name)
    itself = NetworkItself(one.model, manifest, photos, say=say)
    return check(rows, min_psnr_db=bounds, reference=one.name, own=lambda row: itself.row(row, other.arithmetic))


def open_side(text: str) -> Side:
    """Open a side as in :func:`compare`. Raises: ArgumentError, CheckpointError, BundleError, ExportError."""
    path, how = _parsed(text)
    if path.is_file():
        if how:
            words = "@".join(how)
            raise ArgumentError(f"{text}: a checkpoint runs only in torch; leave @{words} out, or name a bundle")
        model = load_checkpoint(path)
        if isinstance(model, Encoder):
            raise ExportError(f"{path} holds only an LR encoder, without a flow to sample from")
        config = model.config
        return Side(
            name=text,
            runner=torch_runner(model),
            scale=config.scale,
            size_multiple=config.size_multiple,
            latent_levels=latent_levels(config),
            bound_db=MIN_PSNR_DB["fp32"],
            arithmetic="fp64",
            model=model,
        )
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    bound_db = min_psnr_db(manifest.precision, manifest.weights)
    arithmetic = arithmetic_of(manifest.precision, manifest.weights)
    backend = None
    if how in ([], [_ROUNDED]):
        runner = graphs_runner(bundle, rounded=bool(how) or not runs_on_cpus(manifest))
    else:
        device, precision = _device_and_precision(text, how)
        backend = partial(open_backend, bundle, device=device, precision=precision)
        runner = backend_runner(backend)
        if precision != "bundle":
            bound_db = min(bound_db, LEAST_DB)
            arithmetic = "bf16" if precision == "bf16" else None
    return Side(
        name=text,
        runner=runner,
        scale=manifest.scale,
        size_multiple=manifest.size_multiple,
        latent_levels=manifest.latent_levels,
        bound_db=bound_db,
        arithmetic=arithmetic,
        backend=backend,
    )


def _parsed(text: str) -> tuple[Path, list[str]]:
    """The path, and the words that follow it, each after an @. A path may have one of its own."""
    known = (*get_args(DeviceName), *get_args(Precision), _ROUNDED)
    path, words = text, list[str]()
    while "@" in path and not bundle_path(path).exists():
        path, _, word = path.rpartition("@")
        if word.partition(":")[0] not in known:
            raise ArgumentError(f"{text}: {word!r} is not one of {', '.join(known)}")
        words.insert(0, word)
    return bundle_path(path), words


def _device_and_precision(text: str, words: list[str]) -> tuple[Device, Precision]:
    device = words.pop(0) if words[0].partition(":")[0] in get_args(DeviceName) else "auto"
    split_device(device)
    precision = words.pop(0) if words and words[0] in get_args(Precision) else "bundle"
    if words:
        raise ArgumentError(f"{text}: name a device, a precision, or DEVICE@PRECISION, such as openvino@int8")
    return device, cast(Precision, precision)


def _common(one: Side, other: Side) -> Manifest:
    """A manifest for both, with just enough to draw their latents."""
    return Manifest(
        name="",
        variant="",
        scale=one.scale,
        size_multiple=max(one.size_multiple, other.size_multiple),
        latent_levels=one.latent_levels,
        default_tau=0,
        halo=0,
        conditioning_bytes_per_pixel=1,
    )
