"""Write a network with random weights, or the direct ONNX export of the authors' network, for `networks.py`.

python -m benchmarks.bench.make_network checkpoint|direct NAME TARGET [--tiny]

`direct` is what `torch.onnx.export` makes of the network as it stands: one graph, the conditioning in it, sizes free.
Only the inverses of the 1×1 convolutions are computed beforehand, because ONNX has no operator for them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import onnx
import torch

from benchmarks.bench.networks import PRESETS
from benchmarks.full_size_checkpoint import steady
from benchmarks.published_network import inverse_matrices, sample
from srflow_training import SRFlow, load_checkpoint
from srflow_training.checkpoints.keys import to_published
from srflow_training.settings import load_settings

_TINY: dict[str, Any] = {"nf": 8, "growth": 4, "blocks": 2, "stacked_blocks": (0, 1), "steps": 2, "hidden": 8}


def network(name: str, *, tiny: bool) -> SRFlow:
    """The preset's network, or a tiny one of its scale and levels; deterministic."""
    config = load_settings(PRESETS[name]).config()
    return steady(dataclasses.replace(config, **_TINY) if tiny else config)


class _Whole(torch.nn.Module):
    def __init__(self, model: SRFlow, levels: list[int]) -> None:
        super().__init__()
        self.model, self.levels, self.matrices = model, levels, inverse_matrices(model)

    def forward(self, lr: torch.Tensor, *latents: torch.Tensor) -> torch.Tensor:
        """N×3×h×w and a tensor for each level: N×3×sh×sw."""
        return sample(self.model, lr, dict(zip(self.levels, latents, strict=True)), matrices=self.matrices)


def export_direct(model: SRFlow, target: Path) -> None:
    """Write the graph, with the scale in its metadata."""
    model = model.to(memory_format=torch.contiguous_format).requires_grad_(False)
    side = 2 * 2**model.config.levels
    shapes = model.latent_shapes(side, side)
    names = ["lr", *(f"latents{level}" for level in shapes)]
    inputs: tuple[Any, ...] = (torch.rand(1, 3, side, side), *(torch.randn(1, *shape) for shape in shapes.values()))
    torch.onnx.export(
        _Whole(model, list(shapes)).eval(),
        inputs,
        str(target),
        dynamo=False,
        input_names=names,
        output_names=["sr"],
        dynamic_axes={name: {2: f"{name}_h", 3: f"{name}_w"} for name in names},
        opset_version=18,
    )
    proto = onnx.load(target)
    onnx.helper.set_model_props(proto, {"scale": str(model.config.scale)})
    onnx.save(proto, target)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["checkpoint", "direct"])
    parser.add_argument("name", choices=list(PRESETS))
    parser.add_argument("target", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    partial = options.target.with_name(f".{options.target.name}")
    if options.what == "checkpoint":
        model = network(options.name, tiny=options.tiny)
        torch.save(to_published(model.state_dict(), model.config), partial)
    else:
        loaded = load_checkpoint(options.target.with_name(f"{options.name}.pth"))
        if not isinstance(loaded, SRFlow):
            sys.exit(f"{options.name}.pth is not an SRFlow network")
        export_direct(loaded, partial)
    partial.rename(options.target)


if __name__ == "__main__":
    main()
