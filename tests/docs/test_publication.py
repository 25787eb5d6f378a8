"""docs/publication.md: each of its commands runs, and each of its rows names code and a test that
exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation import output
from srflow_training.checkpoints.keys import old_esrgan_name, published_rrdb_name, to_published
from srflow_training.model import RRDB
from tests.networks import random_srflow, tiny_config

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
    text = (ROOT / PAGE).read_text("utf-8")
    return [
        Row(*found)
        for found in re.findall(rf"^\| (.+?) \| {link} \| {link} \|$", text, re.MULTILINE)
    ]


def test_every_statement_has_its_code_and_its_test() -> None:
    found = rows()
    assert len(found) > 50
    for row in found:
        code, test = ((ROOT / file).read_text("utf-8") for file in (row.file, row.test_file))
        named = row.file.endswith(row.name) or re.search(
            rf"^(?:class |def |){row.name}\b", code, re.MULTILINE
        )
        assert named, f"{row.statement}: {row.file} has no {row.name}"
        assert f"\ndef {row.test}(" in test, f"{row.statement}: {row.test_file} has no {row.test}"


@pytest.fixture(scope="module")
def publication(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The publication's files and data, small: networks of few channels in its layouts, pictures of
    noise."""
    folder = tmp_path_factory.mktemp("publication")
    for name, scale in (("SRFlow_DF2K_4X", 4), ("SRFlow_DF2K_8X", 8), ("SRFlow_CelebA_8X", 8)):
        network = random_srflow(tiny_config("published", scale=scale))
        torch.save(to_published(network.state_dict(), network.config), folder / f"{name}.pth")
    rrdbs = {"RRDB_DF2K_4X": 4, "RRDB_DF2K_8X": 8, "RRDB_CelebA_8X": 8}
    for name, scale in {
        **rrdbs,
        "RRDB_ESRGAN_x4": 4,
        "ESRGAN_DF2K_8X": 8,
        "ESRGAN_CelebA_8X": 8,
    }.items():
        rrdb = RRDB(scale=scale, nf=8, growth=4, blocks=2)
        rrdb.initialize()
        name_of = published_rrdb_name if name in rrdbs else old_esrgan_name(2, scale)
        torch.save(
            {name_of(key): value for key, value in rrdb.state_dict().items()},
            folder / f"{name}.pth",
        )
    photographs = {"df2k/val": "cd", "ntire21/test": "cd"}
    photographs |= dict.fromkeys(("edsr", "edsr-x8", "ranksrgan", "ranksrgan-x8"), "cd")
    faces = dict.fromkeys(("train", "val", "test", "targets", "sources"), "ef")
    random = np.random.default_rng(0)
    for place, names in {
        **photographs,
        **{f"celeba/{part}": names for part, names in faces.items()},
    }.items():
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
                # that one's own fits the faces
                crop = [] if "data.hr_shift=4" in words else ["data.crop=64"]
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
def test_every_command_runs_on_small_pictures(
    publication: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a plot takes a second or two; tests/evaluation looks at them
    monkeypatch.setattr(output, "save", lambda figure, path: path.touch())
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
