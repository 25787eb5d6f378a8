"""A short run of every part; and a loss would be noticed: each kind is seen and printed, and fails
the command."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("resource", reason="Windows has no limits on processes, and no SIGKILL")

from tests.faults import commands
from tests.faults.__main__ import PARTS, Part, main, run_part
from tests.faults.commands import Ended, hidden_files, loss_of, run_command

TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: boom\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_nothing_is_lost_in_a_short_campaign(name: str) -> None:
    said: list[str] = []
    line, _ = run_part(name, count=PARTS[name].short, seed=0, say=said.append)
    assert said == []
    assert int(line.split()[1]) >= PARTS[name].short


@pytest.mark.parametrize(
    ("status", "errors", "killed", "loss"),
    [
        (0, "", False, None),
        (1, "error: m.pth: no such file\n", False, None),
        (2, "Usage: …\n\nError: no -o\n", False, None),
        (1, TRACEBACK, False, "a traceback: ValueError: boom"),
        (-9, TRACEBACK, True, "a traceback: ValueError: boom"),
        (-9, "", True, None),
        (-9, "", False, "ended by SIGKILL: nothing was printed"),
        (-6, "glib", True, "ended by SIGABRT: glib"),
        (1, "oh\n", False, "status 1 without an error line: oh"),
        (1, "error: \x1b[2J\n", False, "a line that a terminal would obey: 'error: \\x1b[2J'"),
        (None, "", False, "it did not end"),
    ],
)
def test_how_a_command_ended_is_judged(
    status: int | None, errors: str, killed: bool, loss: str | None
) -> None:
    assert loss_of(Ended(status, errors), killed=killed) == loss


@pytest.mark.slow
def test_a_command_that_hangs_is_stopped_and_one_that_is_killed_is_not_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(commands.PROGRAMS, "srflow-upscale", "signal:pause")
    hung = run_command("srflow-upscale", [], folder=tmp_path, patience_s=0.2)
    killed = run_command("srflow-upscale", [], folder=tmp_path, kill_after_s=0.2)
    assert (hung.status, killed.status) == (None, -signal.SIGKILL)


def test_the_command_prints_every_loss_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
        (folder / ".x").touch()
        assert hidden_files(folder.parent / folder.name) == [".x"]
        yield from ((f"run {number}", "oh" if number == seed else None) for number in range(count))

    monkeypatch.setitem(PARTS, "names", Part(attack, 3, 1))
    survived = CliRunner().invoke(main, ["--only", "names", "--seed", "5"])
    lost = CliRunner().invoke(main, ["--only", "names", "--seed", "1", "--count", "2"])
    assert (survived.exit_code, lost.exit_code) == (0, 1)
    assert survived.stdout.split()[5:9] == ["names", "3", "3", "0"]
    assert lost.stdout.split()[5:9] == ["names", "2", "1", "1"]
    assert "lost: names, seed 1, run 1: oh" in lost.stderr
    kept = Path(lost.stderr.split("its files are in ")[1].strip())
    assert (kept / ".x").exists()
    shutil.rmtree(kept)
