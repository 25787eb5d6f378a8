"""Checkpoint file → bundle directory, atomically, through the parity gate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from srflow_export import graphs, onnx_models, parity
from srflow_export.halo import HaloRow, measured_halo
from srflow_sdk.bundle import Bundle, LatentLevel, Manifest, file_sha256, staged_bundle
from srflow_sdk.errors import ExportError
from srflow_training.checkpoints import load_checkpoint
from srflow_training.checkpoints.io import read_notes
from srflow_training.model import RRDB, SRFlow

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a checkpoint becomes a bundle.

    fused: also write fused.onnx. weights: how large weights are stored, "fp16" halves the files (arithmetic stays
    float32). config: published YAML, instead of detecting the network. stacked_blocks: see load_checkpoint.
    default_tau: what the runtime uses when asked for none. halo: LR pixels of context around a tile; None: measured,
    see :func:`srflow_export.halo.measured_halo`.
    name, licence, training_data: for the manifest.
    """

    fused: bool = False
    weights: Literal["fp32", "fp16"] = "fp32"
    config: Path | None = None
    stacked_blocks: tuple[int, ...] | None = None
    default_tau: float = 0.8
    halo: int | None = None
    name: str = ""
    licence: str = "unknown"
    training_data: str = "unknown"


def export_checkpoint(
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write the bundle `target`; `say` gets lines of progress. An older bundle there is replaced when all is proved.

    Raises: CheckpointError if the checkpoint cannot be used, ExportError if the graphs are not equal to its network,
    BundleError if the target cannot be written. In each case nothing is left behind and an older bundle stays.
    """
    model = load_checkpoint(checkpoint, config=options.config, stacked_blocks=options.stacked_blocks)
    if isinstance(model, RRDB):
        raise ExportError(
            f"{checkpoint}: holds an RRDB encoder alone, without a flow to sample from; train one on it with "
            "srflow-train --set schedule.encoder=FILE, or name an SRFlow checkpoint"
        )
    say(_described(model))
    manifest = _manifest(model, checkpoint, target, options)
    with staged_bundle(target) as stage:
        for name, content in _onnx_files(model, manifest, options):
            (stage.path / name).write_bytes(content)
            say(f"{name}: {len(content) / 1e6:.1f} MB")
            manifest.files[name] = {}  # the stage fills in size and hash
        staged = Bundle(path=stage.path, manifest=manifest)
        rows = parity.measure(model, staged)
        for row in rows:
            say(_row_line(row))
        parity.check(rows, weights=options.weights)
        if options.halo is None:
            manifest = with_measured_halo(staged, say=say)
        manifest = dataclasses.replace(manifest, parity=[row.to_dict() for row in rows], files={})
        return stage.commit(manifest)


def with_measured_halo(bundle: Bundle, *, say: Callable[[str], None] = lambda _: None) -> Manifest:
    """The bundle's manifest with the halo that its graphs need, and the measurement as `provenance["halo"]`."""
    row, smaller = measured_halo(bundle)
    say(_halo_line(row))
    if not row.is_enough:
        logger.warning(
            "tiles of this network differ from the untiled picture even with a halo of %d LR pixels: expect seams, or "
            'use tile="none"',
            row.halo,
        )
    record = {"measured": row.to_dict(), "next_smaller": smaller and smaller.to_dict()}
    provenance = {**bundle.manifest.provenance, "halo": record}
    return dataclasses.replace(bundle.manifest, halo=row.halo, provenance=provenance)


def _onnx_files(model: SRFlow, manifest: Manifest, options: ExportOptions) -> list[tuple[str, bytes]]:
    protos = {"encoder.onnx": onnx_models.encoder_model(model), "sampler.onnx": onnx_models.sampler_model(model)}
    if options.fused:
        protos["fused.onnx"] = onnx_models.fused_model(protos["encoder.onnx"], protos["sampler.onnx"])
    files = []
    for name, proto in protos.items():
        if options.weights == "fp16":
            onnx_models.store_weights_in_half(proto)
        files.append((name, onnx_models.finished(proto, _metadata(manifest))))
    return files


def _metadata(manifest: Manifest) -> dict[str, str]:
    """What a lone .onnx says about itself."""
    checkpoint = manifest.provenance["checkpoint"]
    return {
        "srflow.schema": str(manifest.schema),
        "srflow.name": manifest.name,
        "srflow.variant": manifest.variant,
        "srflow.scale": str(manifest.scale),
        "srflow.size_multiple": str(manifest.size_multiple),
        "srflow.latent_scheme": str(manifest.latent_scheme),
        "srflow.latent_levels": ",".join(f"{level.level}:{level.channels}" for level in manifest.latent_levels),
        "srflow.default_tau": f"{manifest.default_tau:g}",
        "srflow.checkpoint_sha256": str(checkpoint["sha256"]),
        "srflow.licence": str(manifest.provenance["licence"]),
    }


def _manifest(model: SRFlow, checkpoint: Path, target: Path, options: ExportOptions) -> Manifest:
    config = model.config
    return Manifest(
        name=options.name or target.name.removesuffix(".srflow"),
        variant=config.variant,
        scale=config.scale,
        size_multiple=config.size_multiple,
        latent_levels=tuple(
            LatentLevel(level=shape.level, channels=shape.latent_channels)
            for shape in config.level_shapes
            if shape.latent_channels
        ),
        default_tau=options.default_tau,
        halo=0 if options.halo is None else options.halo,
        conditioning_bytes_per_pixel=graphs.conditioning_bytes_per_pixel(config),
        weights=options.weights,
        model=config.to_dict(),
        provenance=_provenance(checkpoint, options),
    )


def _provenance(checkpoint: Path, options: ExportOptions) -> dict[str, Any]:
    tools = ("srflow-sdk", "torch", "onnx", "onnxscript", "onnxruntime")
    return {
        "checkpoint": {"file": checkpoint.name, "sha256": file_sha256(checkpoint)},
        "tools": {tool: _version(tool) for tool in tools},
        "training": read_notes(checkpoint),
        "training_data": options.training_data,
        "licence": options.licence,
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _described(model: SRFlow) -> str:
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"×{config.scale} {config.variant}: {config.blocks} RRDB blocks of {config.nf} channels (stacked "
        f"{', '.join(map(str, config.stacked_blocks))}), L = {config.levels}, K = {config.steps}, "
        f"{parameters / 1e6:.2f} M parameters"
    )


def _row_line(row: parity.ParityRow) -> str:
    line = f"{row.graph:<16} tau {row.tau:<4g} {row.psnr_db:6.1f} dB, largest difference {row.max_abs:.1e}"
    if row.diverged:
        line += f"; {row.diverged} patches left out: the checkpoint's own network diverges there"
    return line


def _halo_line(row: HaloRow) -> str:
    return (
        f"halo {row.halo}: tiles differ from the untiled picture by at most {255 * row.max_abs:.2g}/255, "
        f"on average {255 * row.mean_abs:.2g}/255"
    )
