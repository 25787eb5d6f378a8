"""Choose what the long trainings train: short trainings of different networks and settings, all of the same cost.

    OMP_NUM_THREADS=1 nice python benchmarks/network_curve.py data/train     # in two terminals, to use two cores
    python benchmarks/network_curve.py --table                               # what has been measured so far

Each candidate's encoder and flow are trained for a budget of processor seconds, with one thread. Crops are prepared by
the same process (data.workers=0), so their cost counts; decoding does not, because all photographs are decoded before.
A few steps are timed first, alternating with the base's, whose steps a second are fixed below, and
schedule.iterations is set to what the budget allows, so that the learning rate falls as in a long training. So neither
another processor nor other load changes what a candidate gets, apart from what they change in the ratio.

The figures are means over 24 crops of six photographs that are held out of the training. They may choose a network,
because the photographs of the model card are not among them. Candidates that share an encoder train it once.

It can be killed at any time: the same command continues. A candidate belongs to one process at a time, and finished
ones are skipped. Each has a folder in --out with its bundle; delete the folder to train it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from network_figures import measure
from network_photos import prepare, with_graphics

from srflow_sdk.errors import ExportError
from srflow_training.settings import load_settings
from srflow_training.trainer import DivergedError, Trainer


@dataclass(frozen=True)
class Candidate:
    """Settings, as for `srflow-train --set`. network: of both runs. flow: of the flow's run alone.

    encoder_share: share of the budget that the encoder's pretraining takes; None: the one of the command line.
    graphics: whether rendered pages (--graphics) are among the crops.
    """

    network: tuple[str, ...] = ()
    flow: tuple[str, ...] = ()
    encoder_share: float | None = None
    graphics: bool = False

    def __str__(self) -> str:
        share = [] if self.encoder_share is None else [f"encoder share {self.encoder_share:g}"]
        pages = ["rendered pages among the crops"] if self.graphics else []
        return ", ".join([*self.network, *self.flow, *share, *pages]) or "base"


# What the candidates differ from: the presets when this comparison was made.
BASE = {
    "rrdb-x4-small": ["network.blocks=5"],
    "x4-small": [
        *("network.blocks=5", "network.stacked_blocks=[2,4]", "network.steps=8", "network.noise_conditional=false"),
        *("objective.noise=", "objective.noise_max="),
    ],
}
CANDIDATES = {
    "baseline": Candidate(),
    "wider-encoder": Candidate(("network.nf=48", "network.growth=24")),
    "deeper-encoder": Candidate(("network.blocks=8",), ("network.stacked_blocks=[3,7]",)),
    "6-steps": Candidate(flow=("network.steps=6",)),
    "12-steps": Candidate(flow=("network.steps=12",)),
    "hidden-32": Candidate(flow=("network.hidden=32",)),
    "hidden-56": Candidate(flow=("network.hidden=56",)),
    "last-block": Candidate(flow=("network.stacked_blocks=[4]",)),
    # Time of a tile: that of the baseline. One block less in the condition pays for two more in the trunk.
    "deeper-last-block": Candidate(("network.blocks=7",), ("network.stacked_blocks=[6]",)),
    "level-feature": Candidate(flow=("network.stacked_blocks=[]",)),
    "four-blocks": Candidate(flow=("network.stacked_blocks=[1,2,3,4]",)),
    # Time of a tile: 1.12, 0.97 and 1.01 of the baseline's. The flow's convolutions on the condition are most of it, so
    # with 64 channels there is only one block in the condition (128 channels instead of 96; without it: 0.85).
    "unshuffled": Candidate(
        ("network.unshuffle=2", "network.nf=64", "network.growth=32"), ("network.stacked_blocks=[4]",)
    ),
    "unshuffled-narrow": Candidate(
        ("network.unshuffle=2", "network.nf=48", "network.growth=32", "network.blocks=6"),
        ("network.stacked_blocks=[5]",),
    ),
    "unshuffled-deep": Candidate(("network.unshuffle=2", "network.blocks=20"), ("network.stacked_blocks=[9,19]",)),
    "likelihood-alone": Candidate(flow=("objective.l1=0",)),
    "noise-conditional": Candidate(
        flow=("network.noise_conditional=true", "objective.noise=0.5", "objective.noise_max=4")
    ),
    "haarpsi": Candidate(
        flow=(
            "objective.perceptual=2",
            "objective.perceptual_loss=haarpsi",
            "objective.perceptual_every=2",
            "objective.lr_consistency=10",
        )
    ),
    "encoder-share-0.2": Candidate(encoder_share=0.2),
    "encoder-share-0.5": Candidate(encoder_share=0.5),
    "graphics": Candidate(graphics=True),
}
# of the base, in bf16, on one core of an AMD EPYC with AVX512: what a second of the budget buys on any machine
STEPS_A_SECOND = {"rrdb-x4-small": 2087 / 315, "x4-small": 1029 / 585}
MEASURED_STEPS, WARM_UP = 12, 2


class EncoderIsBusyError(Exception):
    """Another process trains the encoder that a candidate needs."""


def write(path: Path, content: str) -> None:
    """Replace a file in one go, so that a killed process leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(content, encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """An object; {} if there is no such file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def relative_cost(config: str, overrides: Sequence[str], photos: Path) -> float:
    """Processor time of a step against one of the base's, in alternating steps, some of which train the encoder."""
    with tempfile.TemporaryDirectory() as out:
        trainers = []
        frozen_half = ["schedule.freeze_encoder=0.5"]  # as with a pretrained encoder
        for name, own in (("candidate", overrides), ("base", [*common_of(overrides), *frozen_half])):
            settings = load_settings(config, [*BASE[config], *own, f"schedule.iterations={MEASURED_STEPS}"])
            trainers.append(Trainer(settings, data=photos, out=Path(out) / name, val=None, resume=False))
        times = []
        for iteration in range(MEASURED_STEPS):
            ends = [time.process_time()]
            for trainer in trainers:
                trainer.step(trainer.crops[iteration])
                ends.append(time.process_time())
            times.append(np.diff(ends))
    counted = [pair for iteration, pair in enumerate(times) if iteration % (MEASURED_STEPS // 2) >= WARM_UP]
    candidate, base = np.sum(counted, axis=0)
    return float(candidate / base)


def common_of(overrides: Sequence[str]) -> list[str]:
    """What every run has in common, among the settings of one."""
    return [each for each in overrides if each.startswith(("hardware.", "data.workers", "data.cache"))]


def train(config: str, overrides: Sequence[str], *, budget: float, photos: Path, folder: Path) -> dict[str, Any]:
    """Train for a budget of processor seconds, or continue; the log says how long it took."""
    path = folder / "log.json"
    log, asked = read_json(path), {"config": config, "overrides": list(overrides), "budget": budget}
    if not log:
        cost = relative_cost(config, overrides, photos)
        log = {
            "asked": asked,
            "relative_cost": cost,
            "iterations": max(20, round(budget * STEPS_A_SECOND[config] / cost)),
            "spent": {"0": 0.0},
        }
        write(path, json.dumps(log, indent=2))
    if log["asked"] != asked:
        sys.exit(f"{folder}: holds a run with another budget or other settings: delete it, or name another --out")
    if log.get("done"):
        return log
    every = max(1, log["iterations"] // 40)
    lengths = [f"schedule.iterations={log['iterations']}"]
    lengths += [f"schedule.{name}={every}" for name in ("save_every", "log_every")] + ["schedule.keep=1"]
    resume = any(folder.glob("states/iteration-*.pt"))
    settings = load_settings(config, [*BASE[config], *overrides, *lengths])
    trainer = Trainer(settings, data=photos, out=folder, val=None, resume=resume)
    # a state that was lost is trained again, and its time counts once
    before = max(seconds for done, seconds in log["spent"].items() if int(done) <= trainer.iteration)
    log["spent"] = {done: seconds for done, seconds in log["spent"].items() if int(done) <= trainer.iteration}
    begun = time.process_time()

    def keep(figures: dict[str, float] | None = None) -> None:
        log["spent"][str(trainer.iteration)] = before + time.process_time() - begun
        write(path, json.dumps(log, indent=2))
        if figures:
            of = log["iterations"]
            print(f"{folder.name}: {config} {trainer.iteration} of {of}, loss {figures['loss']:.4f}", flush=True)

    try:
        trainer.run(keep)
    except KeyboardInterrupt:
        keep()
        raise
    log["done"] = True
    write(path, json.dumps(log, indent=2))
    shutil.rmtree(folder / "states")
    return log


def common(cache: Path) -> list[str]:
    """Settings of every run: one thread, decoded photographs, and the precision in which this processor is faster."""
    return ["hardware.threads=1", "data.workers=0", f"data.cache={cache.resolve()}"]


def encoder_of(candidate: Candidate, budget: float, out: Path, photos: Path, cache: Path) -> Path:
    """Folder of the candidate's trained encoder. Raises: EncoderIsBusyError."""
    overrides = [*candidate.network, *common(cache)]
    asked = [candidate.network, budget, *(["graphics"] if candidate.graphics else [])]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]
    folder = out / "encoders" / digest
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            train("rrdb-x4-small", overrides, budget=budget, photos=photos, folder=folder)
    except Timeout as error:
        raise EncoderIsBusyError from error
    return folder


def run(name: str, options: argparse.Namespace, folders: tuple[Path, Path, Path]) -> None:
    """Train and measure a candidate, and write its result. Raises: EncoderIsBusyError."""
    photos, crops, cache = folders
    candidate, folder = CANDIDATES[name], options.out / name
    if candidate.graphics:
        photos, cache = with_graphics(photos, options.graphics, options.out)
    share = options.encoder_share if candidate.encoder_share is None else candidate.encoder_share
    result: dict[str, Any] = {"name": name, "differs": str(candidate), "budget": options.budget, "encoder_share": share}
    try:
        encoder = encoder_of(candidate, share * options.budget, options.out, photos, cache)
        start = f"schedule.encoder={(encoder / 'model.safetensors').resolve()}"
        overrides = [*candidate.network, *candidate.flow, *common(cache), start]
        train("x4-small", overrides, budget=(1 - share) * options.budget, photos=photos, folder=folder)
        for run_name, of in (("encoder", encoder), ("flow", folder)):
            log = read_json(of / "log.json")
            result[f"{run_name}_iterations"] = log["iterations"]
            result[f"{run_name}_cpu_seconds"] = max(log["spent"].values())
        result |= measure(folder / "model.safetensors", encoder / "model.safetensors", crops, options.vgg16)
    except (DivergedError, ExportError) as error:
        result["failed"] = str(error)
    write(folder / "result.json", json.dumps(result, indent=2))


COLUMNS = (
    ("encoder_parameters", "encoder parameters", ",d"),
    ("flow_parameters", "flow parameters", ",d"),
    ("encoder_iterations", "encoder iterations", "d"),
    ("flow_iterations", "flow iterations", "d"),
    ("encoder_cpu_seconds", "encoder CPU s", ".0f"),
    ("flow_cpu_seconds", "flow CPU s", ".0f"),
    ("encode_seconds", "tile: encode, s", ".3f"),
    ("sample_seconds", "tile: sample, s", ".3f"),
    ("tile_ratio", "tile / embedded model's", ".2f"),
    ("bundle_megabytes", "bundle, MB", ".1f"),
    ("nll", "NLL, bits", ".3f"),
    ("encoder_y_psnr", "Y PSNR, pretrained encoder", ".2f"),
    ("psnr", "PSNR, τ=0", ".2f"),
    ("y_psnr", "Y PSNR, τ=0", ".2f"),
    ("gmsd", "GMSD ↓", ".4f"),
    ("haarpsi", "HaarPSI ↑", ".3f"),
    ("vgg16_feature_distance", "VGG16 distance ↓", ".4f"),
    ("lr_psnr", "LR-PSNR", ".1f"),
    ("sample_difference", "sample difference, /255", ".1f"),
    ("colour_shift", "colour shift, /255", ".2f"),
    ("nonfinite", "not finite", "d"),
)


def table(out: Path) -> str:
    """Collect what has been measured, in the order of the candidates, as Markdown; also writes results.json and .md."""
    found = [read_json(out / name / "result.json") for name in CANDIDATES]
    rows = [row for row in found if row]
    if not rows:
        return f"{out}: nothing has been measured yet"
    columns = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    lines = [["name", "differs in", *(heading for _, heading, _ in columns)]]
    for row in rows:
        cells = ["" if row.get(key) is None else format(row[key], form) for key, _, form in columns]
        lines.append([row["name"], f"failed: {row['failed']}" if "failed" in row else row["differs"], *cells])
    text = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    text.insert(1, "|---" * len(lines[0]) + "|")
    bicubic = next((row["bicubic_y_psnr"] for row in rows if "bicubic_y_psnr" in row), math.nan)
    text.append(f"\nFigures without a τ in their heading are at τ = 0.8. Bicubic: Y PSNR {bicubic:.2f} dB.")
    write(out / "results.json", json.dumps(rows, indent=2))
    write(out / "results.md", "\n".join(text) + "\n")
    return "\n".join(text)


def run_all(names: Sequence[str], options: argparse.Namespace, folders: tuple[Path, Path, Path]) -> None:
    """Train the candidates that no other process trains; those whose encoder is being trained come last."""
    left = [name for name in names if not (options.out / name / "result.json").is_file()]
    while left:
        waiting = []
        for name in left:
            (options.out / name).mkdir(exist_ok=True)
            try:
                with FileLock(options.out / name / "lock", timeout=0):
                    if not (options.out / name / "result.json").is_file():  # finished meanwhile
                        run(name, options, folders)
                        print(table(options.out), flush=True)
            except EncoderIsBusyError:
                waiting.append(name)
            except Timeout:
                print(f"{name}: another process trains it", flush=True)
        if waiting == left:
            time.sleep(20)
        left = waiting


def main() -> None:
    """Train, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("data/train"), help="[default: data/train]")
    parser.add_argument("--out", type=Path, default=Path("runs/network_curve"), help="[default: runs/network_curve]")
    parser.add_argument("--budget", type=float, default=1800, help="processor seconds of a candidate [default: 1800]")
    parser.add_argument("--encoder-share", type=float, default=0.35, help="of the budget [default: 0.35]")
    parser.add_argument("--only", nargs="+", choices=list(CANDIDATES), metavar="NAME", help=", ".join(CANDIDATES))
    parser.add_argument("--graphics", type=Path, default=Path("data/graphics"), help="[default: data/graphics]")
    parser.add_argument("--vgg16", type=Path, help="as for srflow-eval")
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    options = parser.parse_args()
    if options.table:
        print(table(options.out))
        return
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        run_all(options.only or list(CANDIDATES), options, prepare(options.data, options.out))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues")


if __name__ == "__main__":
    main()
