"""Choose the shape of the small encoder: short trainings of different plain encoders, all of the same cost, by L1.

    OMP_NUM_THREADS=1 nice -n 15 python benchmarks/encoder_curve.py data/train --budget 300
    python benchmarks/encoder_curve.py --table

Every candidate gets as many iterations as the budget allows, by the processor's time of its steps against the base's in
alternating steps: so neither another processor nor other load changes what it gets. Crops are prepared by the same
process. The PSNR is over RGB, without borders of 4 pixels, of the 24 crops that network_curve.py holds out.

Finished candidates are skipped; delete their lines of results.json in --out to train them again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from network_photos import prepare
from torch import Tensor

from srflow_training.model.encoder import lrelu
from srflow_training.model.plain import PlainBlock
from srflow_training.settings import load_settings
from srflow_training.trainer import Trainer

PRESET = "plain-x4-small"
STEPS_A_SECOND = 10.0  # of the base, with its crops, in bf16 on one core of a Xeon with AMX
MEASURED_STEPS, WARM_UP = 12, 2


def gated(block: PlainBlock, x: Tensor) -> Tensor:
    """(o + x)·(sigmoid(o) − 1/2), the gate of SPAN (Wan et al., CVPRW 2024), with two convolutions instead of three."""
    o = block.conv2(lrelu(block.conv1(x)))
    gate: Tensor = (o + x) * (torch.sigmoid(o) - 0.5)
    return gate


def plain() -> AbstractContextManager[object]:
    """The blocks as they are."""
    return nullcontext()


def with_gate() -> AbstractContextManager[object]:
    """Blocks with a gate."""
    return mock.patch.object(PlainBlock, "forward", gated)


CANDIDATES = {
    "9 blocks of 32": ([], plain),
    "6 blocks of 32": (["network.blocks=6"], plain),
    "14 blocks of 32": (["network.blocks=14"], plain),
    "4 blocks of 48": (["network.nf=48", "network.blocks=4"], plain),
    "9 blocks of 48": (["network.nf=48", "schedule.learning_rate=1e-3"], plain),
    "18 blocks of 16": (["network.nf=16", "network.blocks=18"], plain),
    "9 gated blocks of 32": ([], with_gate),
    "9 blocks of 32, rate 1e-3": (["schedule.learning_rate=1e-3"], plain),
    "9 blocks of 32, rate 4e-3": (["schedule.learning_rate=4e-3"], plain),
}


def trainer(overrides: list[str], folders: tuple[Path, Path, Path], *, out: Path, iterations: int) -> Trainer:
    """A run without saved states."""
    photos, crops, cache = folders
    fixed = ["hardware.threads=1", "data.workers=0", f"data.cache={cache.resolve()}", "schedule.validate_crops=24"]
    lengths = [f"schedule.{name}={iterations}" for name in ("iterations", "save_every", "log_every", "validate_every")]
    settings = load_settings(PRESET, [*overrides, *fixed, *lengths])
    return Trainer(settings, data=photos, out=out, val=crops, resume=False)


def relative_cost(name: str, folders: tuple[Path, Path, Path], out: Path) -> float:
    """Processor time of a step, with its crops, against one of the base's."""
    overrides, blocks = CANDIDATES[name]
    runs = [
        (trainer(own, folders, out=out / label, iterations=MEASURED_STEPS), kind)
        for label, own, kind in (("candidate", overrides, blocks), ("base", [], plain))
    ]
    times = []
    for iteration in range(MEASURED_STEPS):
        ends = [time.process_time()]
        for run, kind in runs:
            with kind():
                run.step(run.crops[iteration])
            ends.append(time.process_time())
        times.append(np.diff(ends))
    candidate, base = np.median(times[WARM_UP:], axis=0)
    return float(candidate / base)


def measure(name: str, folders: tuple[Path, Path, Path], budget: float) -> dict[str, float]:
    """Train a candidate and return its figures."""
    overrides, blocks = CANDIDATES[name]
    with tempfile.TemporaryDirectory() as out:
        cost = relative_cost(name, folders, Path(out))
        iterations = round(budget * STEPS_A_SECOND / cost)
        run, figures = trainer(overrides, folders, out=Path(out) / "run", iterations=iterations), dict[str, float]()
        began = time.process_time()
        with blocks():
            run.run(figures.update)
    return {
        "cost": cost,
        "iterations": iterations,
        "seconds": time.process_time() - began,
        "psnr": figures["validation/psnr"],
        "bicubic": figures["validation/psnr_bicubic"],
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """Draw what has been measured as Markdown."""
    rows = ["| encoder | time of a step | iterations | PSNR, dB |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {row['cost']:.2f} | {row['iterations']:.0f} | {row['psnr']:.2f} |" for name, row in results.items()
    ]
    bicubic = next((row["bicubic"] for row in results.values()), float("nan"))
    return "\n".join([*rows, f"\nBicubic: {bicubic:.2f} dB."])


def main() -> None:
    """Train what is left, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("data/train"), help="[default: data/train]")
    parser.add_argument("--out", type=Path, default=Path("runs/encoder_curve"), help="[default: runs/encoder_curve]")
    parser.add_argument("--budget", type=float, default=300, help="processor seconds of the base  [default: 300]")
    parser.add_argument("--only", nargs="+", choices=list(CANDIDATES), metavar="NAME", default=list(CANDIDATES))
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.out / "results.json"
    results: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not options.table:
        options.out.mkdir(parents=True, exist_ok=True)
        folders = prepare(options.data, options.out)
        for name in options.only:
            if name not in results:
                results[name] = measure(name, folders, options.budget)
                file.write_text(json.dumps(results, indent=2), encoding="utf-8")
                print(table(results), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
