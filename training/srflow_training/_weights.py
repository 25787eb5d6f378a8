"""The weights of one network, copied into another of the same shape, and their moving average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import yaml
from torch import Tensor

from srflow_sdk.errors import CheckpointError
from srflow_training.checkpoints import load_checkpoint, load_encoder
from srflow_training.model import Encoder, PlainEncoder, SRFlow
from srflow_training.model.config import UNUSED

_ENCODER_ALONE = ("encoder", "growth", "blocks", "unshuffle", "trunk_skip")
"""Fields that no tensor of the flow depends on."""


def start_from_files(model: SRFlow | Encoder, *, start: str, encoder: str) -> None:
    """Copy the weights that a run begins with.

    start: a file of the same kind of network, or "". encoder: a file of an LR encoder, which replaces the former's, or
    "". Raises: CheckpointError if a file does not fit.
    """
    if start:
        source = load_checkpoint(start)
        if isinstance(source, Encoder) != isinstance(model, Encoder):
            raise CheckpointError(f"{start}: holds another kind of network than this run trains")
        copy_weights(source, model, start, encoder=isinstance(model, Encoder) or not encoder)
    if encoder:
        source = load_encoder(encoder)
        if isinstance(model, SRFlow) and model.config.residual and source.image_base != model.config.image_base:
            raise CheckpointError(
                f"{encoder}: its image has the base {source.image_base!r}, and a residual flow needs that of this run, "
                f"{model.config.image_base!r}: train the encoder on from it (schedule.start) with that image_base"
            )
        copy_weights(source, _encoder_of(model), encoder)


def copy_weights(source: SRFlow | Encoder, target: SRFlow | Encoder, path: str, *, encoder: bool = True) -> None:
    """Copy the weights of a file's network. Raises: CheckpointError naming the fields that differ.

    encoder: the LR encoder's too. Without, an SRFlow may have another one that gives its flow as many features.
    A noise-conditional network may start from one that is not: with `on_noise` = 0 both compute the same. One that is
    not may start from one that is, and computes what that does of images with the least noise.
    """
    theirs, ours = (_shape_of(model) for model in (source, target))
    if isinstance(given := _encoder_of(source), PlainEncoder) and not given.composed():
        given.compose()
    state = source.state_dict()
    if ours["noise_conditional"] and not theirs["noise_conditional"]:
        theirs["noise_conditional"] = True
        on_noise = {name: values for name, values in target.state_dict().items() if name.endswith("on_noise")}
        state |= {name: torch.zeros_like(values) for name, values in on_noise.items()}
    elif theirs["noise_conditional"] and not ours["noise_conditional"]:
        theirs["noise_conditional"] = False
        state = {name: values for name, values in state.items() if not name.endswith("on_noise")}
    if not encoder:
        theirs |= {name: ours[name] for name in _ENCODER_ALONE}
        if len(theirs["stacked_blocks"]) == len(ours["stacked_blocks"]):
            theirs["stacked_blocks"] = ours["stacked_blocks"]
        own = {name: values for name, values in target.state_dict().items() if name.startswith("encoder.")}
        state = {name: values for name, values in state.items() if not name.startswith("encoder.")} | own
    if different := [name for name in ours if theirs.get(name) != ours[name]]:
        fix = " ".join(f"--set network.{name}={_as_yaml(theirs.get(name))}" for name in different)
        raise CheckpointError(f"{path}: does not fit this run's network: use another file, or {fix}")
    target.load_state_dict(state)


def _encoder_of(model: SRFlow | Encoder) -> Encoder:
    return model if isinstance(model, Encoder) else model.encoder


def _shape_of(model: SRFlow | Encoder) -> dict[str, Any]:
    """The fields that must match to copy weights: all that change a tensor's size or meaning."""
    shape = {**UNUSED, **(model.settings() if isinstance(model, Encoder) else model.config.to_dict())}
    if isinstance(model, Encoder):
        shape["encoder"] = model.kind
    free = ("clamp", "split_clamp", *([] if shape["residual"] else ["image_base"]))
    return {name: value for name, value in shape.items() if name not in free}


def _as_yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip().replace(" ", "")


def ramped_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Exponential moving average whose decay rises to `decay`, so that the initial weights are soon forgotten."""

    @torch.no_grad()
    def update(average: Any, current: Any, count: Tensor | int) -> None:
        torch._foreach_lerp_(average, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update
