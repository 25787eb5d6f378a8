"""OpenVINO's backend of the tiny bundle, and a cache folder of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from srflow_sdk.backends import Backend
from srflow_sdk.backends.openvino import OpenVinoBackend
from srflow_sdk.model.bundle import Bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module", params=[True, False])
def backend(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Backend]:
    with OpenVinoBackend(bundle, threads=1, both=request.param) as opened:
        yield opened
