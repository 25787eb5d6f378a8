from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_apps.demo.sessions import Job, Session, Sessions
from srflow_apps.demo.tabs import Tabs
from srflow_sdk.files import write_image
from tests.sdk.conftest import flow, flow_bundle

__all__ = ["flow", "flow_bundle"]


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


def opened(sessions: Sessions) -> Session:
    """A page that was opened."""
    return asyncio.run(sessions.open())[1]


@pytest.fixture
def session(sessions: Sessions) -> Session:
    return opened(sessions)


def copied(session: Session, path: Path) -> Path:
    """The picture as its page's request leaves it."""
    taken = session.new_file(path.name)
    shutil.copyfile(path, taken)
    return taken


def sent(session: Session, name: str, path: Path) -> Path:
    """The picture as its page sends it, and nobody looked at it."""
    taken = copied(session, path)
    session.put(name, taken)
    return taken


def finished(tabs: Tabs, session: Session, tab: str, said: dict[str, Any]) -> Job:
    """The job of long work of a tab, once it has ended."""
    tabs.begin(session, tab, said, ThreadPoolExecutor(1))
    job = session.jobs[tab]
    job.join(60)
    return job


@pytest.fixture
def uploaded(tmp_path: Path, photo: np.ndarray) -> Path:
    """A 61×45 photo of a visitor."""
    path = tmp_path / "visitor" / "photo.png"
    path.parent.mkdir()
    write_image(path, photo)
    return path
