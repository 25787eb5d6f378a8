"""End a trained flow's injectors and couplings with 1×1 convolutions, which cost a ninth of the 3×3
ones that it has.

    python examples/last_kernel.py flow.safetensors cheap.safetensors photos
    srflow-train --config x8-small --set network.last_kernel=1 \\
      --set schedule.start=cheap.safetensors ...

Each 1×1 is what comes nearest, by least squares, to the 3×3 on crops of photographs, where these
are encoded and where samples are drawn. The network is worse than before until it is trained
further, and far better than one from nothing. `--leave-out` leaves the first step of level 1 out
too, which works on the most pixels: the linear map that comes nearest to it, and to the
unconditional steps before it, takes their place. Of a flow with K = 2, 4, 6 and an encoder of seven
blocks this makes `--config x4-small --set network.blocks=7`.
"""

from __future__ import annotations

import argparse
import re
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
from srflow_training.model.layers import ConditionalNet
from srflow_training.model.transforms import Squeeze
from srflow_training.resampling import reduce_bicubic, round_to_8_bit

CROPS = 40
SIDE = 128
TAU = 0.8


class Linear:
    """The linear map of pixels' channels that comes nearest to pairs of tensors, N×C×H×W each."""

    def __init__(self) -> None:
        self.squares = torch.zeros(())
        self.mixed = torch.zeros(())

    def add(self, taken: Tensor, given: Tensor) -> None:
        """Note a pair."""
        taken = F.pad(taken.movedim(1, -1).flatten(0, -2).double(), (0, 1), value=1)
        self.squares = self.squares + taken.T @ taken
        self.mixed = self.mixed + taken.T @ given.movedim(1, -1).flatten(0, -2).double()

    def solved(self) -> tuple[Tensor, Tensor]:
        """Its matrix, out×in, and bias."""
        least = (
            self.squares.diagonal().mean() * 1e-6
        )  # so that channels that are always zero do no harm
        solved = torch.linalg.solve(
            self.squares + least * torch.eye(len(self.squares)), self.mixed
        ).T
        return solved[:, :-1], solved[:, -1]


@torch.no_grad()
def cheaper(model: SRFlow, crops: Iterable[Tensor], *, leave_out: bool = False) -> SRFlow:
    """The network with `last_kernel: 1`; crops: 1×3×H×W in [0, 1], with sides that the network
    takes.

    leave_out: without level 1's first conditional step.
    """
    torch.manual_seed(0)
    if isinstance(model.encoder, PlainEncoder):
        model.encoder.compose()
    convs = {
        name: net.conv3 for name, net in model.named_modules() if isinstance(net, ConditionalNet)
    }
    points = {conv: Linear() for conv in convs.values()}
    first = Linear()
    hooks = [
        conv.register_forward_hook(lambda conv, x, y: points[conv].add(x[0], y)) for conv in points
    ]
    level = model.flow_levels()[0]
    transitions = model.config.transition_steps
    for hr in crops:
        lr = round_to_8_bit(reduce_bicubic(hr, model.config.scale))
        noisy = hr + (torch.rand_like(hr) - 0.5) * (4 / 255)
        condition = model.condition(lr)
        model.encode_conditioned(noisy, condition)
        model.sample(lr, TAU)
        squeezed = h = Squeeze().encode(
            noisy if condition.image is None else noisy - condition.image
        )[0]
        for step, mix, on_u in zip(
            level.all_steps(), level.mixes("encode"), condition.levels[0], strict=True
        ):
            h, _ = step.encode(h, mix, on_u)
            if step is level.all_steps()[transitions]:
                first.add(squeezed, h)
    for hook in hooks:
        hook.remove()
    state = model.state_dict()
    for name, conv in convs.items():
        gain = torch.exp(3 * conv.logs.double()).flatten()
        matrix, bias = points[conv].solved()
        state[f"{name}.conv3.weight"] = (matrix / gain[:, None]).float()[..., None, None]
        state[f"{name}.conv3.bias"] = (bias / gain).float()
    steps = tuple(model.config.steps_at(shape.level) for shape in model.config.level_shapes)
    if not leave_out:
        cheap = SRFlow(replace(model.config, last_kernel=1))
        cheap.load_state_dict(state)
        return cheap.eval()
    cheap = SRFlow(replace(model.config, last_kernel=1, steps=(steps[0] - 1, *steps[1:])))
    moved = {
        name: re.sub(r"^levels\.0\.steps\.(\d+)", _one_more, name) for name in cheap.state_dict()
    }
    cheap.load_state_dict({name: state[old] for name, old in moved.items()})
    matrix, bias = first.solved()
    for index, step in enumerate(cheap.flow_levels()[0].all_steps()[:transitions]):
        same = torch.zeros(len(bias)), torch.eye(len(bias))
        before, turned = same if index else (torch.linalg.solve(matrix, bias), matrix)
        step.actnorm.logs.zero_()
        step.actnorm.bias.copy_(before.view(1, -1, 1, 1))
        step.mix.weight.copy_(turned)
    return cheap.eval()


def _one_more(match: re.Match[str]) -> str:
    return f"levels.0.steps.{int(match[1]) + 1}"


def crops_of(folder: Path) -> Iterable[Tensor]:
    """The centres of photographs spread over a folder, as many as `CROPS` says."""
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    for path in paths[:: max(1, len(paths) // CROPS)][:CROPS]:
        image = to_image(read_photo(path))
        top, left = ((side - SIDE) // 2 for side in image.shape[2:])
        if min(top, left) >= 0:
            yield image[..., top : top + SIDE, left : left + SIDE]


def convert(source: Path, target: Path, photos: Path, *, leave_out: bool) -> str:
    """Read, convert, write. Raises: CheckpointError."""
    model = load_checkpoint(source)
    if not isinstance(model, SRFlow) or model.config.last_kernel == 1:
        raise CheckpointError(
            f"{source} has no flow with last convolutions of 3×3: name another checkpoint"
        )
    if leave_out and (model.config.steps_at(1) < 2 or not model.config.transition_steps):
        raise CheckpointError(
            f"{source} has one step at level 1, or none before it: omit --leave-out"
        )
    crops = list(crops_of(photos))
    if not crops:
        raise CheckpointError(
            f"{photos} holds no photograph of {SIDE} pixels a side: name another folder"
        )
    save_checkpoint(target, cheap := cheaper(model, crops, leave_out=leave_out))
    return (
        f"last_kernel 1, {cheap.config.steps_at(1)} steps at level 1, by {len(crops)} photographs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the trained flow's checkpoint")
    parser.add_argument("target", type=Path, help="the checkpoint to write, a .safetensors file")
    parser.add_argument(
        "photos", type=Path, help="folder of photographs, best those that it is trained on"
    )
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out level 1's first step, too"
    )
    options = parser.parse_args()
    refuse_target(parser, options.target, options.source)
    write(
        options.target,
        lambda: convert(
            options.source, options.target, options.photos, leave_out=options.leave_out
        ),
    )


if __name__ == "__main__":
    main()
