"""Add a second encoder, in int8, to a bundle that exists: `srflow-export --bundle B --also int8`."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable

import onnx

from srflow_export import onnx_models
from srflow_export._bundle_writer import staged_bundle
from srflow_export._named_locks import bundle_lock
from srflow_export._unfolding import trainable_network
from srflow_export.exporter import PATCHES, QUANTISING, Gate, metadata_of
from srflow_export.graphs import conditioning_names
from srflow_export.parity import prove_int8_encoder
from srflow_export.parity._gate import INT8_GRAPHS
from srflow_export.quantisation import int8_encoder
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.bundle import Bundle, Manifest
from srflow_sdk.model.manifest import INT8_ENCODER, REQUIRED_FILES
from srflow_training.model import SRFlow


def add_int8_encoder(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    gate: Gate = "quick",
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write the bundle `target`: that of `source` with encoder.int8.onnx, in place of an older one.

    The network is taken from the bundle's graphs, and the new encoder is compared with the bundle's float32 one on
    photographs; `gate` is how much of them. Other files, engines included, are copied as they are. `target` may be
    `source`: it changes once all is proved, under the bundle's lock. Deterministic. `say` receives lines of progress.

    Raises: ArgumentError if the bundle's graphs are not float32 or have an older layout, BundleError if it cannot be
    read or written, ExportError if int8 is too coarse for the network. In each case the target stays as it was.
    """
    _check(Bundle.open(source))  # refuse before waiting, and without leaving a lock
    with bundle_lock(target, say=say), staged_bundle(target) as stage:
        bundle = Bundle.open(source)
        model = _check(bundle)
        for name in bundle.manifest.files:
            copy = stage.path / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.path / name, copy)
        say(QUANTISING)
        content = onnx_models.finished(int8_encoder(model), metadata_of(bundle.manifest, precision="int8"))
        (stage.path / INT8_ENCODER).write_bytes(content)
        say(f"{INT8_ENCODER}: {len(content) / 1e6:.1f} MB")
        manifest = dataclasses.replace(bundle.manifest, files={**bundle.manifest.files, INT8_ENCODER: {}})
        staged = Bundle(path=stage.path, manifest=manifest)
        rows = prove_int8_encoder(bundle, staged, size=PATCHES[gate], say=say)
        kept = [row for row in manifest.parity if row.get("graph") != INT8_GRAPHS]
        parity = [*kept, *(row.to_dict() for row in rows)]
        return stage.commit(dataclasses.replace(manifest, parity=parity, files={}))


def _check(bundle: Bundle) -> SRFlow:
    """The bundle's network. Raises: ArgumentError, BundleError if it cannot have a second encoder."""
    precision = bundle.manifest.precision
    if precision != "fp32":
        raise ArgumentError(
            f"{bundle.path} has graphs in {precision}; a second encoder in int8 goes with float32 graphs: export the "
            "checkpoint with --precision fp32 --also int8"
        )
    model = trainable_network(bundle.path)
    outputs = onnx.load(bundle.file(REQUIRED_FILES[0])).graph.output
    if {output.name for output in outputs} != set(conditioning_names(model.config)):
        raise ArgumentError(
            f"{bundle.path} has the layout of an older exporter, to which no encoder can be added: srflow-export "
            f"--checkpoint-of {bundle.path} -o FILE.safetensors, then srflow-export --ckpt FILE.safetensors --also int8"
        )
    return model
