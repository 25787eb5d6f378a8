"""The full-size ×4 network with random weights that is timed, and its exports; kept in build/bench for the next run.

python -m benchmarks.bench.networks CHECKPOINT TARGET writes the direct export: what `torch.onnx.export` makes of the
authors' network as it stands, one graph, the conditioning in it, sizes free. Only the inverses of the 1×1 convolutions
are computed beforehand, because ONNX has no operator for them. Time and memory do not depend on the weights.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bench.processes import ROOT, MissingError

if TYPE_CHECKING:
    from srflow_training import SRFlow

_SOURCES = ("export/srflow_export/**/*.py", "training/srflow_training/model/*.py", "benchmarks/full_size_checkpoint.py")
_TINY = ("nf=8", "growth=4", "blocks=2", "stacked_blocks=[0,1]", "steps=2", "hidden=8")


def sources_digest() -> str:
    """Twelve digits of the code that makes networks and exports, for names of folders."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(ROOT.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def prepared(root: Path, say: Callable[[str], None], *, tiny: bool = False) -> Path:
    """The folder with network.pth, direct.onnx, network.srflow and int8.srflow, made where they are missing.

    tiny: a network of seconds. Raises: MissingError if one cannot be made; without int8.srflow only `say` tells.
    """
    folder = root / f"network-{'tiny' if tiny else 'full'}-{sources_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, bundle = folder / "network.pth", folder / "network.srflow"
    sizes = [word for setting in _TINY for word in ("--set", f"network.{setting}")] if tiny else []
    export = ["-c", "from srflow_export.cli import main; main()"]
    commands = {
        "network.pth": ["-m", "benchmarks.full_size_checkpoint", str(checkpoint), *sizes],
        "direct.onnx": ["-m", "benchmarks.bench.networks", str(checkpoint), str(folder / "direct.onnx")],
        "network.srflow": [*export, "--ckpt", str(checkpoint), "-o", str(bundle), "--halo", "16"],
        "int8.srflow": [*export, "--bundle", str(bundle), "--also", "int8", "-o", str(folder / "int8.srflow")],
    }
    for name, command in commands.items():
        if (folder / name).exists():
            continue
        say(f"makes {name}")
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
        if not (folder / name).exists():
            why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            if name != "int8.srflow":
                raise MissingError(f"{name} cannot be made: {why}")
            say(f"{name} cannot be made: {why}")
    return folder


def export_direct(model: SRFlow, target: Path) -> None:
    """Write the graph, with the scale in its metadata."""
    import onnx
    import torch

    from benchmarks.published_network import inverse_matrices, sample

    class Whole(torch.nn.Module):
        def forward(self, lr: torch.Tensor, *latents: torch.Tensor) -> torch.Tensor:
            """N×3×h×w and a tensor for each level: N×3×sh×sw."""
            return sample(model, lr, dict(zip(shapes, latents, strict=True)), matrices=matrices)

    model = model.to(memory_format=torch.contiguous_format).requires_grad_(False)
    side, matrices = 2 * 2**model.config.levels, inverse_matrices(model)
    shapes = model.latent_shapes(side, side)
    names = ["lr", *(f"latents{level}" for level in shapes)]
    inputs: tuple[Any, ...] = (torch.rand(1, 3, side, side), *(torch.randn(1, *shape) for shape in shapes.values()))
    axes = {name: {2: f"{name}_h", 3: f"{name}_w"} for name in names}
    named: dict[str, Any] = {"input_names": names, "output_names": ["sr"], "dynamic_axes": axes, "opset_version": 18}
    whole = Whole().eval()
    whole.model = model  # so that its weights are the graph's
    torch.onnx.export(whole, inputs, str(target), dynamo=False, **named)
    proto = onnx.load(target)
    onnx.helper.set_model_props(proto, {"scale": str(model.config.scale)})
    onnx.save(proto, target)


def main() -> None:
    """Write the direct export."""
    from srflow_training import SRFlow, load_checkpoint

    checkpoint, target = map(Path, sys.argv[1:])
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)  # for the type checker: it has a flow
    part = target.with_name(f".{target.name}")
    export_direct(model, part)
    part.rename(target)


if __name__ == "__main__":
    main()
