"""Every picture and its metadata is the one that pictures.json has: to the bit where it was made,
else within 1/255."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .pictures import (
    allowed_difference,
    compute,
    difference,
    digest,
    machine,
    make_names,
    prepare,
    read_record,
    read_values,
)

RECORD = read_record()
SAME_MACHINE = machine() == RECORD["machine"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    prepare(made)
    return made


@pytest.fixture(scope="module")
def names(folder: Path) -> dict[str, Any]:
    return make_names(folder)


@pytest.mark.parametrize("name", RECORD["cases"])
def test_a_picture_stays_as_it_was(
    name: str, names: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    case = RECORD["cases"][name]
    if "frames(" in case["call"]:
        pytest.importorskip("cv2")
    arrays, metadata = compute(case["call"], names, folder)
    assert metadata == case.get("metadata", [])
    gap = difference(read_values(name), arrays)
    assert gap <= allowed_difference(case, arrays)
    if SAME_MACHINE:
        assert digest(arrays) == case["sha256"], f"differs by {gap}"
