"""Turn a checkpoint file into a bundle directory, atomically, through the parity gate."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import onnx
import onnxruntime
import torch
from onnx import ModelProto

import srflow_sdk
from srflow_export import graphs, onnx_models
from srflow_export.bundle_writer import staged_bundle
from srflow_export.halo import add_halo, add_inverter_halo
from srflow_export.parity.gate import (
    FUSED,
    INT8_GRAPHS,
    float32_backend,
    inverse_table,
    min_psnr_db,
    poor_round_trip,
    prove,
    prove_fused,
    prove_int8_encoder,
    prove_inverse,
    tau_of_finite_pictures,
)
from srflow_export.parity.measure import Comparison, ParityRow
from srflow_export.parity.photographs import PATCHES, photo_patches
from srflow_export.parity.runners import Runner, load_graph, make_graphs_runner, make_torch_runner
from srflow_export.progress import Progress, Say
from srflow_export.quantisation import int8_encoder
from srflow_export.unfolding import trainable_network
from srflow_sdk.backends import Backend
from srflow_sdk.errors import ArgumentError, ExportError
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import (
    FP32_GRAPHS,
    INT8_ENCODER,
    INVERTER,
    REQUIRED_FILES,
    Precision,
    Weights,
)
from srflow_sdk.plain_text import printable
from srflow_sdk.system.local_files import file_sha256
from srflow_training.checkpoints import default_tau_of, load_with_notes, read_lr_reduction
from srflow_training.model import Encoder, SRFlow

Gate = Literal["quick", "full"]
"""How much of the photographs is compared."""

Also = Literal["int8"]
"""A second encoder that an export may hold beside its own graphs."""

_USUAL_TAU = 0.8
_LONGEST = 500  # characters of the reason why a part is left out
_QUANTISING = "quantising the encoder, calibrated on photographs"
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a checkpoint becomes a bundle.

    fused.onnx, inverter.onnx and a second encoder are optional parts: one that cannot be made or
    proved is left out.

    Attributes:
        fused: also write fused.onnx.
        inverter: write inverter.onnx.
        precision: of the arithmetic, see :mod:`srflow_export.graphs`; below "fp32", float32 graphs
            are written as well, with which the runtime draws tiles that are not finite again.
        weights: how large weights of float32 graphs are stored; "fp16" halves the files.
        also: "int8" adds a second encoder to float32 graphs, see :func:`add_int8_encoder`.
        plugins: write flow operations as nodes for a native library, see
            :mod:`srflow_export.flow_ops`.
        stacked_blocks: see load_checkpoint.
        default_tau: used where no tau is given; None: that of the bundle which the training began
            with, or 0.8, or less if the network's pictures are not finite there.
        auto_tau: scale it by the picture's texture, as ``tau="auto"``.
        halo: LR pixels of context around a tile; None measures it and the inverter's own.
        gate: how much of the photographs is compared.
        keep_inputs: a folder in which the gate leaves what it compared, for Polygraphy. A gate that
            fails does so in any case, beside the bundle in a folder that ends in .gate.
        name: for the manifest.
        licence: for the manifest.
        training_data: for the manifest.
    """

    fused: bool = False
    inverter: bool = True
    precision: Precision = "fp32"
    weights: Weights = "fp32"
    also: tuple[Also, ...] = ()
    plugins: bool = False
    stacked_blocks: tuple[int, ...] | None = None
    default_tau: float | None = None
    auto_tau: bool = False
    halo: int | None = None
    gate: Gate = "quick"
    keep_inputs: Path | None = None
    name: str = ""
    licence: str = "unknown"
    training_data: str = "unknown"


