"""docs/publication.md: each of its commands runs, and each of its tests fails without the code that its row names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation import plots
from srflow_training.checkpoints.keys import old_esrgan_name, published_rrdb_name, to_published
from srflow_training.model import RRDB
from tests.networks import random_srflow, tiny_config

from .broken_tree import status_of
from .commands import click_command, commands
from .pages import ROOT, blocks
from .prepared import SHORT, SMALL, SMALL_FLOW
from .test_documented_commands import eval_table

PAGE = "docs/publication.md"


class Row(NamedTuple):
    """A statement of the publication: the file and the name in it that compute it, and a test."""

    statement: str
    name: str
    file: str
    test: str
    test_file: str


def rows() -> list[Row]:
    """The rows of the page's tables of statements."""
    link = r"\[`(.+?)`\]\(\.\./(.+?)\)"
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    return [Row(*found) for found in re.findall(rf"^\| (.+?) \| {link} \| {link} \|$", text, re.MULTILINE)]


BREAKS = {
    "squeeze: row offset before column offset": (
        "return F.pixel_unshuffle(h, 2), h.new_zeros(())",
        "return F.pixel_unshuffle(h, 2).flip(1), h.new_zeros(())",
    ),
    "actnorm: zero mean and unit variance from the first batch": ("self.bias.copy_(-mean)", "self.bias.copy_(mean)"),
    "invertible 1×1: H·W·log\\|det W\\|": (
        "log_abs_det.to(h.dtype) * (h.shape[2] * h.shape[3])",
        "log_abs_det.to(h.dtype)",
    ),
    "coupling: the first half of the channels stays": (
        "return h[:, :middle], h[:, middle:]",
        "return h[:, middle:], h[:, :middle]",
    ),
    "affine injector before the coupling": (
        "return [injector(on_u[0], noise=noise), affine_of_h_a]",
        "return [affine_of_h_a]",
    ),
    "zeros convolution: ×exp(3·logs)": ("torch.exp(3 * self.logs)", "torch.exp(self.logs)"),
    "split: the later half, less its mean, over its scale": (
        'ElementwiseAffine(-bounded(logs, self.clamp), -mean, "shift_first")',
        'ElementwiseAffine(-bounded(logs, self.clamp), -mean, "scale_first")',
    ),
    "text: scale exp(s)": (
        'if self.scale_map == "exp":\n            return s\n',
        'if self.scale_map == "exp":\n            return s / 2\n',
    ),
    "text: scale·h + shift": ('"affine_order": "scale_first"', '"affine_order": "shift_first"'),
    "text: u is resized bilinearly": ('"feature_resize": "bilinear"', '"feature_resize": "nearest"'),
    "text: five equally spaced blocks, the last included": ('5 if variant == "paper" else 4', "4"),
    "text: a split after every level but the last": (
        'last_split = levels - 2 if variant == "published" else levels - 1',
        "last_split = levels - 2",
    ),
    "released files: blocks 1, 8, 15, 22 (×4) and 1, 3, 5, 7 (×8)": (
        "return 1, 3, 5, 7",
        "return 5, 11, 17, 22",
    ),
    "released files: sigmoid(s + 2) + 1e-4": ("torch.sigmoid(s + 2) + 1e-4", "torch.sigmoid(s) + 1e-4"),
    "released files: their names of tensors": ("layer += 1  # the squeeze", "layer += 2  # the squeeze"),
    "encoder: RRDB with residual scaling 0.2": ("0.2 * residual", "0.1 * residual"),
    "loss: the negative log-likelihood": ("return -nats.mean() / (math.log(2)", "return nats.mean() / (math.log(2)"),
    "Gaussian noise of 4/√3 on HR": ("= 4 / math.sqrt(3)", "= 0.0"),
    "rates halved at 50, 75, 90 and 95 %": ("(0.5, 0.75, 0.9, 0.95)", "(0.5, 0.75, 0.9)"),
    "encoder frozen for the first half": (
        "self.iteration < self.schedule.freeze_encoder * self.schedule.iterations",
        "False",
    ),
    "300,000 iterations without a trained encoder": (
        '{"iterations": ITERATIONS_FROM_SCRATCH,',
        '{"iterations": ITERATIONS,',
    ),
    "text: learning rate 5e-4": ("learning_rate: 5.0e-4", "learning_rate: 2.5e-4"),
    "released: crops of 160, batches of 12, 2.5e-4": ("learning_rate: 2.5e-4", "learning_rate: 5.0e-4"),
    "released: flips of the width alone, no rotation": ("flip: horizontal", "flip: both"),
    "a flip of the width leaves faces upright": ('"horizontal": (1,)', '"horizontal": (0,)'),
    "LR images: MATLAB's bicubic reduction": ("mode=mode, antialias=True", "mode=mode, antialias=False"),
    "LR images: bilinear, to compare with work on faces": ('scale=scale, mode="bilinear")', "scale=scale)"),
    "content transfer: shifts of HR by up to 4 pixels": (
        "_square(pixels, top + down, left + right, size)",
        "_square(pixels, top, left, size)",
    ),
    "τ is the deviation of the latents": ("tau.at(level) * z", "tau.at(level) ** 0.5 * z"),
    "τ: 0.9 for photographs, 0.8 for faces": (
        "return subject.default_tau if self.published is None else",
        "return subject.default_tau if True else",
    ),
    "main table: published figures beside the measured": ('line.append(figures_of.get(key, ""))', 'line.append("")'),
    "main table: exactly 100 and 5,000 pictures": ("pictures != self.pictures", "pictures < self.pictures"),
    "main table: the RRDB is its own file": ('"RRDB": "RRDB"}', '"RRDX": "RRDB"}'),
    "main table: diversity, whatever the number of samples": ("(255 / c4)", "255"),
    "table 1: which encoder was trained": ('return bool(schedule.get("encoder"))', "return None"),
    "table 2: noise of 20, clipped and rounded": (
        "damages.to_8_bits(picture + random.normal(0, amount, picture.shape))",
        "(picture + random.normal(0, amount, picture.shape)).astype(np.uint8)",
    ),
    "table 2: super-resolved pictures are samples": ('"sampled": SUPERRESOLVED', '"superresolved": SUPERRESOLVED'),
    "table 2: spatial, then local normalisation": (
        'latents.normalised(taus, over="spatial").normalised(taus, over="local")',
        'latents.normalised(taus, over="local").normalised(taus, over="spatial")',
    ),
    "normalisation: the mean and deviation of true samples": (
        "tau * drawn_deviation / np.where(equal, 1.0, deviation)",
        "tau / np.where(equal, 1.0, deviation)",
    ),
    "figures 2, 7, 9: whole pictures up to 256 pixels": ("WHOLE = 256", "WHOLE = 160"),
    "figures 2, 7, 9: as many pictures as asked for": ("pictures[:count]", "pictures[:1]"),
    "figures 3 to 5: the variance of samples": (".var(dim=0).mean() * 255**2", ".std(dim=0).mean() * 255**2"),
    "figure 6: all models in one plot": (
        "        for called in models.benches\n    }",
        "        for called in [*models.benches][:1]\n    }",
    ),
    "figures 7, 8: the best of n, by each metric": (
        'return max if metric.better == "higher" else min',
        "return max",
    ),
    "figure 11: each method against its own reduction": (
        "if name in self.bilinear and",
        "if name not in self.bilinear and",
    ),
    "figures 11 to 13: a row for each crop": ("shown_places(picture.hr, CROPS)", "shown_places(picture.hr, 1)"),
    "figures 14 to 17: samples and their deviation": (
        "drawn = [sample(tau, seed) for seed in range(count)]",
        "drawn = [sample(tau, 0) for seed in range(count)]",
    ),
    "figure 18: local normalisation inside the mask": (
        'over="local", where=self.mask',
        'over="global", where=self.mask',
    ),
    "figure 18: super-resolved targets with their true LR": (
        "lr = own if self.lr is None else to_image(self.lr)",
        "lr = own",
    ),
    "NTIRE 2021: S₁₀": ("float(distances.amin(dim=0).mean())", "float(distances.mean(dim=0).mean())"),
    "networks' pictures are truncated to 8 bits": (".floor()", ".round()"),
    "pictures are cut to multiples of 8": ("PUBLISHED_CUT = 8 ", "PUBLISHED_CUT = 16 "),
    "LR images are rounded between the passes of imresize": ("small.clamp(0, 255).round()", "small.clamp(0, 255)"),
    "odd LR sides are reflected, and the picture cut back": ('mode="reflect"', 'mode="replicate"'),
    "PSNR and SSIM of whole pictures": ('return 0 if self.name == "published" else self.scale', "return self.scale"),
    "SSIM: uniform 7×7 windows, n − 1": ("unbiased = 49 / 48", "unbiased = 1.0"),
    "LR-PSNR of the reduction, in 8 bits": (
        "REDUCTIONS[reduction](as_shown(image), image",
        'REDUCTIONS["bilinear"](as_shown(image), image',
    ),
}
"""For each statement, text in its file, and what breaks it."""


