"""Map our tensor names to those of published checkpoints.

The published layout numbers every flow layer in encoding order (squeeze, transition steps,
conditional steps, split). It interleaves what we keep in halves: even output channels of an affine
head are shifts (for a split, means), odd ones are scales (logs). Each layout is one function from
our names to its own; loading and writing both use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from srflow_sdk.errors import CheckpointError
from srflow_training.model import SRFlowConfig

_CONDITIONAL_NET_PARTS = {
    "conv1": "0",
    "actnorm1": "0.actnorm",
    "conv2": "2",
    "actnorm2": "2.actnorm",
    "conv3": "4",
}


def published_rrdb_name(name: str) -> str:
    """`blocks.3.dense.0.convs.1.weight` → `RRDB_trunk.3.RDB1.conv2.weight`."""
    others = {f"upconvs.{number}": f"upconv{number + 1}" for number in range(4)}
    others |= {"conv_trunk": "trunk_conv", "conv_hr": "HRconv"}
    return _rename(name, "RRDB_trunk.{}.RDB{}.conv{}.{}", others)


def esrgan_name(name: str) -> str:
    """The newer ESRGAN layout: `blocks.3.dense.0.convs.1.weight` → `body.3.rdb1.conv2.weight`."""
    others = {f"upconvs.{number}": f"conv_up{number + 1}" for number in range(4)}
    return _rename(name, "body.{}.rdb{}.conv{}.{}", {**others, "conv_trunk": "conv_body"})


def old_esrgan_name(blocks: int, scale: int) -> Callable[[str], str]:
    """The older ESRGAN layout, positions in a Sequential: model.0, model.1.sub.*, model.3, …."""
    end = 3 * (scale.bit_length() - 1)  # of the upsamplings
    others = {f"upconvs.{number}": f"model.{3 * (number + 1)}" for number in range(4)}
    others |= {"conv_first": "model.0", "conv_trunk": f"model.1.sub.{blocks}"}
    others |= {"conv_hr": f"model.{end + 2}", "conv_last": f"model.{end + 4}"}
    return partial(_rename, in_block="model.1.sub.{}.RDB{}.conv{}.0.{}", others=others)


def _rename(name: str, in_block: str, others: Mapping[str, str]) -> str:
    """The name of an RRDB's tensor in a layout.

    Args:
        in_block: the layout's name of those of blocks.
        others: of layers beside them.
    """
    if match := re.fullmatch(r"blocks\.(\d+)\.dense\.(\d)\.convs\.(\d)\.(\w+)", name):
        block, dense, conv, kind = match.groups()
        return in_block.format(block, int(dense) + 1, int(conv) + 1, kind)
    stem, kind = name.rsplit(".", 1)
    return f"{others.get(stem, stem)}.{kind}"


def published_srflow_name(config: SRFlowConfig) -> Callable[[str], str | None]:
    """Our name of an SRFlow tensor → its published name, or None if files do not hold it."""
    numbers: dict[str, int] = {}
    layer = 0
    for level in range(config.levels):
        layer += 1  # the squeeze
        for kind, count in (
            ("transitions", config.transition_steps),
            ("steps", config.steps_at(level + 1)),
        ):
            for index in range(count):
                numbers[f"levels.{level}.{kind}.{index}"] = layer
                layer += 1
        if level + 1 in config.split_levels:
            numbers[f"levels.{level}.split"] = layer
            layer += 1

    def name_of(name: str) -> str | None:
        if name.endswith(".initialized"):
            return None
        if name.startswith("encoder."):
            return "RRDB." + published_rrdb_name(name.removeprefix("encoder."))
        match = re.fullmatch(r"(levels\.\d+\.(?:transitions\.\d+|steps\.\d+|split))\.(.+)", name)
        assert match is not None, name
        prefix = f"flowUpsamplerNet.layers.{numbers[match[1]]}"
        module, _, rest = match[2].partition(".")
        if module in ("injector", "coupling"):
            part, kind = rest.rsplit(".", 1)
            net = "fFeatures" if module == "injector" else "fAffine"
            return f"{prefix}.affine.{net}.{_CONDITIONAL_NET_PARTS[part]}.{kind}"
        return f"{prefix}.{'invconv' if module == 'mix' else module}.{rest}"

    return name_of


def _is_interleaved(name: str) -> bool:
    return ".conv3." in name or ".split.conv." in name


def from_published(
    state: Mapping[str, Tensor],
    names: Iterable[str],
    name_of: Callable[[str], str | None],
) -> dict[str, Tensor]:
    """Convert a published state dict to our names, with heads in halves.

    Raises:
        KeyError: naming a missing tensor.
    """
    converted = {}
    for name in names:
        published = name_of(name)
        if published is None:
            # a published network was initialised when it was trained
            converted[name] = torch.tensor(True)
        else:
            tensor = state[published]
            if not tensor.ndim:
                raise CheckpointError(f"tensor {published!r} is a single number")
            converted[name] = (
                torch.cat([tensor[0::2], tensor[1::2]]) if _is_interleaved(name) else tensor
            )
    return converted


def to_published(state: Mapping[str, Tensor], config: SRFlowConfig) -> dict[str, Tensor]:
    """Convert our SRFlow state dict to the published layout, for tools that read it."""
    name_of = published_srflow_name(config)
    converted = {}
    for name, tensor in state.items():
        published = name_of(name)
        if published is not None:
            if _is_interleaved(name):
                tensor = torch.stack(tensor.chunk(2), dim=1).flatten(0, 1)
            converted[published] = tensor
    return converted