def export_checkpoint(
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    *,
    say: Say = lambda _: None,
) -> Manifest:
    """Write the bundle `target`, replacing an older one once all is proved.

    An optional part that cannot be made, or differs from the network, ends nothing: it is left out,
    `say` receives one line, and `provenance["left_out"]` has the reason by the file's name. On any
    error no part of a bundle is left behind, and an older one stays.

    Args:
        checkpoint: a published .pth, or a .safetensors of srflow-train.
        target: the bundle.
        options: how.
        say: receives lines of progress.

    Returns:
        The manifest as written.

    Raises:
        ArgumentError: options exclude each other.
        CheckpointError: the checkpoint cannot be used.
        ExportError: the required graphs do not agree with its network.
        BundleError: the target cannot be written.
        OSError: there can be no `keep_inputs`.
    """
    _check_options(options)
    if options.keep_inputs is not None:
        options.keep_inputs.mkdir(parents=True, exist_ok=True)  # before minutes of work
    model, notes = _read_network(checkpoint, options)
    say(_describe(model))
    manifest = _manifest(model, checkpoint, target, options, notes=notes)
    with staged_bundle(target, say=say) as stage:
        staged = Bundle(path=stage.path, manifest=manifest)
        optional = _OptionalParts(staged, say)
        for name, content in _onnx_files(model, manifest, options, optional, say):
            (stage.path / name).write_bytes(content)
            say(f"{name}: {len(content) / 1e6:.1f} MB")
            manifest.files[name] = {}  # the stage fills in size and hash
        return stage.commit(
            _prove(model, staged, options, optional, say, failed=target.with_suffix(".gate"))
        )


def add_int8_encoder(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    gate: Gate = "quick",
    say: Say = lambda _: None,
) -> Manifest:
    """Write the bundle `target`: that of `source` with encoder.int8.onnx, in place of an older one.

    The network is taken from the bundle's graphs, and the new encoder is compared with the bundle's
    float32 one on photographs. Other files, engines included, are copied as they are. The target
    changes once all is proved, under the bundle's lock, and stays as it was on any error.
    Deterministic.

    Args:
        source: a bundle.
        target: the bundle to write; it may be `source`.
        gate: how much of the photographs is compared.
        say: receives lines of progress.

    Raises:
        ArgumentError: the bundle's graphs are not float32.
        BundleError: it cannot be read or written, or has an older exporter's layout.
        ExportError: int8 is too coarse for the network.
    """
    if (precision := Bundle.open(source).manifest.precision) != "fp32":
        raise ArgumentError(
            f"{source} has graphs in {precision}; a second encoder in int8 goes with float32 "
            "graphs: export the checkpoint with --precision fp32 --also int8"
        )
    with staged_bundle(target, say=say) as stage:
        bundle = Bundle.open(source)
        model = trainable_network(bundle)
        stage.copy(bundle, bundle.manifest.files)
        say(_QUANTISING)
        content = onnx_models.serialise(
            int8_encoder(model), _make_metadata(bundle.manifest, precision="int8")
        )
        (stage.path / INT8_ENCODER).write_bytes(content)
        say(f"{INT8_ENCODER}: {len(content) / 1e6:.1f} MB")
        manifest = dataclasses.replace(
            bundle.manifest, files={**bundle.manifest.files, INT8_ENCODER: {}}
        )
        staged = Bundle(path=stage.path, manifest=manifest)
        comparison = _make_comparison(
            manifest,
            make_graphs_runner(bundle),
            gate,
            name="the float32 graphs",
            say=say,
        )
        with _keep_inputs(
            comparison,
            staged,
            INT8_ENCODER,
            failed=stage.target.with_suffix(".gate"),
        ):
            rows = prove_int8_encoder(comparison, staged)
        kept = [row for row in manifest.parity if row.get("graph") != INT8_GRAPHS]
        parity = [*kept, *map(asdict, rows)]
        return stage.commit(dataclasses.replace(manifest, parity=parity, files={}))


def _check_options(options: ExportOptions) -> None:
    """Raises: ArgumentError for options that exclude each other."""
    if options.plugins and options.precision == "bf16":
        raise ArgumentError(
            "the native kernels do not support bfloat16: leave --plugins out, or export in fp16"
        )
    if options.also and options.precision != "fp32":
        raise ArgumentError(
            f"a second encoder in int8 goes with float32 graphs, not with {options.precision}: "
            "leave --also int8 out, or use --precision fp32"
        )


