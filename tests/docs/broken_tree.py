"""Runs tests of another tree than this one, each in a process that begins with what takes seconds to import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.forked import context

OURS = ("tests", "benchmarks", "srflow_sdk", "srflow_apps", "srflow_training", "srflow_evaluation", "srflow_export")


def status_of(tree: Path, test_file: str, test: str, output: Path) -> int | None:
    """pytest's exit status for the test of this name in a file of the tree. What it prints goes to `output`."""
    process = context.Process(target=_run, args=(tree, test_file, test, output))
    process.start()
    process.join(600)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def _run(tree: Path, test_file: str, test: str, output: Path) -> None:
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    os.chdir(tree)
    sys.path[:0] = [str(tree / name) for name in ("", "apps", "training", "export")]
    own = f"--basetemp={output.with_suffix('.temp')}"
    sys.exit(pytest.main(["-x", "-m", "slow or not slow", "-p", "no:cacheprovider", own, test_file, "-k", test]))
