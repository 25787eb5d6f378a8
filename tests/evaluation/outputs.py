"""Readers of what a protocol wrote into its folder, and samples that networks draw by themselves,
for tests."""

import csv
import json

import torch

from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_training.validation import runtime_noise


def summary_of(folder):
    """summary.json."""
    return json.loads((folder / "summary.json").read_text())


def means_of(folder):
    """The means of summary.json, by method."""
    return {row["method"]: row for row in summary_of(folder)["rows"]}


def lines_of(folder, **chosen):
    """The rows of results.csv, or those with these texts."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


def rows_of(folder):
    """Rows of results.csv, by picture and method."""
    return {(row["picture"], row["method"]): row for row in lines_of(folder)}


def drawn_in(folder):
    """The pictures in a folder that has the other files of a run, and nothing else."""
    usual = {"measured.jsonl", "results.csv", "settings.json", "summary.json"}
    names = {path.name for path in folder.iterdir()}
    assert usual <= names
    return names - usual


def pictures_of(photos, scale=4, multiple=8):
    """The photographs as protocols read them."""
    cut = Cut(scale=scale, multiple=multiple)
    return [read_picture(files, cut, "bicubic") for files in picture_files(photos, cut=cut)]


@torch.no_grad()
def samples_by(network, lr, tau, count):
    """Samples of a network, decoded without the evaluation."""
    noises = (runtime_noise(network, lr, seed=seed) for seed in range(count))
    return [network.decode(lr, {level: tau * z for level, z in noise.items()}) for noise in noises]