def _read_network(checkpoint: Path, options: ExportOptions) -> tuple[SRFlow, dict[str, Any]]:
    """Read a checkpoint's network and notes. Raises: CheckpointError, ExportError for no flow."""
    model, notes = load_with_notes(checkpoint, stacked_blocks=options.stacked_blocks)
    if isinstance(model, Encoder):
        raise ExportError(
            f"{checkpoint} holds only an LR encoder, without a flow to sample from; train a flow "
            "with srflow-train --set schedule.encoder=FILE, or name an SRFlow checkpoint"
        )
    return model, notes


def _prove(
    model: SRFlow,
    staged: Bundle,
    options: ExportOptions,
    optional: _OptionalParts,
    say: Say,
    *,
    failed: Path,
) -> Manifest:
    """Compare the graphs with the network and measure their halos; return the manifest.

    Raises: ExportError.

    failed: where a gate that fails leaves what it compared.
    """
    reference = make_torch_runner(model)
    name = "the checkpoint's network"
    comparison = _make_comparison(
        staged.manifest,
        reference,
        options.gate,
        name=name,
        model=model,
        say=say,
    )
    with _keep_inputs(
        comparison,
        staged,
        REQUIRED_FILES[0],
        asked=options.keep_inputs,
        failed=failed,
    ):
        rows = prove(comparison, staged)
    for name, prove_part in ((FUSED, prove_fused), (INT8_ENCODER, prove_int8_encoder)):
        if name in staged.manifest.files:
            rows += optional.attempt(name, partial(prove_part, comparison, staged), otherwise=[])
    manifest = _set_finite_tau(staged.manifest, rows, options, say=say)
    with float32_backend(staged) as backend:
        if options.halo is None:
            manifest = add_halo(manifest, backend, say=say)
        if INVERTER in manifest.files:
            bundle = dataclasses.replace(staged, manifest=manifest)
            proving = partial(_prove_inverter, model, bundle, backend, options, say)
            manifest = optional.attempt(INVERTER, proving, otherwise=manifest)
    left_out = {"left_out": optional.left_out} if optional.left_out else {}
    return dataclasses.replace(
        manifest,
        provenance={**manifest.provenance, **left_out},
        parity=[asdict(row) for row in rows],
        files={},
    )


@contextmanager
def _keep_inputs(
    comparison: Comparison,
    staged: Bundle,
    encoder: str,
    *,
    failed: Path,
    asked: Path | None = None,
) -> Iterator[None]:
    """Leave what a gate compared in the folder that was asked for; in any case, if it fails."""
    folder = asked
    manifest = staged.manifest
    try:
        yield
    except ExportError:
        folder = asked or failed
        raise
    finally:
        if folder is not None:
            # ONNX Runtime has no bfloat16 convolution for CPUs
            graph = load_graph(
                staged,
                encoder,
                REQUIRED_FILES[1],
                rounded=manifest.precision == "bf16",
            )
            precision = "int8" if encoder == INT8_ENCODER else manifest.precision
            comparison.keep(folder, graph, bound_db=min_psnr_db(precision, manifest.weights))


