"""Average two trainings of one network, to have something of both.

    python examples/average.py flow.safetensors lpips.safetensors mean.safetensors
    python examples/average.py flow.safetensors lpips.safetensors nearer.safetensors --share 0.75
    python examples/average.py flow.safetensors lpips.safetensors wider.safetensors --widen 1.1

For a network and what a further training made of it: their weights are still near each other, so
that pictures of the mean lie between those of both (Wortsman et al., "Robust fine-tuning of
zero-shot models", arXiv 2109.01903). A flow that was trained further by LPIPS so loses less of its
likelihood and of its variety. Widened priors give more of it back: the mean's temperature 1 then
draws what 1.1 drew.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from grow import refuse_target, write

from srflow_sdk.errors import CheckpointError
from srflow_training import load_checkpoint, save_checkpoint
from srflow_training.checkpoints import load_with_notes


def average(one: Path, other: Path, target: Path, share: float, widen: float = 1) -> str:
    """Write (1 − share) · one + share · other, tensor by tensor, with the second's notes and the
    standard deviations of every split's prior times `widen`. Raises: CheckpointError.
    """
    model = load_checkpoint(one)
    trained, notes = load_with_notes(other)
    mine = model.state_dict()
    second = trained.state_dict()
    if {name: values.shape for name, values in mine.items()} != {
        name: values.shape for name, values in second.items()
    }:
        raise CheckpointError(
            f"{one} and {other} are different networks; average two trainings of the same one"
        )
    model.load_state_dict(
        {
            name: values.lerp(second[name], share) if values.is_floating_point() else values
            for name, values in mine.items()
        }
    )
    splits = [level.split for level in model.flow_levels() if level.split is not None]
    for split in splits:
        gain = torch.exp(3 * split.conv.logs.detach()).flatten()
        _, of_logs = (math.log(widen) / gain).chunk(2)
        split.conv.bias.data[len(of_logs) :] += of_logs
    notes = {**notes, "averaged": {"with": one.name, "share": share, "widen": widen}}
    save_checkpoint(target, model, notes=notes)
    return f"{1 - share:g} of {one.name}, {share:g} of {other.name}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("one", type=Path, help="a checkpoint of srflow-train")
    parser.add_argument(
        "other", type=Path, help="another of the same network, trained further from it"
    )
    parser.add_argument("target", type=Path, help="the checkpoint to write, a .safetensors file")
    parser.add_argument(
        "--share", type=float, default=0.5, help="the second one's, from 0 to 1 (default: 0.5)"
    )
    parser.add_argument(
        "--widen", type=float, default=1, help="what the priors' deviations are multiplied by"
    )
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        parser.error(f"{options.share} is no share: name one from 0 to 1")
    if options.widen <= 0:
        parser.error(f"--widen is above 0, not {options.widen}")
    refuse_target(parser, options.target, options.one, options.other)
    write(
        options.target,
        lambda: average(options.one, options.other, options.target, options.share, options.widen),
    )


if __name__ == "__main__":
    main()
