from __future__ import annotations

from pathlib import Path

import pytest

from srflow_apps.batch.storage import make_folders
from srflow_sdk.errors import ImageError


def test_folders_that_cannot_be_made_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=r"the directory .*file/new cannot be created: Not a directory"):
        make_folders([tmp_path / "file" / "new"])
