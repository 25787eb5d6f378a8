"""The blocks of every page run, in order, as its reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import PAGES, ROOT, blocks
from .prepared import fill

pytestmark = pytest.mark.slow
PAGE_LIMIT_S = 600
# Without PyPI's page, which is README.md: test_pages.py.
RUN = [
    page
    for page in PAGES
    if page != "PYPI.md"
    and any(b.not_run is None and b.kind in ("shell", "console", "python") for b in blocks(page))
]


@pytest.fixture(scope="module")
def address() -> Iterator[Path]:
    """Of the process that runs the commands."""
    with tempfile.TemporaryDirectory() as folder:  # a short path, as sockets need
        command = [sys.executable, "-m", "tests.docs.forking", f"{folder}/socket"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield Path(folder) / "socket"
            server.kill()


@pytest.mark.parametrize("page", RUN)
def test_blocks_of_a_page_run(
    page: str, golden_bundle: Path, address: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.running", page],
        cwd=tmp_path,
        env=fill(tmp_path, golden_bundle, address),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PAGE_LIMIT_S,
    )
    assert done.returncode == 0, done.stdout[-6000:]
