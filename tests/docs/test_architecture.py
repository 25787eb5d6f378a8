"""What docs/architecture.md names exists: a page that sends its reader to a file that has moved is worse than none."""

from __future__ import annotations

import re
import subprocess
import sys

from .pages import ROOT

HOUSES = [ROOT, *(ROOT / name for name in ("srflow_sdk", "apps", "training", "export"))]


def test_every_file_and_folder_of_the_architecture_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.]+(?:/|\.(?:py|js|html|h|md|txt)))`", text))
    found = {path.relative_to(ROOT).as_posix() for house in HOUSES[1:] for path in house.rglob("*")}
    missing = {
        name
        for name in named
        if not (ROOT / name).exists() and not any(f"/{path}".endswith(f"/{name.rstrip('/')}") for path in found)
    }
    assert len(named) > 80
    assert not missing


def test_a_picture_passes_the_functions_of_its_path_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    path = text[text.index("## The path of an image") : text.index("## The path of a checkpoint")]
    steps = re.findall(r"^\|[^|]*\| `([\w/]+)\.py` `([a-z]\w+)` \|", path, re.MULTILINE)
    command = [sys.executable, str(ROOT / "benchmarks" / "path.py"), "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    passed = re.findall(r"^srflow_sdk\.([\w.]+)\.(\w+):\d+$", listed, re.MULTILINE)
    places = [passed.index((module.replace("/", "."), name)) for module, name in steps]
    assert len(steps) > 15
    assert places == sorted(places)
