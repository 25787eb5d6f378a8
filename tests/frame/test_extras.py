"""The table of extras in docs/install.md has every extra of the package."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_extras_names_each_one() -> None:
    rows = re.findall(
        r"^\| `srflow-sdk\[([\w-]+)\]` \|", (ROOT / "docs" / "install.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted(metadata.metadata("srflow-sdk").get_all("Provides-Extra") or ())
