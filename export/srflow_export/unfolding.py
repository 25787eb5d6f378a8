"""Undo folding: turn a bundle's graphs into a network that can be trained further.

Folding (:mod:`srflow_export.folding`) cannot be undone parameter by parameter, but its result is
another network of the same architecture: a folded convolution becomes the convolution itself, with
logs 0 in the actnorms and zeros convolutions around it, and a chain of 1×1s becomes one, with
identities for the others. Images, latents and log-likelihoods are those of the exported network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from onnx import numpy_helper
from torch import Tensor, nn

from srflow_export.folding import FoldedConv, FoldedNet
from srflow_export.on_features import enlargement, kernel_shapes, recover_kernel
from srflow_sdk.errors import ArgumentError, BundleError, CheckpointError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.manifest import REQUIRED_FILES
from srflow_sdk.system.local_files import write_atomically
from srflow_training.checkpoints import SAMPLING_NOTES, save_checkpoint
from srflow_training.model import RRDB, PlainEncoder, SRFlow, SRFlowConfig
from srflow_training.model.config import UNUSED, LevelShape
from srflow_training.model.layers import ConditionalNet, Split, Step
from srflow_training.model.srflow import Level
from srflow_training.presets import load_settings

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@torch.no_grad()
def trainable_network(bundle: Bundle) -> SRFlow:
    """The network in a bundle, to be trained further: float32, on the CPU, in eval mode.

    Its images are the bundle's up to rounding (weights stored in half are used as they are), its
    log-likelihoods those of the exported network. Only bundles of `residual` networks contain the
    encoder's own image head: others get a new one from a fixed seed, with a last convolution of
    zeros, so that its image is the config's `image_base`. The kernels of a plain encoder are
    collapsed ones (`PlainEncoder.collapse`). Deterministic.

    Raises: BundleError if the bundle is damaged, does not say what network it holds, or has graphs
    that srflow-export does not write for it; ArgumentError if this version does not know the
    network.
    """
    # In float32 graphs nothing is rounded or quantised.
    names = bundle.manifest.float32_graphs or REQUIRED_FILES
    encoder, sampler = (GraphWeights(bundle, name) for name in names)
    model = _make_network(_config(bundle))
    for name, parameter in _conditioning_parameters(model):
        parameter.copy_(encoder.take(f"model.{name}", parameter.shape))
    for index, (level, shape) in enumerate(
        zip(model.flow_levels(), model.config.level_shapes, strict=True)
    ):
        _unfold_level(level, shape, model.config, encoder, sampler, f"levels.{index}")
    if model.config.residual:
        _unfold_own_image(model, encoder)
    for actnorm in model.actnorms():
        actnorm.initialized.fill_(True)
    return model.eval()


def write_trainable_checkpoint(bundle_path: str | os.PathLike[str], target: Path) -> str:
    """Write :func:`trainable_network` as a `.safetensors`, with its origin in the notes.

    Returns what `srflow-train --config` takes to train it further: the preset of the bundle's name
    if that has its network, or a `.yaml` that was written beside it, with data and schedule of a
    preset.

    Raises: ArgumentError if one of the files exists or the target is not named .safetensors,
    CheckpointError if one cannot be written, BundleError as :func:`trainable_network`.
    """
    if target.suffix != ".safetensors":
        raise ArgumentError(
            f"{target}: a checkpoint is written as .safetensors: name {target.stem}.safetensors"
        )
    if target.exists():
        raise ArgumentError(
            f"{target} already exists, and may hold hours of training: name another file"
        )
    bundle = Bundle.open(bundle_path)
    manifest = bundle.manifest
    network = trainable_network(bundle)
    beside = None if _has_preset(manifest.name, network.config) else target.with_suffix(".yaml")
    if beside is not None and beside.exists():
        raise ArgumentError(
            f"{beside} already exists; the network's settings belong there: name another file"
        )
    origin = {
        "name": manifest.name,
        "sha256": bundle.model_sha256,
        "provenance": manifest.provenance,
    }
    notes: dict[str, Any] = {"bundle": origin}
    notes |= {
        name: getattr(manifest, name) for name in ("reduction", "removes_damage", *SAMPLING_NOTES)
    }
    if manifest.made_for:
        notes["made_for"] = manifest.made_for
    try:
        save_checkpoint(target, network, notes=notes)
        if beside is not None:
            write_atomically(beside, _format_settings(network.config).encode())
    except OSError as error:
        raise CheckpointError(
            f"{target}: the checkpoint cannot be written: {error.strerror or error}"
        ) from error
    return manifest.name if beside is None else str(beside)


def _has_preset(name: str, network: SRFlowConfig) -> bool:
    is_preset = (resources.files("srflow_training") / "presets" / f"{name}.yaml").is_file()
    return is_preset and load_settings(name).config() == network


def _format_settings(network: SRFlowConfig) -> str:
    settings = {
        "base": f"x{network.scale}-small",
        "network": {"kind": "srflow", **UNUSED, **network.to_dict()},
    }
    text: str = yaml.safe_dump(settings, sort_keys=False)
    return text


class GraphWeights:
    """The weights of one of a bundle's graphs, float64, by name; each can be taken once."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self._file = bundle.file(name)
        self._left = {
            weight.name.removesuffix(".half"): weight
            for weight in onnx.load(self._file, load_external_data=False).graph.initializer
            if weight.data_type in _FLOATS and weight.data_location != onnx.TensorProto.EXTERNAL
        }

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """Take a weight, stored in float32 or half. Raises: BundleError if there is none such."""
        weight = self._left.pop(name, None)
        if weight is None or list(weight.dims) != list(shape):
            raise BundleError(
                f"{self._file} is not what srflow-export writes for the network in its manifest: "
                f"it has no weight {name} of shape {list(shape)}; export the checkpoint again, or "
                "fetch the bundle again"
            )
        return torch.from_numpy(numpy_helper.to_array(weight).astype(np.float64))

    def take_convs(self, name: str, count: int, shape: Sequence[int]) -> list[FoldedConv]:
        """Take `count` convolutions stored side by side. Raises: as :meth:`take`."""
        weight = self.take(f"{name}.weight", (count * shape[0], *shape[1:]))
        bias = self.take(f"{name}.bias", (count * shape[0],))
        return [
            FoldedConv(*conv) for conv in zip(weight.chunk(count), bias.chunk(count), strict=True)
        ]


