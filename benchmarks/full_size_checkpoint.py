"""Write a network with random weights, to measure exports and engines on.

    python benchmarks/full_size_checkpoint.py full.pth [--preset published-x4]
    srflow-export --ckpt full.pth --rtx fp16 --sm 89 120
    python benchmarks/full_size_checkpoint.py x.safetensors --preset x4-small --set network.nf=48

No published weights may be shipped. These weights are like those at the start of training: actnorms
are initialised from photographs, so that nothing explodes, and heads are a little away from zero,
so that every path contributes. The pictures are noise, and the precision differs from a trained
network's, which multiplies more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from srflow_training import SRFlow, SRFlowConfig
from srflow_training.model.layers import ZerosConv


def full_size_network(preset: str = "published-x4", overrides: Sequence[str] = ()) -> SRFlow:
    """The network of a preset; deterministic."""
    from srflow_training.presets import load_settings

    return initialise(load_settings(preset, overrides).config())


@torch.no_grad()
def initialise(config: SRFlowConfig) -> SRFlow:
    """A network with random weights as at the start of training; deterministic."""
    from srflow_export.parity.photographs import photographs

    torch.manual_seed(0)
    model = SRFlow(config)
    model.encoder.initialize()
    for module in model.modules():
        if isinstance(module, ZerosConv):
            module.weight.normal_(std=0.01)
    hr = torch.cat([torch.from_numpy(photo.lr)[..., :96, :96] for photo in photographs(2)])
    lr = F.interpolate(hr, scale_factor=1 / model.config.scale, mode="bicubic", antialias=True)
    model.initialize_actnorms(hr, lr)
    return model.eval()


@torch.no_grad()
def make_steady(config: SRFlowConfig) -> SRFlow:
    """A network with random weights whose decoding neither explodes nor vanishes, for timings.

    With the weights of :func:`initialise`, ×8 gives NaN.
    """
    torch.manual_seed(0)
    model = SRFlow(config)
    model.encoder.initialize()
    for module in model.modules():
        if isinstance(module, ZerosConv):
            module.weight.normal_(std=0.2 / module.weight[0].numel() ** 0.5)
    for actnorm in model.actnorms():
        actnorm.logs.fill_(0.2)  # compensates the division by sigmoid(2) in every step
    return model.eval()


def main() -> None:
    """Write the file."""
    from srflow_training import save_checkpoint
    from srflow_training.checkpoints.keys import to_published

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path)
    parser.add_argument(
        "--preset",
        default="published-x4",
        help="such as published-x8-faces [default: published-x4]",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as for srflow-train"
    )
    options = parser.parse_args()
    model = full_size_network(options.preset, options.set)
    target = options.target
    if target.suffix == ".safetensors":
        save_checkpoint(target, model)
    else:
        torch.save(to_published(model.state_dict(), model.config), target)
    print(
        f"wrote {target}: {sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} "
        "M parameters"
    )


if __name__ == "__main__":
    main()
