from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# The same examples in every run, so that a failing test fails for everyone. Another seed finds new
# ones: pytest --hypothesis-seed=1
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

# Collecting makes 700,000 objects that stay, and searching them for garbage took a quarter of its
# time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    mark = item.get_closest_marker("not_on_windows")
    if mark is not None and os.name == "nt":
        pytest.skip(mark.args[0])


# A shell's background job ignores Ctrl-C, and nohup the end of the terminal; tests send both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that the processes of this run share. Who writes to it holds a lock."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def press_ctrl_c() -> Iterator[Callable[[], None]]:
    """What sends Ctrl-C to this process, which has Python's own handler meanwhile, whatever the
    test run's is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for this session only: the developer's is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRFLOW_CACHE_DIR", str(tmp_path_factory.mktemp("users-cache")))
        yield


@pytest.fixture(scope="session")
def golden_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint, a real network of the published kind, as `srflow-export --fused --halo
    8` writes it.

    The processes of a run share it, and its first user exports it. Tests only read it.
    """
    from srflow_export import ExportOptions, export_checkpoint
    from tests.networks import golden_checkpoint, proved_on_small_patches

    folder = shared_folder(tmp_path_factory, "golden")
    with FileLock(folder / "lock"):
        if not (folder / "golden.srflow").exists():
            options = ExportOptions(halo=8, fused=True)
            with proved_on_small_patches():
                export_checkpoint(
                    golden_checkpoint(folder / "golden.pth"), folder / "golden.srflow", options
                )
    return folder / "golden.srflow"
