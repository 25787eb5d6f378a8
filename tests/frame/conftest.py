from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import shared_folder

from .bare_environment import BareEnvironment, build_distributions, make_bare_environment


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel, built once in a run."""
    folder = shared_folder(tmp_path_factory, "distributions")
    with FileLock(folder / "lock"):
        if not list(folder.glob("*.whl")):
            build_distributions(folder)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> BareEnvironment:
    """A bare environment that all tests of a run share; tests must not change it."""
    folder = shared_folder(tmp_path_factory, "bare")
    with FileLock(folder / "lock"):
        if not (folder / "is-made").exists():
            make_bare_environment(folder / "env", wheel)
            (folder / "is-made").touch()
    return BareEnvironment(folder / "env")