def _make_comparison(
    manifest: Manifest,
    reference: Runner,
    gate: Gate,
    *,
    name: str,
    model: SRFlow | None = None,
    say: Say,
) -> Comparison:
    # as many HR pixels as at ×4
    height, width = (length * 4 // max(manifest.scale, 4) for length in PATCHES[gate])
    photos = photo_patches(manifest.size_multiple, size=(height, width))
    return Comparison(photos, manifest, reference, name=name, model=model, say=say)


def _set_finite_tau(
    manifest: Manifest,
    rows: Sequence[ParityRow],
    options: ExportOptions,
    *,
    say: Say,
) -> Manifest:
    """Give the manifest a default tau at which pictures are finite, unless one is asked for."""
    asked = manifest.default_tau
    tau = tau_of_finite_pictures(rows, asked)
    if tau == asked:
        return manifest
    fault = f"the network itself diverges on more photographs at tau {asked:g} than at {tau:g}"
    if options.default_tau is not None:
        say(f"{fault}; the default stays {asked:g}, as it was asked for")
        return manifest
    say(f"{fault}, which becomes the bundle's default")
    return dataclasses.replace(manifest, default_tau=tau)


def _prove_inverter(
    model: SRFlow,
    bundle: Bundle,
    backend: Backend,
    options: ExportOptions,
    say: Say,
) -> Manifest:
    """Return the manifest with the inverter's halo and rows. Raises: ExportError if it differs."""
    rows = prove_inverse(model, bundle, say=say)
    for line in inverse_table(rows):
        say(line)
    manifest = bundle.manifest
    worst = poor_round_trip(rows, manifest)
    if worst is not None:
        say(
            f"the network itself comes back badly from its latents; the graphs, to {worst:.1f} "
            "dB: what is restored, transferred or decoded has this error, too"
        )
    provenance = {**manifest.provenance, "inverter": [asdict(row) for row in rows]}
    manifest = dataclasses.replace(manifest, provenance=provenance, round_trip_db=worst)
    if options.halo is not None:
        return dataclasses.replace(manifest, inverter_halo=options.halo)
    return add_inverter_halo(manifest, backend, say=say)


@dataclass
class _OptionalParts:
    """Makes and proves files that a bundle can do without, and says which are left out, and why."""

    staged: Bundle
    say: Say
    left_out: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, make_or_prove: Callable[[], _T], *, otherwise: _T) -> _T:
        """Return what makes or proves a file; if it fails, drop the file and return `otherwise`."""
        try:
            return make_or_prove()
        except Exception as error:  # of whichever library
            _logger.debug("%s is left out", name, exc_info=error)
            reason = printable(" ".join((str(error) or type(error).__name__).split()))[:_LONGEST]
            self.left_out[name] = reason
            self.say(f"{name} is left out: {reason}")
            (self.staged.path / name).unlink(missing_ok=True)
            self.staged.manifest.files.pop(name, None)
            return otherwise


def _onnx_files(
    model: SRFlow,
    manifest: Manifest,
    options: ExportOptions,
    optional: _OptionalParts,
    say: Say,
) -> Iterator[tuple[str, bytes]]:
    """Trace the parts of the network, quantise, and yield the files in the manifest's order."""
    traced = _trace(model, options, optional, say)
    if options.precision == "int8":
        say(_QUANTISING)
        traced["encoder.onnx"] = int8_encoder(model)
    if options.fused:
        joining = partial(onnx_models.join, traced["encoder.onnx"], traced["sampler.onnx"])
        traced = optional.attempt(FUSED, lambda: traced | {FUSED: joining()}, otherwise=traced)
    written: dict[str, bytes] = {}
    for name in ("encoder.onnx", "sampler.onnx", INVERTER, FUSED, *FP32_GRAPHS):
        if name in traced:
            if options.weights == "fp16" and not (
                name == "encoder.onnx" and options.precision == "int8"
            ):
                onnx_models.store_weights_in_half(traced[name])
            written[name] = onnx_models.serialise(traced[name], _make_metadata(manifest))
            if name == INVERTER:
                written[name] = onnx_models.share_weights(
                    written[name], "sampler.onnx", written["sampler.onnx"]
                )
            yield name, written[name]
    if "int8" in options.also:
        say(_QUANTISING)
        integers = optional.attempt(INT8_ENCODER, lambda: int8_encoder(model), otherwise=None)
        if integers is not None:
            yield (
                INT8_ENCODER,
                onnx_models.serialise(integers, _make_metadata(manifest, precision="int8")),
            )


