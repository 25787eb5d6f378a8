"""Add conditional steps that do nothing yet to a trained network, to train it further at a larger size.

    python examples/add_steps.py small.safetensors larger.safetensors 2
    srflow-train --config x4-small --set network.steps=8 --set schedule.start=larger.safetensors ...

New steps are added to every level in pairs: the first exchanges the halves of the channels and the second exchanges
them back, around couplings and injectors that are the identity until they are trained. Image, latents and likelihood
are the same as those of the original network.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from srflow_sdk.errors import SRFlowError
from srflow_training import SRFlow, load_checkpoint, save_checkpoint


def with_more_steps(model: SRFlow, pairs: int) -> SRFlow:
    """The network with 2·pairs more conditional steps per level, at the end of the level in the encoding direction."""
    torch.manual_seed(0)
    larger = SRFlow(replace(model.config, steps=model.config.steps + 2 * pairs))
    larger.encoder.load_state_dict(model.encoder.state_dict())
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


def main(source: Path, target: Path, steps: int) -> None:
    """Read, add, write."""
    model = load_checkpoint(source)
    if not isinstance(model, SRFlow) or steps < 2 or steps % 2:
        raise SystemExit("error: name an SRFlow checkpoint and an even number of steps to add")
    save_checkpoint(target, with_more_steps(model, steps // 2))
    print(f"{target}: {model.config.steps + steps} steps per level")


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdigit():
        raise SystemExit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except SRFlowError as error:
        raise SystemExit(f"error: {error}") from error
