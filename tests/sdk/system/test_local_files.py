from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srflow_sdk import ImageError, Upscaler, write_image

from ..flow_bundle import write_flow_bundle


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    return Upscaler(write_flow_bundle(tmp_path_factory.mktemp("bundles") / "flow.srflow"), device="cpu", threads=1)


@pytest.mark.parametrize("call", ["upscale_file", "restore_file", "transfer_file"])
@pytest.mark.parametrize("name", ["loop.png", "folder/a.png", "nul\0.png"])
def test_names_that_lead_nowhere_are_one_line(flow: Upscaler, tmp_path: Path, call: str, name: str) -> None:
    good, bad = tmp_path / "lr.png", tmp_path / name
    write_image(good, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder").symlink_to("folder")
    before = sorted(tmp_path.iterdir())
    others = [good, good] if call == "transfer_file" else []
    for source, target in ((bad, tmp_path / "sr.png"), (good, bad)):
        with pytest.raises(ImageError, match=r"Too many levels of symbolic links|null byte") as caught:
            getattr(flow, call)(source, *others, target)
        assert str(bad).partition("\0")[0] in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
