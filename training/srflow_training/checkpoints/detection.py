"""Detect which network a file holds: from its keys and shapes, and how it enlarges."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_training.checkpoints.keys import esrgan_name, old_esrgan_name, published_rrdb_name
from srflow_training.model import RRDB, SRFlowConfig
from srflow_training.model.config import TrunkSkip, Variant, default_stacked_blocks

_EXPECTED = (
    "expected an SRFlow checkpoint (keys RRDB.* and flowUpsamplerNet.*), an RRDB or ESRGAN one "
    "(conv_first.*, or model.0.*), or our own .safetensors"
)


_SIDE = 24
# of values in [0, 1]; the other skip misses by more, because every block adds a fifth of its input
_SMALL = 0.05


NameOf = Callable[[str], str]
"""Our name of a tensor → the file's."""


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """1 + the largest number that the pattern's group matches in a key; 0 if none does."""
    matches = [re.match(pattern, key) for key in state]
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def _channels(state: Mapping[str, Tensor], key: str, axis: int = 0) -> int:
    tensor = state.get(key)
    if tensor is None or tensor.ndim <= axis:
        raise CheckpointError(f"tensor {key!r} is missing or has the wrong shape; {_EXPECTED}")
    return int(tensor.shape[axis])


def detect_rrdb(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], NameOf]:
    """The fields of an encoder-only network in any of the three layouts, and its tensors' names.

    Raises:
        CheckpointError: if it is another network, or not ×2, ×4, ×8 or ×16 on RGB.
    """
    if "conv_first.weight" in state and "trunk_conv.weight" in state:
        first = "conv_first"
        dense = "RRDB_trunk.0.RDB1.conv1"
        blocks = _count(state, r"RRDB_trunk\.(\d{1,4})\.")
        doublings = _count(state, r"upconv(\d)\.") - 1
        name_of: NameOf = published_rrdb_name
        trunk_skip: TrunkSkip = "last_block"
    elif "conv_first.weight" in state and "conv_body.weight" in state:
        first = "conv_first"
        dense = "body.0.rdb1.conv1"
        blocks = _count(state, r"body\.(\d{1,4})\.")
        doublings = _count(state, r"conv_up(\d)\.") - 1
        name_of = esrgan_name
        trunk_skip = "first_conv"
    elif "model.0.weight" in state and "model.1.sub.0.RDB1.conv1.0.weight" in state:
        first = "model.0"
        dense = "model.1.sub.0.RDB1.conv1.0"
        blocks = _count(state, r"model\.1\.sub\.(\d{1,4})\.RDB")
        doublings = (_count(state, r"model\.(\d{1,2})\.") - 1 - 4) // 3
        name_of = old_esrgan_name(blocks, 2**doublings)
        trunk_skip = "first_conv"
    else:
        first_keys = ", ".join(list(state)[:3]) or "(none)"
        raise CheckpointError(f"no known network: the first keys are {first_keys}; {_EXPECTED}")
    colours = _channels(state, f"{first}.weight", 1)
    if colours != 3 or doublings not in (1, 2, 3, 4) or not blocks:
        raise CheckpointError(
            f"an RRDB network with {blocks} blocks, {colours} input channels and "
            f"×{2 ** max(doublings, 0)} upsampling; only ×2, ×4, ×8 and ×16 networks on RGB are "
            "supported"
        )
    fields = {
        "scale": 2**doublings,
        "nf": _channels(state, f"{first}.weight"),
        "growth": _channels(state, f"{dense}.weight"),
        "blocks": blocks,
        "trunk_skip": trunk_skip,
    }
    return fields, name_of


