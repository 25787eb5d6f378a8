"""Choose what the long trainings train: short trainings of small networks of different shapes, all of the same cost.

    OMP_NUM_THREADS=1 nice -n 15 python benchmarks/network_curve.py data/train
    python benchmarks/network_curve.py --table                              # what has been measured so far

Every candidate's encoder and flow are trained for a budget of processor seconds, with one thread. Crops are prepared by
the same process, so their cost counts. A few steps are timed first, alternating with the base's, whose steps a second
are fixed below, and the iterations are set to what the budget allows, so that the learning rate falls as in a long
training. So neither another processor nor other load changes what a candidate gets, apart from what they change in the
ratio. Candidates that share an encoder train it once.

The figures are means over 24 crops of six photographs that are held out of the training. They may choose a network,
because the photographs of the model card are not among them. LPIPS needs its weights (docs/experiments.md).

Finished candidates are skipped, and so are finished encoders; delete a candidate's file in --out to train it again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from network_photos import prepare
from torch import Tensor

from srflow_evaluation import LevelTaus, report
from srflow_training.model.encoder import lrelu
from srflow_training.model.plain import PlainBlock
from srflow_training.settings import load_settings
from srflow_training.trainer import Trainer

ENCODER, FLOW = "plain-x4-small", "x4-small"
# of the base's, in bf16, on one core of a Xeon with AMX: what a second of the budget buys on any machine
STEPS_A_SECOND = {ENCODER: 11.5, FLOW: 3.2}
ENCODER_SHARE = 0.35  # of the budget
MEASURED_STEPS, WARM_UP = 12, 2
TAUS = LevelTaus((0.0,)), LevelTaus((0.9,))


@dataclass(frozen=True)
class Candidate:
    """Settings that differ from the presets', as for `srflow-train --set`.

    network: of both trainings. flow: of the flow's alone. gate: blocks of the encoder have SPAN's gate.
    """

    network: tuple[str, ...] = ()
    flow: tuple[str, ...] = ()
    gate: bool = False

    def __str__(self) -> str:
        return ", ".join([*self.network, *self.flow, *(["gate"] if self.gate else [])]) or "base"

    def blocks(self) -> AbstractContextManager[object]:
        """Within it, the encoder's blocks are as the candidate asks."""
        return mock.patch.object(PlainBlock, "forward", gated) if self.gate else nullcontext()


def gated(block: PlainBlock, x: Tensor) -> Tensor:
    """(o + x)·(sigmoid(o) − 1/2), the gate of SPAN (Wan et al., CVPRW 2024), with two convolutions instead of three."""
    o = block.conv2(lrelu(block.conv1(x)))
    gate: Tensor = (o + x) * (torch.sigmoid(o) - 0.5)
    return gate


NARROW = "network.nf=32"
NINE = (NARROW, "network.blocks=9")
CANDIDATES = {
    "base": Candidate(NINE),
    "shallow": Candidate((NARROW, "network.blocks=6")),
    "deep": Candidate((NARROW, "network.blocks=14")),
    "wide": Candidate(("network.nf=48", "network.blocks=4")),  # as it was chosen for the presets
    "gate": Candidate(NINE, gate=True),
    "3×3 on u": Candidate(
        NINE, ("network.condition=[16,32,64]", "network.condition_kernel=3", "network.hidden=[32,32,48]")
    ),
    "wide nets": Candidate(NINE, ("network.hidden=[48,48,64]",)),
    "narrow injectors": Candidate(NINE, ("network.injector_hidden=[16,16,32]",)),
    "K 4, 4, 4": Candidate(NINE, ("network.steps=[4,4,4]",)),
    "K 1, 3, 8": Candidate(NINE, ("network.steps=[1,3,8]",)),
    "K 3, 6, 9": Candidate(NINE, ("network.steps=[3,6,9]",)),
}


def trainer(preset: str, overrides: list[str], iterations: int, *, photos: Path, cache: Path, out: Path) -> Trainer:
    """A run of one thread, whose only saved state is its last."""
    fixed = ["hardware.threads=1", "data.workers=0", f"data.cache={cache.resolve()}"]
    lengths = [f"schedule.{name}={iterations}" for name in ("iterations", "save_every", "log_every")]
    settings = load_settings(preset, [*overrides, *fixed, *lengths])
    return Trainer(settings, data=photos, out=out, val=None, resume=False)


