"""Open pages: the files, the photo and the long work of each, and when they are let go of."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from srflow_apps.demo.live import LivePhoto
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import RAISE_LIMIT
from srflow_sdk.model.model_choice import ModelChoice
from srflow_sdk.plain_text import is_plain
from srflow_sdk.system.interrupts import stop_if_set

Work = Callable[[Callable[[int, int], None], threading.Event], Any]
"""A function of `progress` and `cancel`, as every drawing method takes them."""

SILENT_S = 150.0
"""A page that is silent for this time is ended. In the background, browsers let it speak once a
minute."""

MOST_SESSIONS = 64
"""Pages that may be open."""

MOST_PHOTOS = 8
"""Pages that hold their photo and its encoding in memory: the ones used last. Others read it
again."""

TABS = ("enlarge", "restore")
"""A page sends one picture for each, and each makes one file."""

_END_S = 10.0
_NAME_BYTES = 120


class Job:
    """Work that writes a file. It waits until no other work of the same executor, which has one
    thread, runs.

    target: the file, which is there once the state is "done". fraction: how much is done, 0 to 1.
    shown: what the work returned. error: why it failed, once the state is "failed".
    """

    def __init__(self, target: Path, work: Work, *, turn: ThreadPoolExecutor) -> None:
        self.target = target
        self._cancel = threading.Event()
        self._started = 0.0
        self.state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
        self.fraction = 0.0
        self.shown = None
        self.error: BaseException | None = None
        self._future = turn.submit(self._run, work)

    @property
    def left_s(self) -> float | None:
        """About how many seconds are left; None: not known yet."""
        if self.state != "running" or not self.fraction:
            return None
        return (time.monotonic() - self._started) / self.fraction * (1 - self.fraction)

    def cancel(self) -> None:
        """Ask it to stop; it does before its next tile."""
        self._cancel.set()
        if self._future.cancel():
            self.state = "cancelled"

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        if not self._future.cancelled():  # of which `wait` would hear only once its turn came
            wait([self._future], timeout_s)

    def _run(self, work: Work) -> None:
        def tell_progress(done: int, total: int) -> None:
            self.fraction = done / total

        try:
            self._started = time.monotonic()
            self.state = "running"
            stop_if_set(self._cancel)
            self.shown = work(tell_progress, self._cancel)
            stop_if_set(self._cancel)
            self.fraction = 1.0
            self.state = "done"
        except BaseException as error:  # whatever it is, the page gets it
            delete_file(self.target)
            self.error, self.state = error, "cancelled" if self._cancel.is_set() else "failed"


class RefusedError(ArgumentError):
    """A request that gets a status of its own: 410 if its page was ended, or never was."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass(kw_only=True)
class Session:
    """One open page. Hold `lock` while using `photo` or changing `pictures` and `jobs`."""

    folder: Path  # its files
    seen: float  # when it last said something
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pictures: dict[str, Path] = field(default_factory=dict)  # what it sent, by its tab
    photo: LivePhoto | None = None  # what the tab "Enlarge" shows, if it is in memory
    suits: ModelChoice | None = None  # the model that suits it, and why
    samples: threading.Event = field(default_factory=threading.Event)  # stops the eight samples
    jobs: dict[str, Job] = field(default_factory=dict)  # long work, by its tab
    closed: bool = False

    def new_file(self, name: str) -> Path:
        """A path for a file of this name, in a folder of its own, so that names never meet."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()  # not its parents: the page may have been ended
        return folder / name

    def put(self, tab: str, path: Path | None) -> None:
        """Replace a picture that the page sent; None only removes it.

        What the tab shows, made, or still makes of the older one is dropped, deleted or stopped.
        """
        self._withdraw(tab)
        if tab == "enlarge":
            self.photo = self.suits = None
        if (old := self.pictures.pop(tab, None)) is not None:
            delete_file(old)
        if path is not None:
            self.pictures[tab] = path

    def begin(self, tab: str, target: Path, work: Work, *, turn: ThreadPoolExecutor) -> Job:
        """Begin long work of a tab that writes a file; the tab's older one is stopped, and its file
        deleted.
        """
        self._withdraw(tab)
        self.jobs[tab] = Job(target, work, turn=turn)
        return self.jobs[tab]

    def in_words(self, text: str) -> str:
        """A message without the folders that only the server knows, and without advice to who
        started it.
        """
        words = text.replace(RAISE_LIMIT, "choose a smaller picture")
        return re.sub(re.escape(str(self.folder)) + r"[\\/](?:[0-9a-f]{32}[\\/])?", "", words)

    def stop(self) -> None:
        """Stop whatever runs for this page, and begin nothing any more."""
        self.closed = True
        self.samples.set()
        for job in self.jobs.values():
            job.cancel()

    def delete(self) -> None:
        """Let go of what a page that was stopped holds, once its work has ended: before its next
        tile.
        """
        self.photo = None
        for job in self.jobs.values():
            job.join(_END_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _withdraw(self, tab: str) -> None:
        if (job := self.jobs.pop(tab, None)) is not None:
            job.cancel()
            delete_file(job.target)


class Sessions:
    """All open pages by their key, which only the page and the server know; those used last are the
    last.

    root: folder for their files; it must exist. clock: seconds, monotonic.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    async def open(self) -> tuple[str, Session]:
        """A new page and its key. Raises: ArgumentError if too many pages are open."""
        if len(self._sessions) >= MOST_SESSIONS:
            raise ArgumentError(
                f"{MOST_SESSIONS} pages are open, the most there may be; close others first"
            )
        key = secrets.token_urlsafe(24)
        session = self._sessions[key] = Session(
            folder=self._root / secrets.token_hex(16), seen=self._clock()
        )
        session.folder.mkdir(mode=0o700)
        return key, session

    def get(self, key: str) -> Session:
        """An open page, which is used now: only so many used last keep their photo in memory.
        Raises: RefusedError.
        """
        session = self._sessions.pop(key, None)
        if session is None:
            raise RefusedError(
                410, "the page was closed, and its pictures were deleted; choose them again"
            )
        self._sessions[key] = session
        session.seen = self._clock()
        for other in list(self._sessions.values())[:-MOST_PHOTOS]:
            other.photo = None  # whoever draws it this moment has it still
        return session

    async def close(self, key: str) -> None:
        """End a page and delete what it held. Nothing happens if it is not open."""
        if (session := self._sessions.pop(key, None)) is not None:
            session.stop()
            async with session.lock:
                await asyncio.to_thread(session.delete)

    async def close_silent(self) -> None:
        """End the pages that are silent."""
        for key, session in list(self._sessions.items()):
            if self._clock() - session.seen >= SILENT_S:
                await self.close(key)

    def stop(self) -> None:
        """Stop whatever runs for all pages."""
        for session in self._sessions.values():
            session.stop()


def plain_name(name: str) -> str:
    """A browser's name of a file as the name of a file in a folder of ours: not a path, not hidden,
    not too long.
    """
    plain = "".join(
        "_" if letter in '/\\:*?"<>|' or not is_plain(letter) else letter for letter in name
    )
    stem, dot, ending = plain.strip(" .").rpartition(".")
    stem, ending = (stem, f".{ending[:20]}") if dot else (ending, "")
    room = _NAME_BYTES - len(ending.encode())
    return (stem.encode("utf-8", "ignore")[:room].decode("utf-8", "ignore") or "picture") + ending


def delete_file(path: Path) -> None:
    """Delete a file of :meth:`Session.new_file` with its folder."""
    shutil.rmtree(path.parent, ignore_errors=True)
