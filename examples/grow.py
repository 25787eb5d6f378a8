"""Make a trained network larger, or its encoder one for another scale, to train it further.

    python examples/grow.py steps small.safetensors larger.safetensors 2
    srflow-train --config x4-small --set network.steps=[3,6,8] \\
      --set schedule.start=larger.safetensors ...

Steps are added to every level of the flow in pairs: the first exchanges the halves of the channels
and the second exchanges them back, around couplings and injectors that are the identity until they
are trained. Image, latents and likelihood are the same as those of the original network.

    python examples/grow.py blocks small.safetensors encoder.safetensors 3
    srflow-train --config x4-small --stage encoder --set network.blocks=12 \\
      --set schedule.start=encoder.safetensors ...

Blocks are added to the end of the LR encoder's trunk, and the encoder alone is written. The last
convolution of each new block cancels what it is added to, so the block is the identity until it is
trained: features and image stay the same.

    python examples/grow.py scale small.safetensors encoder.safetensors 8
    srflow-train --config x8-small --stage encoder --set network.blocks=9 \\
      --set schedule.start=encoder.safetensors ...

The LR encoder alone is written, for another scale. Its trunk is the same, which is nearly all of
it; an RRDB's convolutions that enlarge further are copies of the last one. Its images are wrong
until it is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from srflow_sdk.errors import ArgumentError, CheckpointError, SRFlowError
from srflow_training import RRDB, Encoder, PlainEncoder, SRFlow, load_checkpoint, save_checkpoint
from srflow_training.model import build_encoder
from srflow_training.model.config import SCALES
from srflow_training.model.plain import PlainBlock


def with_more_steps(model: SRFlow, count: int) -> SRFlow:
    """The network with `count` more conditional steps per level, at the level's end in the encoding
    direction.
    """
    torch.manual_seed(0)
    steps = model.config.steps
    larger = SRFlow(replace(model.config, steps=_plus(steps, count)))
    if isinstance(model.encoder, PlainEncoder):
        model.encoder.compose()
    larger.encoder.load_state_dict(model.encoder.state_dict())
    larger.projections.load_state_dict(model.projections.state_dict())
    for old, new in zip(model.flow_levels(), larger.flow_levels(), strict=True):
        for old_step, new_step in zip(old.all_steps(), new.all_steps(), strict=False):
            new_step.load_state_dict(old_step.state_dict())
        if old.split is not None and new.split is not None:
            new.split.load_state_dict(old.split.state_dict())
        for index, step in enumerate(new.all_steps()[len(old.all_steps()) :]):
            channels = len(step.mix.weight)
            swap = torch.eye(channels).roll(channels // 2, dims=0)
            step.mix.weight.data.copy_(swap if index % 2 == 0 else swap.T)
    for actnorm in larger.actnorms():
        actnorm.initialized.fill_(True)
    return larger.eval()


def _plus(steps: int | tuple[int, ...], count: int) -> int | tuple[int, ...]:
    return tuple(each + count for each in steps) if isinstance(steps, tuple) else steps + count


def _like(encoder: Encoder, **changes: int) -> Encoder:
    """An encoder with other settings and the same weights, where it has tensors of the same names
    and shapes.
    """
    torch.manual_seed(0)
    if isinstance(encoder, PlainEncoder):
        encoder.compose()
    made = build_encoder(encoder.kind, {**encoder.settings(), **changes})
    made.initialize()
    known = {name: values.shape for name, values in made.state_dict().items()}
    state = {
        name: values
        for name, values in encoder.state_dict().items()
        if values.shape == known.get(name)
    }
    made.load_state_dict(state, strict=False)
    return made.eval()


@torch.no_grad()
def with_more_blocks(encoder: Encoder, count: int) -> Encoder:
    """The encoder with `count` more residual blocks at the end of its trunk."""
    larger = _like(encoder, blocks=len(encoder.blocks) + count)
    for block in larger.blocks[-count:]:
        if isinstance(block, PlainBlock):
            for parameter in (block.conv2.reduce, block.conv2.skip, block.conv2.bias):
                parameter.zero_()
            continue
        last = block.dense[-1].convs[-1]  # x + 0.2·(d + 0.2·last(d, …)) = x where last(d, …) = −5·d
        last.weight.data.zero_()
        last.bias.data.zero_()
        last.weight.data[:, : encoder.nf, 1, 1] = -5 * torch.eye(encoder.nf)
    return larger


def for_scale(encoder: Encoder, scale: int) -> Encoder:
    """The encoder for another scale, as far as its weights serve there: a start for a training, not
    yet useful.

    Raises: ArgumentError.
    """
    if scale not in SCALES:
        raise ArgumentError(f"scale is {scale}; encoders are for ×2, ×4, ×8 or ×16")
    if scale == encoder.scale:
        raise ArgumentError(f"scale is {scale} already")
    rescaled = _like(encoder, scale=scale)
    if isinstance(encoder, RRDB) and isinstance(rescaled, RRDB):
        for new in rescaled.upconvs[len(encoder.upconvs) :]:
            new.load_state_dict(encoder.upconvs[-1].state_dict())
    return rescaled


def grow(part: str, source: Path, target: Path, count: int) -> str:
    """Read, add, write. Returns: what the written network has. Raises: ArgumentError,
    CheckpointError.
    """
    model = load_checkpoint(source)
    encoder = model if isinstance(model, Encoder) else model.encoder
    if part == "scale":
        save_checkpoint(target, for_scale(encoder, count))
        return f"scale {count}"
    if part == "blocks":
        save_checkpoint(target, with_more_blocks(encoder, count))
        return f"{len(encoder.blocks) + count} blocks"
    if not isinstance(model, SRFlow):
        raise CheckpointError(
            f"{source} is an LR encoder, which has no flow: name an SRFlow checkpoint, or add "
            "blocks"
        )
    save_checkpoint(target, with_more_steps(model, count))
    steps = _plus(model.config.steps, count)
    return f"{'/'.join(map(str, steps)) if isinstance(steps, tuple) else steps} steps per level"


def refuse_target(parser: argparse.ArgumentParser, target: Path, *sources: Path) -> None:
    """End the program if the target's name is no checkpoint's, or it is one of the networks that it
    is made from.
    """
    if target.suffix != ".safetensors":
        parser.error(f"{target} would be a checkpoint: name a file that ends in .safetensors")
    if any(source.exists() and target.exists() and source.samefile(target) for source in sources):
        parser.error(
            f"{target} is the network itself, which would be lost: name another file to write"
        )


def write(target: Path, make: Callable[[], str]) -> None:
    """Write the target and print what `make` returns about it, or end the program with a line on
    what is wrong.
    """
    try:
        print(f"{target}: {make()}")
    except SRFlowError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {target} cannot be written: {error.strerror or error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", choices=("steps", "blocks", "scale"), help="what to add, or scale: what to change"
    )
    parser.add_argument("source", type=Path, help="the trained network's checkpoint")
    parser.add_argument("target", type=Path, help="the checkpoint to write")
    parser.add_argument(
        "count", type=int, help="how many to add (of steps, an even number), or the new scale"
    )
    options = parser.parse_args()
    if options.part != "scale" and (
        options.count < 1 or (options.part == "steps" and options.count % 2)
    ):
        parser.error(
            f"{options.count} {options.part} cannot be added: name 1 or more, and of steps an even "
            "number"
        )
    refuse_target(parser, options.target, options.source)
    write(options.target, lambda: grow(options.part, options.source, options.target, options.count))


if __name__ == "__main__":
    main()
