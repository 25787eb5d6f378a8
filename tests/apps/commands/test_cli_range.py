"""srflow-upscale --range: TIFF files of numbers come back in their units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def heights(folder: Path) -> str:
    values = (np.indices((12, 15)).sum(axis=0) * 50 - 400).astype(np.int16)
    tifffile.imwrite("heights.tif", values, photometric="minisblack")
    return "heights.tif"


def test_a_file_of_numbers_is_enlarged_resumed_and_made_again(run: Run, heights: str) -> None:
    assert "--range 1% 99%" in run(heights, "-o", "out.tif").stderr
    done = run(heights, "--range", "-400", "850", "-o", "out.tif", "--report", "report.json")
    assert done.exit_code == 0, done.stderr
    written = tifffile.imread("out.tif")
    assert (written.shape, written.dtype) == ((48, 60), np.int16)
    assert written.min() < -300
    assert "1 skipped" in run(heights, "--range", "-400", "850", "-o", "out.tif", "--resume").stderr
    assert "skipped" not in run(heights, "--range", "1%", "99%", "-o", "out.tif", "--resume").stderr
    assert run("--from-output", "out.tif", "-o", "again.tif").exit_code == 0
    assert Path("again.tif").read_bytes() == Path("out.tif").read_bytes()


def test_outputs_that_nobody_named_are_tiff(run: Run, heights: str) -> None:
    assert run(heights, "--range", "1%", "99%").exit_code == 0
    assert tifffile.imread("heights_x4.tif").dtype == np.int16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--range", "9", "1", "-o", "out.tif"], "value_range is ('9', '1'); it must be two numbers, the smaller one"),
        (["--range", "1%", "200%", "-o", "out.tif"], "percentiles are from 0 to 100"),
        (["--range", "0", "1", "-o", "out.tif", "--dry-run"], "--dry-run cannot be chosen with --range"),
        (["--range", "0", "1", "-o", "out.tif", "--frame", "1"], "--frame cannot be chosen with --range"),
        (["--range", "0", "1", "-o", "out.png"], "end its name in .tif"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, heights: str, arguments: list[str], says: str) -> None:
    failed = run(heights, *arguments)
    assert failed.exit_code in (1, 2)
    assert says in failed.stderr
    assert not Path("out.tif").exists()
