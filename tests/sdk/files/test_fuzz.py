"""Mutated files of every format: each is read, or refused in one line. The campaign of `make test-slow` reads more."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows has no limits on processes")

from tests.faults import pictures

MUTANTS = 100


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    attempts = list(pictures.attack(tmp_path, MUTANTS, 0))
    assert [attempt for attempt in attempts if attempt.loss is not None] == []
    assert len(attempts) == MUTANTS
