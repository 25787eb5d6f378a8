from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from srflow_sdk.bundle import Bundle

from .engine_machine import EngineMachine
from .fake_tensorrt import write_engine_bundle


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EngineMachine]:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    machine = EngineMachine(monkeypatch)
    machine.install()
    yield machine
    assert machine.gpu.violations == []


@pytest.fixture(scope="session")
def engine_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with engines for the machine of the fixture above."""
    return write_engine_bundle(tiny_bundle, tmp_path_factory.mktemp("engines") / "tiny.srflow")
