"""The campaigns would notice a loss: each kind of it is seen, and printed, and fails the command."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("resource", reason="Windows has no limits on processes, and no SIGKILL")

from tests.faults import campaigns, commands, told
from tests.faults.__main__ import main
from tests.faults.attempts import Attempt, Campaign
from tests.faults.commands import Ended, hidden_files, loss_of, run_command
from tests.faults.workers import read_in_worker

TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: boom\n"


@pytest.mark.slow
def test_a_worker_reports_each_kind_of_loss_and_the_next_file_is_still_read(tmp_path: Path) -> None:
    texts = ["right", "refuse", "wrong", "right", "bug", "right", "crash", "right", "hang", "right"]
    files = [(text, tmp_path / f"{number}") for number, text in enumerate(texts)]
    for text, path in files:
        path.write_text(text)
    losses = {"wrong": "wrong", "bug": "a traceback", "crash": "ended by SIGSEGV", "hang": "no answer in 20 s"}
    attempts = list(read_in_worker(told.__name__, files, patience_s=20))
    assert [attempt.what for attempt in attempts] == texts
    for attempt in attempts:
        assert (attempt.loss is None) == (attempt.what not in losses)
        assert (attempt.loss or "").startswith(losses.get(attempt.what, ""))


@pytest.mark.parametrize(
    ("ended", "killed", "loss"),
    [
        (Ended(status=0, output="x", errors=""), False, None),
        (Ended(status=1, output="", errors="error: m.pth: no such file\n"), False, None),
        (Ended(status=2, output="", errors="Usage: …\n\nError: no -o\n"), False, None),
        (Ended(status=1, output="", errors=TRACEBACK), False, "a traceback: ValueError: boom"),
        (Ended(status=-9, output="", errors=TRACEBACK), True, "a traceback: ValueError: boom"),
        (Ended(status=-9, output="", errors=""), True, None),
        (Ended(status=-9, output="", errors=""), False, "ended by SIGKILL: nothing was printed"),
        (Ended(status=-6, output="", errors="glib"), True, "ended by SIGABRT: glib"),
        (Ended(status=1, output="", errors="oh\n"), False, "status 1 without an error line: oh"),
        (Ended(status=None, output="", errors=""), False, "it did not end"),
    ],
)
def test_how_a_command_ended_is_judged(ended: Ended, killed: bool, loss: str | None) -> None:
    assert loss_of(ended, killed=killed) == loss


def test_a_command_that_hangs_is_stopped_and_one_that_is_killed_is_not_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(commands.PROGRAMS, "srflow-doctor", "import signal; signal.pause()")
    hung = run_command("srflow-doctor", [], folder=tmp_path, patience_s=0.2)
    killed = run_command("srflow-doctor", [], folder=tmp_path, kill_after_s=0.2)
    assert (hung.status, killed.status) == (None, -signal.SIGKILL)


def test_hidden_files_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / ".b.part").mkdir(parents=True)
    assert hidden_files(tmp_path) == ["a/.b.part"]


def test_the_command_prints_every_loss_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
        (folder / "x").touch()
        yield from (Attempt(what=f"run {number}", loss="oh" if number == seed else None) for number in range(count))

    campaign = Campaign(name="configs", title="a test", attack=attack, count=3, short=1)
    monkeypatch.setitem(campaigns.CAMPAIGNS, "configs", campaign)
    survived = CliRunner().invoke(main, ["--only", "configs", "--seed", "5"])
    lost = CliRunner().invoke(main, ["--only", "configs", "--seed", "1", "--count", "2"])
    assert (survived.exit_code, lost.exit_code) == (0, 1)
    assert survived.stdout.split()[5:9] == ["configs", "3", "3", "0"]
    assert lost.stdout.split()[5:9] == ["configs", "2", "1", "1"]
    assert "lost: configs, seed 1, run 1: oh" in lost.stderr
    kept = Path(lost.stderr.split("its files are in ")[1].strip())
    assert (kept / "x").exists()
    shutil.rmtree(kept)
