"""Add blocks that do nothing yet to the trunk of a trained network's LR encoder, to train it further at a larger size.

    python examples/add_blocks.py small.safetensors encoder.safetensors 3
    srflow-train --config rrdb-x4-small --set network.blocks=8 --set schedule.encoder=encoder.safetensors ...

What is written is the encoder alone, an RRDB. The new blocks come after the others. In each, the last convolution
cancels what it is added to, so the block is the identity until it is trained: features and image stay the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from srflow_sdk.errors import SRFlowError
from srflow_training import RRDB, load_checkpoint, save_checkpoint


def with_more_blocks(encoder: RRDB, count: int) -> RRDB:
    """The encoder with `count` more residual blocks at the end of its trunk."""
    torch.manual_seed(0)
    larger = RRDB(**{**encoder.settings(), "blocks": len(encoder.blocks) + count})
    larger.initialize()
    larger.load_state_dict(encoder.state_dict(), strict=False)
    for block in larger.blocks[-count:]:
        last = block.dense[-1].convs[-1]  # x + 0.2·(d + 0.2·last(d, …)) = x where last(d, …) = −5·d
        last.weight.data.zero_()
        last.bias.data.zero_()
        last.weight.data[:, : encoder.nf, 1, 1] = -5 * torch.eye(encoder.nf)
    return larger.eval()


def main(source: Path, target: Path, count: int) -> None:
    """Read, add, write."""
    model = load_checkpoint(source)
    if count < 1:
        raise SystemExit("error: name a number of blocks to add, 1 or more")
    encoder = model if isinstance(model, RRDB) else model.encoder
    save_checkpoint(target, with_more_blocks(encoder, count))
    print(f"{target}: {len(encoder.blocks) + count} blocks")


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdigit():
        raise SystemExit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except SRFlowError as error:
        raise SystemExit(f"error: {error}") from error
