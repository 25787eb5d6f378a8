"""What users can rely on: no name, signature or option is added, removed or changed unnoticed."""

from __future__ import annotations

import difflib
import subprocess

import pytest

from .bare_environment import ROOT
from .public_api import SNAPSHOT, public_api

MEANT = "if that is intended, add a line to CHANGELOG.md and run python -m tests.frame.public_api"


def git(*arguments: str) -> list[str]:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git clone, so when the API changed is unknown")
    return done.stdout.split()


def test_the_public_api_is_the_one_that_is_written_down() -> None:
    written = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    changed = [line for line in difflib.ndiff(written, public_api()) if line[0] in "+-"]
    assert not changed, "\n".join([f"the public API changed; {MEANT}:", *changed])


def test_the_changelog_changed_with_the_public_api_or_since() -> None:
    snapshot = SNAPSHOT.relative_to(ROOT).as_posix()
    changed = git("diff", "--name-only", "HEAD")
    if "CHANGELOG.md" not in changed:
        (last,) = git("log", "-1", "--format=%H", "--", "CHANGELOG.md")
        changed += git(
            "log", "--no-merges", "--name-only", "--format=", f"{last}..HEAD", "--", snapshot
        )
        assert snapshot not in changed, f"the public API changed and CHANGELOG.md did not; {MEANT}"
