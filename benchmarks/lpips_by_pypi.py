"""LPIPS of bicubic enlargements by PyPI's `lpips`, with the same weights, beside what srflow-eval measured.

    python benchmarks/unseen_photos.py data/unseen
    python -m srflow_training.lpips_weights && pip install lpips==0.1.4
    srflow-eval samples --hr data/unseen --samples 2 --metrics psnr,lpips -o out/lpips
    python benchmarks/lpips_by_pypi.py data/unseen out/lpips/results.csv

The exit status is 1 if a photograph's two figures differ by 1e-4 or more.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from importlib.metadata import version
from pathlib import Path

import lpips
import torch
from safetensors.torch import load_file

from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_training.lpips_weights import weights_file
from srflow_training.resampling import enlarge_bicubic, round_to_8_bit

SCALE, MULTIPLE = 4, 8
CONVOLUTIONS = ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")
"""What lpips calls AlexNet's."""


def open_lpips() -> lpips.LPIPS:
    """PyPI's network with the weights that srflow-eval uses; nothing is downloaded."""
    path = weights_file("alex")
    if path is None:
        raise SystemExit("LPIPS's weights are not on this machine: python -m srflow_training.lpips_weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, on how lpips calls it
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    given, weights = load_file(path), network.state_dict()
    for number, name in enumerate(CONVOLUTIONS):
        for part in ("weight", "bias"):
            weights[f"net.{name}.{part}"].copy_(given[f"{number}.{part}"])
        weights[f"lin{number}.model.1.weight"].copy_(given[f"head{number}"][None, :, None, None])
    return network.eval()


@torch.no_grad()
def main(hr: Path, results: Path) -> None:
    """Print both figures of each photograph, their means, and the largest difference."""
    network, cut = open_lpips(), Cut(scale=SCALE, multiple=MULTIPLE)
    with results.open(newline="") as file:
        measured = {row["picture"]: float(row["lpips"]) for row in csv.DictReader(file) if row["method"] == "bicubic"}
    pairs = []
    for files in picture_files(hr, lr=None, others={}, cut=cut):
        picture = read_picture(files, cut, "bicubic")
        enlarged = round_to_8_bit(enlarge_bicubic(picture.lr, SCALE))
        pairs.append((measured[picture.name], float(network(enlarged, picture.hr, normalize=True))))
        print(f"{picture.name}: {pairs[-1][0]:.6f} by srflow-eval, {pairs[-1][1]:.6f} by lpips {version('lpips')}")
    ours, theirs = (sum(values) / len(values) for values in zip(*pairs, strict=True))
    largest = max(abs(one - other) for one, other in pairs)
    print(f"mean: {ours:.6f} and {theirs:.6f}; largest difference {largest:.1e}")
    raise SystemExit(largest >= 1e-4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hr", type=Path, help="folder of photographs")
    parser.add_argument("results", type=Path, help="results.csv of srflow-eval on them, with the column lpips")
    arguments = parser.parse_args()
    main(arguments.hr, arguments.results)
