"""The subject of a measurement: a bundle or a checkpoint, with its samples at any temperature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from srflow_evaluation.devices import check_device, from_cpu
from srflow_evaluation.flows import BundleFlow, CheckpointFlow, ConditionedFlow, LevelTaus
from srflow_evaluation.hashing import file_sha256
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.bundle import check_inverts
from srflow_sdk.model.manifest import Reduction
from srflow_training._inputs import check_model
from srflow_training.checkpoints import load_with_notes, reduction_of
from srflow_training.model import Encoder

CHECKPOINT_TAU = LevelTaus((0.8,))
"""The temperature of a checkpoint's sample; a bundle has its own default."""

TILE = 192
"""Side of a bundle's tiles in LR pixels: fixed, so that its figures do not depend on the free memory."""

Sampler = Callable[[LevelTaus, int], Tensor]
"""τ, seed → image 1×3×H×W, not rounded."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to measure.

    name: for people. sha256: of the model. scale: HR size / LR size. multiple: LR sides must be multiples of this.
    reduction: how the LR images it was trained on were made. levels: number of levels that can have their own τ; 1 for
    a bundle. flow: LR image, 1×3×h×w in [0, 1] → the flow; None for an RRDB, which has no τ. encoder: LR image → an
    RRDB's image; None for a flow, whose training leaves its encoder's image head behind. upscaler: a bundle's, for what
    only the runtime does. trained_encoder: whether training started from a trained encoder; None if that is not noted.
    """

    name: str
    sha256: str
    scale: int
    multiple: int
    reduction: Reduction = "bicubic"
    levels: int
    flow: Callable[[Tensor], ConditionedFlow] | None = None
    encoder: Callable[[Tensor], Tensor] | None = None
    upscaler: Upscaler | None = None
    trained_encoder: bool | None = None

    @property
    def condition(self) -> Callable[[Tensor], Sampler] | None:
        """LR image → its sampler; None for an RRDB."""
        flow = self.flow
        return None if flow is None else lambda lr: flow(lr).sample

    @property
    def default_tau(self) -> LevelTaus:
        """The temperature of a sample if none is given."""
        if self.upscaler is None:
            return CHECKPOINT_TAU
        manifest = self.upscaler.bundle.manifest
        return LevelTaus(() if manifest.auto_tau else (manifest.default_tau,))

    def both_ways(self) -> Callable[[Tensor], ConditionedFlow]:
        """The flow, to invert as well as to sample. Raises: BundleError if a bundle has no inverter."""
        if self.upscaler is not None:
            check_inverts(self.upscaler.bundle)
        assert self.flow is not None  # for the type checker: an RRDB was refused before
        return self.flow

    def check(self, tau: LevelTaus) -> None:
        """Check that the model takes these values. Raises: ArgumentError."""
        if not tau.values and self.upscaler is None:
            raise ArgumentError("tau auto is a bundle's: export the checkpoint, or give a number")
        if self.condition is None or len(tau.values) in (0, 1, self.levels):
            return
        if self.upscaler is not None:
            raise ArgumentError(f"tau {tau}: a bundle takes one tau for all levels: give one, or name a checkpoint")
        raise ArgumentError(f"tau {tau}: the network has {self.levels} levels: give one value, or {self.levels}")


def open_subject(model: str | None, *, tile: int | None = None, device: str = "cpu") -> Subject:
    """Open a bundle or a checkpoint; both use the runtime's latents, so they are comparable.

    model: its path, or the name of an embedded model; None: x4-small.
    tile: side of a bundle's tiles in LR pixels; None: pictures are computed in one piece, as a checkpoint's always are.
    device: where it computes; tensors are taken from the CPU and given there.
    Raises: BundleError, CheckpointError, DeviceError.
    """
    check_device(device)
    bundle = _bundle(model)
    if bundle is not None:
        upscaler = Upscaler(bundle, device=device, tile=tile)
        return Subject(
            name="the embedded model" if model is None else model,
            sha256=bundle.model_sha256,
            scale=upscaler.scale,
            multiple=bundle.manifest.size_multiple,
            reduction=bundle.manifest.reduction,
            levels=1,
            flow=lambda lr: BundleFlow(upscaler, lr),
            upscaler=upscaler,
        )
    assert model is not None  # for the type checker: that would be a bundle
    check_model(model)
    network, notes = load_with_notes(model)
    network.to(device)
    reduction, sha256 = reduction_of(notes), file_sha256(Path(model))
    if isinstance(network, Encoder):
        return Subject(
            name=model,
            sha256=sha256,
            scale=network.scale,
            multiple=network.unshuffle,
            reduction=reduction,
            levels=1,
            encoder=from_cpu(network),
        )
    return Subject(
        name=model,
        sha256=sha256,
        scale=network.config.scale,
        multiple=network.config.size_multiple,
        reduction=reduction,
        levels=network.config.levels,
        flow=lambda lr: CheckpointFlow(network, lr, sha256=sha256),
        trained_encoder=_trained_encoder(notes),
    )


def _trained_encoder(notes: Mapping[str, Any]) -> bool | None:
    """The notes of a checkpoint on its run; None if they say nothing, or if the run went on with another model."""
    schedule = (yaml.safe_load(notes.get("settings", "")) or {}).get("schedule") or {}
    if not schedule or schedule.get("start"):
        return None
    return bool(schedule.get("encoder"))


def has_head(network: Encoder) -> bool:
    """True if the network makes an image of its own: `srflow-export --checkpoint-of` writes a last layer of zeros."""
    return any(bool(parameter.any()) for parameter in network.image_layer.parameters())


def _bundle(model: str | None) -> Bundle | None:
    """The bundle that is meant, or None if a file is. Raises: BundleError."""
    if model is None:
        return Bundle.embedded()
    if model in Bundle.embedded_names() or Path(model).is_dir():
        return Bundle.open(model)
    return None