def test_every_statement_has_its_code_its_test_and_a_way_to_break_it() -> None:
    found = rows()
    assert [row.statement for row in found] == list(BREAKS)
    for row in found:
        code, test = ((ROOT / file).read_text(encoding="utf-8") for file in (row.file, row.test_file))
        named = row.file.endswith(row.name) or re.search(rf"^(?:class |def |){row.name}\b", code, re.MULTILINE)
        assert named, f"{row.statement}: {row.file} has no {row.name}"
        assert f"\ndef {row.test}(" in test, f"{row.statement}: {row.test_file} has no {row.test}"
        assert code.count(BREAKS[row.statement][0]) == 1, f"{row.statement}: {row.file} is not as BREAKS has it"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of links to the project's files, each of which may be replaced."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("srflow_sdk", "apps", "training", "export", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, copy_function=os.symlink, ignore=ignored)
    (tree / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("statement", BREAKS)
def test_the_test_of_a_statement_fails_where_its_code_is_broken(statement: str, broken: Path, tmp_path: Path) -> None:
    (row,) = (row for row in rows() if row.statement == statement)
    place = broken / row.file
    place.unlink()
    place.write_text((ROOT / row.file).read_text(encoding="utf-8").replace(*BREAKS[statement]), encoding="utf-8")
    time = 1 + list(BREAKS).index(statement)  # its own, by which .pyc files know the text that they were made from
    os.utime(place, (time, time))
    try:
        status = status_of(broken, row.test_file, row.test, tmp_path / "output")
    finally:
        place.unlink()
        place.symlink_to(ROOT / row.file)
    assert status == 1, (tmp_path / "output").read_text()[-4000:]  # 2 to 5: nothing was tested


@pytest.fixture(scope="module")
def publication(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The publication's files and data, small: networks of few channels in its layouts, pictures of noise."""
    folder = tmp_path_factory.mktemp("publication")
    for name, scale in (("SRFlow_DF2K_4X", 4), ("SRFlow_DF2K_8X", 8), ("SRFlow_CelebA_8X", 8)):
        network = random_srflow(tiny_config("published", scale=scale))
        torch.save(to_published(network.state_dict(), network.config), folder / f"{name}.pth")
    rrdbs = {"RRDB_DF2K_4X": 4, "RRDB_DF2K_8X": 8, "RRDB_CelebA_8X": 8}
    for name, scale in {**rrdbs, "RRDB_ESRGAN_x4": 4, "ESRGAN_DF2K_8X": 8, "ESRGAN_CelebA_8X": 8}.items():
        rrdb = RRDB(scale=scale, nf=8, growth=4, blocks=2)
        rrdb.initialize()
        name_of = published_rrdb_name if name in rrdbs else old_esrgan_name(2, scale)
        torch.save({name_of(key): value for key, value in rrdb.state_dict().items()}, folder / f"{name}.pth")
    photographs = {"df2k/train": "ab", "df2k/val": "cd", "ntire21/test": "cd"}
    photographs |= dict.fromkeys(("edsr", "edsr-x8", "ranksrgan", "ranksrgan-x8"), "cd")
    faces = dict.fromkeys(("train", "val", "test", "targets", "sources"), "ef")
    random = np.random.default_rng(0)
    for place, names in {**photographs, **{f"celeba/{part}": names for part, names in faces.items()}}.items():
        size = (160, 160) if "celeba" in place else (136, 108)
        (folder / place).mkdir(parents=True)
        for name in names:
            coarse = Image.fromarray(random.integers(0, 256, (16, 20, 3), dtype=np.uint8))
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / place / f"{name}.png")
    shutil.copytree(folder / "celeba/test", folder / "progfsr")
    (folder / "celeba/masks").mkdir()
    for name in "ef":
        mask = Image.new("L", (160, 160))
        mask.paste(255, (60, 50, 100, 90))
        mask.save(folder / "celeba/masks" / f"{name}.png")
    for script in (block.script for block in blocks(PAGE)):
        for words in commands(script):
            if words[0] == "srflow-train":
                short = [setting for setting in SHORT if not setting.startswith("data.crop")]
                crop = [] if "data.hr_shift=4" in words else ["data.crop=64"]  # that one's own fits the faces
                settings = [
                    *short,
                    *crop,
                    "data.batch=1",
                    "schedule.iterations=1",
                    *SMALL,
                    *([] if "encoder" in words else SMALL_FLOW),
                ]
                words += [f"--set={setting}" for setting in settings]
            run(folder, words)
    return folder


def run(folder: Path, words: list[str]) -> str:
    """Run one of the project's programs, and return what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(click_command(words[0]), words[1:], catch_exceptions=False)
    assert result.exit_code == 0, f"{' '.join(words)}\n{result.output[-3000:]}"
    return result.stdout


@pytest.mark.slow
def test_every_command_runs_on_small_pictures(publication: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a plot takes a second or two; tests/evaluation looks at them
    monkeypatch.setattr(plots, "save", lambda figure, path, title: path.touch())
    table = eval_table()
    assert len(table) == 25
    for number, (_, command) in enumerate(table):
        (words,) = commands(command)
        out = f"out/{number}"
        printed = run(publication, [out if word == "OUT" else word for word in words])
        assert printed.startswith("| method |"), command
        written = {path.name for path in (publication / out).iterdir()}
        assert {"results.csv", "summary.json"} <= written, command
        assert any(name.startswith("sheet_") for name in written), command
