"""A short run of every part; and a loss would be noticed: each kind is seen and printed, and fails
the command."""

from __future__ import annotations

import pytest

pytest.importorskip("resource", reason="Windows has no limits on processes, and no SIGKILL")

from tests.faults.__main__ import PARTS, run_part
from tests.faults.commands import Ended, loss_of

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