def detect_srflow(
    state: Mapping[str, Tensor],
    *,
    stacked_blocks: tuple[int, ...] | None = None,
) -> SRFlowConfig:
    """Detect the configuration of a network of any variant in the published key layout.

    The scale, nf, growth, blocks, K, L, splits and the shape of f are read from keys and shapes.
    The weights do not show which RRDB blocks condition the flow: variant, scale and block count
    select them unless `stacked_blocks` is given. An f with a 3×3 middle convolution means `paper`;
    splits after every level except the last mean `bounded`; otherwise the variant is `published`.

    Raises:
        CheckpointError: saying what is missing or does not fit.
    """
    # more than 15 locals: each is a field of the configuration, or tells one
    of_encoder = {}
    for key, value in state.items():
        if key.startswith("RRDB."):
            of_encoder[key.removeprefix("RRDB.")] = value
    encoder, _ = detect_rrdb(of_encoder)
    conditional, plain, splits = _flow_layers(state)
    levels, steps, transitions = _level_structure(conditional, plain, splits)
    ends = enumerate(_level_ends(conditional), start=1)
    split_levels = tuple(level for level, end in ends if end + 1 in splits)
    prefix = f"flowUpsamplerNet.layers.{conditional[0]}.affine.fFeatures"
    kernel = _channels(state, f"{prefix}.2.weight", 2)
    actnorm = f"{prefix}.0.actnorm.bias" in state
    hidden = _channels(state, f"{prefix}.0.weight", 0)
    condition = _channels(state, f"{prefix}.0.weight", 1)
    variant: Variant = "published"
    if kernel == 3:
        variant = "paper"
    elif split_levels == tuple(range(1, levels)):
        variant = "bounded"
    groups = condition // encoder["nf"] - (variant != "paper")
    try:
        if stacked_blocks is None:
            stacked_blocks = default_stacked_blocks(
                variant,
                scale=encoder["scale"],
                blocks=encoder["blocks"],
                count=groups,
            )
        config = SRFlowConfig.of_variant(
            variant,
            **encoder,
            levels=levels,
            steps=steps,
            transition_steps=transitions,
            hidden=hidden,
            split_levels=split_levels,
            net_actnorm=actnorm,
            net_middle_kernel=kernel,
            stacked_blocks=stacked_blocks,
        )
    except ArgumentError as error:
        raise CheckpointError(
            f"the checkpoint's shapes do not form an SRFlow network: {error}"
        ) from error
    if config.feature_channels != condition:
        raise CheckpointError(
            f"the flow is conditioned on {condition} channels, but stacked blocks "
            f"{list(config.stacked_blocks)} give {config.feature_channels}: name the right blocks "
            "(srflow-export --blocks 1,8,15,22)"
        )
    return config


def _flow_layers(state: Mapping[str, Tensor]) -> tuple[list[int], list[int], set[int]]:
    """Layer numbers of the conditional steps, the transition steps and the splits."""
    layers: dict[str, set[int]] = {"affine": set(), "invconv": set(), "conv": set()}
    for key in state:
        if match := re.match(r"flowUpsamplerNet\.layers\.(\d{1,4})\.(affine|invconv|conv)\.", key):
            layers[match[2]].add(int(match[1]))
    if not layers["affine"]:
        raise CheckpointError(
            f"no conditional flow steps (flowUpsamplerNet.layers.*.affine.*) found; {_EXPECTED}"
        )
    transitions = layers["invconv"] - layers["affine"]
    return sorted(layers["affine"]), sorted(transitions), layers["conv"]


def _level_ends(conditional: list[int]) -> list[int]:
    """The last conditional step of every level."""
    return [layer for layer in conditional if layer + 1 not in conditional]


def _level_structure(
    conditional: list[int],
    plain: list[int],
    splits: set[int],
) -> tuple[int, int, int]:
    """L, K and the number of transition steps, which must be the same for every level."""
    levels = len(_level_ends(conditional))
    steps = len(conditional) // levels
    transitions = len(plain) // levels
    expected: list[int] = []
    layer = 0
    for _ in range(levels):
        expected += range(layer + 1 + transitions, layer + 1 + transitions + steps)
        layer += 1 + transitions + steps
        layer += layer in splits
    if expected != conditional or len(plain) != levels * transitions:
        raise CheckpointError(
            f"the flow's layers are not levels of equal depth: conditional steps at {conditional}, "
            f"splits at {sorted(splits)}; a tensor may be missing"
        )
    return levels, steps, transitions


@torch.no_grad()
def fit_trunk_skip(model: RRDB) -> None:
    """Give the network the skip with which it enlarges a smooth image, instead of changing it.

    `last_block`, as SRFlow's encoders have it, unless `first_conv`, as ESRGAN's networks have it,
    clearly fits better.
    """
    last = _error(model, "last_block")
    first = _error(model, "first_conv")
    model.trunk_skip = "first_conv" if first <= _SMALL and not last < 2 * first else "last_block"


def _error(model: RRDB, skip: TrunkSkip) -> float:
    """Root mean square error of the reduced picture, for values in [0, 1]."""
    lr = _smooth_image()
    model.trunk_skip = skip
    difference = F.avg_pool2d(model(lr), model.scale) - lr
    # networks do not enlarge well at borders
    inner = difference[..., 4:-4, 4:-4]
    return float(inner.square().mean().sqrt())


def _smooth_image() -> Tensor:
    """Waves of different directions in the channels, 1×3×24×24, from 0.25 to 0.75."""
    columns = torch.arange(_SIDE) / _SIDE * 2 * math.pi
    rows = columns[:, None]
    waves = [
        torch.sin(rows + columns),
        torch.cos(rows - columns),
        torch.sin(rows).expand(_SIDE, _SIDE),
    ]
    return 0.25 * torch.stack(waves)[None] + 0.5