def _trace(
    model: SRFlow,
    options: ExportOptions,
    optional: _OptionalParts,
    say: Say,
) -> dict[str, ModelProto]:
    """Trace the parts that the options ask for, by the names of their files."""
    files = [("encoder.onnx", "sampler.onnx", options.precision, options.plugins)]
    if options.precision != "fp32":
        files.append((*FP32_GRAPHS, "fp32", False))
    progress = Progress("tracing", 2 * len(files) + options.inverter, say)
    graphs = {}
    for encoder, sampler, precision, flow_nodes in files:
        graphs[encoder] = onnx_models.encoder_model(model, precision)
        progress.step()
        graphs[sampler] = onnx_models.sampler_model(model, precision, flow_nodes=flow_nodes)
        progress.step()
    if options.inverter:
        tracing = partial(onnx_models.inverter_model, model, options.precision)
        graphs = optional.attempt(
            INVERTER,
            lambda: graphs | {INVERTER: tracing()},
            otherwise=graphs,
        )
        progress.step()
    return graphs


def _make_metadata(manifest: Manifest, *, precision: Precision | None = None) -> dict[str, str]:
    """Describe an .onnx file on its own.

    precision: the graph's, if it is not the manifest's.
    """
    checkpoint = manifest.provenance["checkpoint"]
    return {
        "srflow.schema": str(manifest.schema),
        "srflow.name": manifest.name,
        "srflow.variant": manifest.variant,
        "srflow.scale": str(manifest.scale),
        "srflow.size_multiple": str(manifest.size_multiple),
        "srflow.latent_scheme": str(manifest.latent_scheme),
        "srflow.latent_levels": ",".join(
            f"{level.level}:{level.channels}" for level in manifest.latent_levels
        ),
        "srflow.precision": precision or manifest.precision,
        "srflow.checkpoint_sha256": str(checkpoint["sha256"]),
        "srflow.licence": str(manifest.provenance["licence"]),
    }


def _manifest(
    model: SRFlow,
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    *,
    notes: dict[str, Any],
) -> Manifest:
    config = model.config
    tau, auto_tau = (
        default_tau_of(notes) if options.default_tau is None else (options.default_tau, False)
    )
    return Manifest(
        name=options.name or target.name.removesuffix(".srflow"),
        variant=config.variant,
        scale=config.scale,
        size_multiple=config.size_multiple,
        latent_levels=graphs.latent_levels(config),
        default_tau=_USUAL_TAU if tau is None else tau,
        auto_tau=auto_tau or options.auto_tau,
        halo=0 if options.halo is None else options.halo,
        conditioning_bytes_per_pixel=graphs.conditioning_bytes_per_pixel(
            config, graphs.DTYPES[options.precision]
        ),
        precision=options.precision,
        weights=options.weights,
        plugins=options.plugins,
        reduction=read_lr_reduction(notes),
        removes_damage=notes.get("removes_damage") is True,
        made_for=notes.get("made_for", ""),
        smoothed=notes.get("smoothed") is True,
        model=config.to_dict(),
        provenance=_make_provenance(checkpoint, options, notes=notes),
    )


def _make_provenance(
    checkpoint: Path,
    options: ExportOptions,
    *,
    notes: dict[str, Any],
) -> dict[str, Any]:
    tools = {"srflow-sdk": srflow_sdk, "torch": torch, "onnx": onnx, "onnxruntime": onnxruntime}
    return {
        "checkpoint": {"file": checkpoint.name, "sha256": file_sha256(checkpoint)},
        "tools": {name: str(tool.__version__) for name, tool in tools.items()},
        "gate": options.gate,
        "training": notes,
        "training_data": options.training_data,
        "licence": options.licence,
    }


def _describe(model: SRFlow) -> str:
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    name = {"rrdb": "RRDB", "plain": "plain"}[config.encoder]
    return (
        f"×{config.scale} {config.variant}: {config.blocks} {name} blocks of {config.nf} "
        f"channels, L = {config.levels}, K = {config.steps}, {parameters / 1e6:.2f} M parameters"
    )
