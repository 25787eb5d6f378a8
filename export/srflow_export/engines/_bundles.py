"""Add engines to an existing bundle, without its checkpoint or torch, on the machine that will run it."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from srflow_export._bundle_writer import staged_bundle
from srflow_export._named_locks import bundle_lock
from srflow_export.engines._graph import read_graph
from srflow_export.engines._pairs import build_engines, graphs_of
from srflow_export.engines._profiles import BOUNDS, check_profile, shapes_text
from srflow_export.engines._request import EngineRequest, check_request, command_of
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import EngineRecord
from srflow_sdk.model.manifest import Manifest


def add_engines(
    target: str | os.PathLike[str],
    request: EngineRequest,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Build engines from a bundle's graphs and add them to the bundle, in place of older ones for the same GPUs.

    The bundle changes once everything is built, and stays as it was on any error. If several processes do this to one
    bundle at once, one builds and the others wait, and then build for what it wrote. New engines come first in the
    manifest, so a runtime that can run them takes them. Raises: as :func:`~srflow_export.engines._pairs.build_engines`;
    BundleError if there is no such bundle, or it cannot be written.
    """
    check_request(request)
    graphs_of(Bundle.open(target).manifest, request.precision)  # refuse before waiting, and without leaving a lock
    with bundle_lock(target, say=say), staged_bundle(target) as stage:
        bundle = Bundle.open(target)
        manifest = bundle.manifest
        engines = {name for record in manifest.engines for name in record.files}
        for name in manifest.files.keys() - engines:
            _copy(bundle, name, stage.path)
        elsewhere = command_of(request, bundle=target)
        graphs = graphs_of(manifest, request.precision)
        record = build_engines(stage.path, manifest, request, graphs=graphs, elsewhere=elsewhere, say=say)
        kept = [other for other in manifest.engines if not _replaces(record, other)]
        for other in kept:
            for name in other.files:
                _copy(bundle, name, stage.path)
        return stage.commit(dataclasses.replace(manifest, engines=(record, *kept), files={}))


def trtexec_commands(folder: Path, manifest: Manifest, request: EngineRequest) -> list[str]:
    """Command lines of NVIDIA's `trtexec` that build the same engines from the graphs in a bundle's folder.

    For machines with TensorRT but without this SDK. The engines are not part of a bundle, so the runtime does not use
    them. Raises: ArgumentError for impossible LR sizes or a precision that the bundle does not have, ExportError if a
    graph cannot be read.
    """
    profile = request.profile or manifest.default_profile
    check_profile(profile, manifest)
    commands = []
    for name in graphs_of(manifest, request.precision):
        graph = read_graph(folder / name, precision=request.precision)
        shapes = graph.input_shapes(profile, scale=manifest.scale)
        words = ["trtexec", f"--onnx={folder / name}", f"--saveEngine={Path(name).stem}.engine"]
        # TensorRT 11 has only strongly typed networks, and ignores --stronglyTyped.
        words += ["--stronglyTyped", "--noTF32", "--skipInference", "--profilingVerbosity=detailed"]
        if request.builder.level is not None:
            words.append(f"--builderOptimizationLevel={request.builder.level}")
        if request.builder.workspace is not None:
            words.append(f"--memPoolSize=workspace:{request.builder.workspace >> 20}")
        words += [f"--{bound}Shapes={shapes_text(shapes, bound)}" for bound in BOUNDS]
        commands.append(shlex.join(words))
    return commands


def _copy(bundle: Bundle, name: str, folder: Path) -> None:
    copy = folder / name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(bundle.path / name, copy)


def _replaces(new: EngineRecord, old: EngineRecord) -> bool:
    """True if both are for the same machines, in any version of the library."""
    return (new.runtime, new.precision, new.compute_capabilities) == (
        old.runtime,
        old.precision,
        old.compute_capabilities,
    )
