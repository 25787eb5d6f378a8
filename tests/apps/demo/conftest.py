from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from srflow_apps.demo.sessions import Job, Session, Sessions, Work
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.flow_bundle import write_flow_bundle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Sessions:
    root = tmp_path / "pages"
    root.mkdir()
    return Sessions(root, clock=clock)


@pytest.fixture
def session(sessions: Sessions) -> Session:
    return sessions.open()[1]


def sent(session: Session, name: str, path: Path) -> Path:
    """The picture as its page sends it."""
    taken = session.new_file(path.name)
    shutil.copyfile(path, taken)
    session.put(name, taken)
    return taken


def finished(session: Session, tab: str, begun: tuple[Path, Work], turn: ThreadPoolExecutor | None = None) -> Job:
    """The job of long work that was begun, once it has ended."""
    session.begin(tab, *begun, turn=turn or ThreadPoolExecutor(1))
    session.jobs[tab].join(60)
    return session.jobs[tab]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upscaler]:
    """A tiny real flow, with an inverter."""
    bundle = write_flow_bundle(tmp_path_factory.mktemp("bundles") / "flow.srflow")
    with Upscaler(bundle, device="cpu", threads=1) as upscaler:
        yield upscaler


@pytest.fixture
def uploaded(tmp_path: Path, photo: np.ndarray) -> Path:
    """A 61×45 photo of a visitor."""
    path = tmp_path / "visitor" / "photo.png"
    path.parent.mkdir()
    write_image(path, photo)
    return path
