"""End a trained flow's injectors and couplings with 1×1 convolutions, which cost a ninth of the 3×3 ones that it has.

    python examples/last_kernel.py flow.safetensors cheap.safetensors photos
    srflow-train --config x4-small --set network.last_kernel=1 --set schedule.start=cheap.safetensors ...

Each 1×1 is what comes nearest, by least squares, to the 3×3 on crops of photographs, where these are encoded and where
samples are drawn. The network is worse than before until it is trained further, and far better than one from nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from grow import refuse_target, write
from torch import Tensor
from torch.nn import functional as F

from srflow_sdk.errors import CheckpointError
from srflow_training import PlainEncoder, SRFlow, load_checkpoint, save_checkpoint
from srflow_training.data import read_photo, to_image
from srflow_training.model.layers import ConditionalNet, ZerosConv
from srflow_training.resampling import reduce_bicubic, round_to_8_bit

CROPS, SIDE, TAU = 40, 128, 0.8


@torch.no_grad()
def with_points(model: SRFlow, crops: Iterable[Tensor]) -> SRFlow:
    """The network with `last_kernel: 1`; crops: 1×3×H×W in [0, 1], with sides that the network takes."""
    torch.manual_seed(0)
    if isinstance(model.encoder, PlainEncoder):
        model.encoder.compose()
    convs = {name: net.conv3 for name, net in model.named_modules() if isinstance(net, ConditionalNet)}
    products = {conv: (torch.zeros(()), torch.zeros(())) for conv in convs.values()}

    def note(conv: ZerosConv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add to the products of what the convolution takes (and 1), and of that with what it gives."""
        taken = F.pad(inputs[0].movedim(1, -1).flatten(0, -2).double(), (0, 1), value=1)
        given = output.movedim(1, -1).flatten(0, -2).double()
        products[conv] = products[conv][0] + taken.T @ taken, products[conv][1] + taken.T @ given

    hooks = [conv.register_forward_hook(note) for conv in products]
    for hr in crops:
        lr = round_to_8_bit(reduce_bicubic(hr, model.config.scale))
        model.encode(hr + (torch.rand_like(hr) - 0.5) * (4 / 255), lr)
        model.sample(lr, TAU)
    for hook in hooks:
        hook.remove()
    state = model.state_dict()
    for name, conv in convs.items():
        squares, mixed = products[conv]
        least = squares.diagonal().mean() * 1e-6  # so that channels that are always zero do no harm
        solved = torch.linalg.solve(squares + least * torch.eye(len(squares)), mixed).T
        solved = (solved / torch.exp(3 * conv.logs.double()).flatten(1)).float()
        state[f"{name}.conv3.weight"], state[f"{name}.conv3.bias"] = solved[:, :-1, None, None], solved[:, -1]
    cheap = SRFlow(replace(model.config, last_kernel=1))
    cheap.load_state_dict(state)
    return cheap.eval()


def crops_of(folder: Path) -> Iterable[Tensor]:
    """The centres of photographs spread over a folder, as many as `CROPS` says."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for path in paths[:: max(1, len(paths) // CROPS)][:CROPS]:
        image = to_image(read_photo(path))
        top, left = ((side - SIDE) // 2 for side in image.shape[2:])
        if min(top, left) >= 0:
            yield image[..., top : top + SIDE, left : left + SIDE]


def convert(source: Path, target: Path, photos: Path) -> str:
    """Read, convert, write. Raises: CheckpointError."""
    model = load_checkpoint(source)
    if not isinstance(model, SRFlow) or model.config.last_kernel == 1:
        raise CheckpointError(f"{source} has no flow with last convolutions of 3×3: name another checkpoint")
    crops = list(crops_of(photos))
    if not crops:
        raise CheckpointError(f"{photos} holds no photograph of {SIDE} pixels a side: name another folder")
    save_checkpoint(target, with_points(model, crops))
    return f"last_kernel 1, by {len(crops)} photographs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the trained flow's checkpoint")
    parser.add_argument("target", type=Path, help="the checkpoint to write, a .safetensors file")
    parser.add_argument("photos", type=Path, help="folder of photographs, best those that it is trained on")
    options = parser.parse_args()
    refuse_target(parser, options.target, options.source)
    write(options.target, lambda: convert(options.source, options.target, options.photos))


if __name__ == "__main__":
    main()