def _config(bundle: Bundle) -> SRFlowConfig:
    if not bundle.manifest.model:
        raise BundleError(
            f"{bundle.path}: its manifest does not say what network it holds; train the "
            "checkpoint that it was exported from instead"
        )
    return SRFlowConfig.from_dict(bundle.manifest.model)


def _make_network(config: SRFlowConfig) -> SRFlow:
    """A new network whose encoder's own image is the config's `image_base`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SRFlow(config)
        model.encoder.initialize()
    if isinstance(model.encoder, PlainEncoder):
        model.encoder.collapse()
    for parameter in model.encoder.image_layer.parameters():
        nn.init.zeros_(parameter)
    return model


def _conditioning_parameters(model: SRFlow) -> Iterator[tuple[str, nn.Parameter]]:
    """Return the parameters that u depends on, by name; others are in no graph."""
    config = model.config
    encoder = model.encoder
    used: list[nn.Module] = [encoder.conv_first, model.projections]
    if config.level_feature:
        used += [*encoder.blocks, encoder.conv_trunk]
    else:
        used += encoder.blocks[: 1 + max(config.stacked_blocks)]
    if config.level_feature and not config.condition and isinstance(encoder, RRDB):
        used += encoder.upconvs[: max(0, *(shape.lr_exponent for shape in config.level_shapes))]
    parameters = {parameter for module in used for parameter in module.parameters()}
    return (
        (name, parameter) for name, parameter in model.named_parameters() if parameter in parameters
    )


def _unfold_level(
    level: Level,
    shape: LevelShape,
    config: SRFlowConfig,
    encoder: GraphWeights,
    sampler: GraphWeights,
    prefix: str,
) -> None:
    steps = level.all_steps()
    conditional = steps[config.transition_steps :]
    transitions = steps[: config.transition_steps]
    for step in transitions:  # the first conditional step's 1×1 includes theirs
        nn.init.eye_(step.mix.weight)
    on_injector, on_coupling = _convs_on_u(
        encoder, f"{prefix}.on_u", len(conditional), config, shape
    )
    injectors = [step.injector for step in conditional if step.injector is not None]
    conv2 = encoder.take_convs(f"{prefix}.conv2", len(injectors), injectors[0].conv2.weight.shape)
    heads = encoder.take_convs(f"{prefix}.head", len(injectors), injectors[0].conv3.weight.shape)
    for net, first, second, head in zip(injectors, on_injector, conv2, heads, strict=True):
        _unfold_net(net, FoldedNet(first, None, second, head))
    for index, (step, from_u) in enumerate(zip(conditional, on_coupling, strict=True)):
        assert step.coupling is not None  # for the type checker: a conditional step has one
        _unfold_net(
            step.coupling,
            _read_coupling(step.coupling, from_u, sampler, f"{prefix}.steps.{index}"),
        )
        _unfold_mixing(step, sampler, f"{prefix}.steps.{index}.mixing")
    if isinstance(level.split, Split):
        level.split.conv.weight.copy_(
            sampler.take(f"{prefix}.prior.weight", level.split.conv.weight.shape)
        )
        level.split.conv.bias.copy_(
            sampler.take(f"{prefix}.prior.bias", level.split.conv.bias.shape)
        )


def _unfold_own_image(model: SRFlow, encoder: GraphWeights) -> None:
    """The inverse of :class:`srflow_export.graphs._EncoderImage`."""
    scale = model.config.scale
    factor = model.config.scale // 2
    first = model.flow_levels()[0].all_steps()[model.config.transition_steps]
    image = model.encoder.image_layer
    encoder.take("own_image.on_lr.weight", (12 * factor**2, 3, 1, 1))
    for name, parameter in image.named_parameters():
        folded = encoder.take(f"own_image.on_features.{name}", parameter.shape)
        cells = torch.linalg.solve(first.mix.weight.double(), folded.view(12, -1))
        cells = cells.view(3, 2, 2, factor, factor, -1).permute(0, 3, 1, 4, 2, 5)
        parameter.copy_(cells.reshape(3 * scale**2, *parameter.shape[1:]))


def _convs_on_u(
    encoder: GraphWeights,
    prefix: str,
    count: int,
    config: SRFlowConfig,
    shape: LevelShape,
) -> tuple[list[FoldedConv], list[FoldedConv]]:
    """The first convolutions of a level's injectors, and their couplings' parts on u."""
    level = shape.level
    kernel = config.condition_kernel
    on_u = (config.condition_channels_at(level), kernel, kernel)
    factor = enlargement(config, shape)
    injector, coupling = (
        encoder.take_convs(f"{prefix}.{part}", count, (channels, *on_u))
        if factor == 1
        else _convs_of_phases(encoder, f"{prefix}.{part}", count, channels, config, factor)
        for part, channels in (
            ("injector", config.injector_hidden_at(level)),
            ("coupling", config.hidden_at(level)),
        )
    )
    return injector, coupling


def _convs_of_phases(
    encoder: GraphWeights,
    prefix: str,
    count: int,
    hidden: int,
    config: SRFlowConfig,
    factor: int,
) -> list[FoldedConv]:
    """The convolutions behind a :class:`srflow_export.on_features.PhaseConv`."""
    out = count * hidden
    own = config.nf if config.level_feature else 0
    small = config.feature_channels - own
    kernels = {
        name: encoder.take(f"{prefix}.{name}", (out, small, *size))
        for name, size in kernel_shapes(factor).items()
    }
    weight = recover_kernel(kernels)
    if own:
        weight = torch.cat([encoder.take(f"{prefix}.own_weight", (out, own, 3, 3)), weight], dim=1)
    bias = encoder.take(f"{prefix}.bias", (out,))
    return [FoldedConv(*conv) for conv in zip(weight.chunk(count), bias.chunk(count), strict=True)]


def _read_coupling(
    net: ConditionalNet,
    from_u: FoldedConv,
    sampler: GraphWeights,
    prefix: str,
) -> FoldedNet:
    """A coupling; its first convolution is in the encoder for u and in the sampler for h_A."""
    on_h_a = sampler.take(f"{prefix}.on_h_a.weight", net.first_on_state().shape)
    (conv2,) = sampler.take_convs(f"{prefix}.conv2", 1, net.conv2.weight.shape)
    (head,) = sampler.take_convs(f"{prefix}.head", 1, net.conv3.weight.shape)
    return FoldedNet(from_u, on_h_a, conv2, head)


def _unfold_net(net: ConditionalNet, folded: FoldedNet) -> None:
    """Undo :func:`srflow_export.folding.fold_net`, with all logs 0 as in a new network."""
    on_u, bias_on_u = net.first_on_u()
    if folded.on_h_a is not None:
        net.first_on_state().copy_(folded.on_h_a)
    for weight, own_bias, actnorm, part in (
        (on_u, bias_on_u, net.actnorm1, folded.on_u),
        (net.conv2.weight, net.conv2.bias, net.actnorm2, folded.conv2),
    ):
        weight.copy_(part.weight)
        bias = own_bias if actnorm is None else actnorm.bias
        assert bias is not None  # for the type checker: without actnorm the convolution has a bias
        bias.copy_(part.bias.view_as(bias))
    net.conv3.weight.copy_(folded.head.weight)
    net.conv3.bias.copy_(folded.head.bias)


def _unfold_mixing(step: Step, sampler: GraphWeights, name: str) -> None:
    """Undo :func:`srflow_export.folding.fold_mixing`: W = M⁻¹ and actnorm bias −b."""
    channels = len(step.mix.weight)
    (mixing,) = sampler.take_convs(name, 1, (channels, channels, 1, 1))
    matrix = mixing.weight[:, :, 0, 0]
    step.mix.weight.copy_(torch.linalg.inv(matrix))
    step.actnorm.bias.copy_(-mixing.bias.view_as(step.actnorm.bias))
