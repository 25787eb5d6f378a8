"""What docs/architecture.md names exists: a page that sends its reader to a file that has moved is worse than none."""

from __future__ import annotations

import re

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
