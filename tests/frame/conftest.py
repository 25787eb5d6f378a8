from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .bare_environment import BareEnvironment, build_wheel, copy_of, make_bare_environment


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> BareEnvironment:
    """A bare environment that all tests share; tests must not change it."""
    return make_bare_environment(tmp_path_factory.mktemp("bare") / "env", wheel)


@pytest.fixture
def make_bare(tmp_path: Path, bare: BareEnvironment) -> Callable[[], BareEnvironment]:
    """Make a bare environment that a test may add files to and remove some from."""
    return lambda: copy_of(bare, tmp_path / "env")