def relative_cost(preset: str, overrides: list[str], candidate: Candidate, **folders: Path) -> float:
    """Processor time of a step, with its crops, against one of the base's, by turns; the encoder learns in half."""
    start = [each for each in overrides if each.startswith("schedule.encoder=")]
    with tempfile.TemporaryDirectory() as out:
        runs = []
        frozen_half = ["schedule.freeze_encoder=0.5"] if preset == FLOW else []
        for label, own, kind in (
            ("candidate", [*overrides, *frozen_half], candidate),
            ("base", [*NINE, *frozen_half], CANDIDATES["base"]),
        ):
            own = [each for each in own if each not in start]
            runs.append((trainer(preset, own, MEASURED_STEPS, out=Path(out) / label, **folders), kind))
        times = []
        for iteration in range(MEASURED_STEPS):
            ends = [time.process_time()]
            for run, kind in runs:
                with kind.blocks():
                    run.step(run.crops[iteration])
                ends.append(time.process_time())
            times.append(np.diff(ends))
    halves = np.array(times).reshape(2, -1, 2)[:, WARM_UP:]  # the encoder learns in the second, where it can
    mine, base = np.median(halves, axis=1).sum(axis=0)
    return float(mine / base)


def trained(
    preset: str, overrides: list[str], candidate: Candidate, *, budget: float, out: Path, **folders: Path
) -> int:
    """Train for a budget of processor seconds; returns the number of iterations."""
    cost = relative_cost(preset, overrides, candidate, **folders)
    iterations = max(20, round(budget * STEPS_A_SECOND[preset] / cost))
    print(f"{candidate}: {preset}, a step costs {cost:.2f} of the base's, {iterations} iterations", flush=True)
    with candidate.blocks():
        trainer(preset, overrides, iterations, out=out, **folders).run(lambda _: None)
    return iterations


def measure(name: str, data: Path, out: Path, budget: float) -> dict[str, Any]:
    """Train a candidate, unless its encoder is there already, and return its figures."""
    candidate = CANDIDATES[name]
    photos, crops, cache = prepare(data, out)
    folders = {"photos": photos, "cache": cache}
    encoder = out / "encoders" / str(Candidate(candidate.network, gate=candidate.gate))
    if not (done := encoder / "iterations").is_file():
        share = {"budget": ENCODER_SHARE * budget, "out": encoder}
        done.write_text(str(trained(ENCODER, list(candidate.network), candidate, **share, **folders)), encoding="utf-8")
    overrides = [*candidate.network, *candidate.flow, f"schedule.encoder={(encoder / 'model.safetensors').resolve()}"]
    with tempfile.TemporaryDirectory() as folder:
        share = {"budget": (1 - ENCODER_SHARE) * budget, "out": Path(folder)}
        iterations = trained(FLOW, overrides, candidate, **share, **folders)
        with candidate.blocks():
            rows = report(str(Path(folder) / "model.safetensors"), crops, TAUS, metrics=("psnr", "lpips"))
            (_, pretrained) = report(str(encoder / "model.safetensors"), crops, [], metrics=("psnr", "lpips"))
    return {
        "candidate": name,
        "differs in": str(candidate),
        "encoder's steps": int(done.read_text(encoding="utf-8")),
        "flow's steps": iterations,
        "bicubic": round(rows[0].psnr, 2),
        "encoder": round(pretrained.psnr, 2),
        "PSNR, τ = 0": round(rows[-2].psnr, 2),
        "LPIPS, τ = 0.9": rows[-1].lpips and round(rows[-1].lpips, 4),
        "PSNR, τ = 0.9": round(rows[-1].psnr, 2),
        "samples differ, /255": round(rows[-1].sample_difference, 1),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Draw what has been measured as Markdown, in the order of the candidates."""
    rows = sorted(results, key=lambda row: list(CANDIDATES).index(row["candidate"]))
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Train what is left, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("data/train"), help="[default: data/train]")
    parser.add_argument("--out", type=Path, default=Path("runs/network_curve"), help="[default: runs/network_curve]")
    parser.add_argument("--budget", type=float, default=330, help="processor seconds of a candidate  [default: 330]")
    parser.add_argument("--only", nargs="+", choices=list(CANDIDATES), metavar="NAME", default=list(CANDIDATES))
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in [] if options.table else options.only:
        if not (file := options.out / f"{name}.json").is_file():
            figures = measure(name, options.data, options.out, options.budget)
            file.write_text(json.dumps(figures), encoding="utf-8")
            print(json.dumps(figures), flush=True)
    results = [json.loads(file.read_text(encoding="utf-8")) for file in options.out.glob("*.json")]
    print(table(results) if results else f"{options.out}: nothing has been measured yet")


if __name__ == "__main__":
    main()
