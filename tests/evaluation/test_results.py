"""A protocol that was stopped continues, and figures that were measured differently never mix."""

import json
import os
import signal
import time

import pytest
from click.testing import CliRunner

from srflow_apps.commands.signals import STOPPING
from srflow_evaluation.cli import evaluate
from srflow_evaluation.pictures import Cut, picture_files
from srflow_evaluation.protocols import Protocol
from srflow_evaluation.results import Results
from srflow_sdk.errors import ArgumentError


@pytest.fixture
def pictures(photos):
    return picture_files(photos, cut=Cut(scale=4, multiple=8))


class Measuring:
    """Rows with a figure that no short decimal holds; fails at a picture, as a killed run does."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.seen = []

    def __call__(self, files):
        if files.name == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(files.name)
        return [
            {"picture": files.name, "method": "bicubic", "psnr": ord(files.name) / 3},
            {
                "picture": files.name,
                "method": "model",
                "psnr": ord(files.name) / 7,
                "diversity": 0.1 + 0.2,
            },
        ]


def run(out, pictures, measuring, settings=None, lines=None):
    return Results(out, settings or {"tau": 1}).measure(pictures, measuring, (lines or []).append)


@pytest.mark.parametrize("number", STOPPING)
def test_signals_that_ask_to_stop_end_a_run_with_one_line(number, tmp_path, monkeypatch):
    def measuring(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(30)

    monkeypatch.setattr(Protocol, "run", measuring)
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    runners = signal.signal(number, default)  # pytest-xdist's processes have a handler of their own
    try:
        result = CliRunner().invoke(
            evaluate, ["samples", "--hr", str(tmp_path), "-o", str(tmp_path / "out")]
        )
    finally:
        signal.signal(number, runners)
    assert (result.exit_code, result.stderr) == (
        128 + number,
        "stopped; the same command continues\n",
    )


def test_a_stopped_run_continues_and_ends_with_the_same_bytes(pictures, tmp_path):
    whole = run(tmp_path / "whole", pictures, Measuring())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", pictures, Measuring(stop_at="b"))
    lines = tmp_path / "stopped" / "measured.jsonl"
    kept = lines.read_bytes()
    lines.write_bytes(kept + kept[:40])  # a kill in the middle of a line
    rest = Measuring()
    assert run(tmp_path / "stopped", pictures, rest) == whole
    assert rest.seen == ["b", "c"]
    assert lines.read_bytes().startswith(kept + kept[:40] + b"\n")
    tables = [(tmp_path / name / "results.csv").read_bytes() for name in ("whole", "stopped")]
    assert tables[0] == tables[1]
    assert tables[0].splitlines()[0] == b"picture,method,psnr,diversity"


def test_a_picture_whose_file_changed_is_measured_again(photos, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    cut = Cut(scale=4, multiple=8)
    run(tmp_path / "out", picture_files(folder, cut=cut), Measuring())
    (folder / "a.png").write_bytes((folder / "c.png").read_bytes())
    (folder / "b.png").unlink()
    again = Measuring()
    rows = run(tmp_path / "out", picture_files(folder, cut=cut), again)
    assert again.seen == ["a"]
    assert [row["picture"] for row in rows] == ["a", "a", "c", "c"]


def test_other_settings_and_other_folders_are_refused(pictures, tmp_path):
    run(tmp_path, pictures, Measuring())
    before = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(ArgumentError, match=r"different: tau\)"):
        Results(tmp_path, {"tau": 2})
    assert (tmp_path / "results.csv").read_bytes() == before
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ArgumentError, match=r"settings\.json is damaged"):
        Results(tmp_path, {"tau": 1})
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ArgumentError, match=r"a results\.csv of something else"):
        Results(tmp_path, {"tau": 1})
    with pytest.raises(ArgumentError, match="is a file"):
        Results(tmp_path / "results.csv", {"tau": 1})


def test_a_summary_has_null_for_what_is_not_finite(tmp_path):
    summary = {"rows": [{"psnr": float("inf"), "ssim": 0.5}], "bins": (1.0, float("nan"))}
    Results(tmp_path, {"tau": 1}).write_summary(summary)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    found = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert found == {"rows": [{"psnr": None, "ssim": 0.5}], "bins": [1.0, None]}
