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
from srflow_sdk.system.plain_text import is_plain
from srflow_sdk.system.raising import stop_if_set

Work = Callable[[Callable[[int, int], None], threading.Event], Any]
"""A function of `progress` and `cancel`, as every drawing method takes them."""

State = Literal["waiting", "running", "done", "failed", "cancelled"]

SILENT_S = 150.0
"""A page that is silent for this time is ended. In the background, browsers let it speak once a minute."""

MOST_SESSIONS = 64
"""Pages that may be open."""

MOST_PHOTOS = 8
"""Pages that hold their photo and its encoding in memory: the ones used last. Others read it again."""

TABS = {"enlarge": "enlarge", "restore": "restore", "photo": "transfer", "other": "transfer", "mask": "transfer"}
"""The pictures that a page may send, and the tab that each belongs to. A page has one of each."""

_END_S = 10.0
_NAME_BYTES = 120


class Job:
    """Work that has begun. It waits until no other work of the same executor, which has one thread, runs.

    state: how it is. fraction: how much is done, 0 to 1. result: what the work returned, once the state is "done".
    error: why it failed, once the state is "failed".
    """

    def __init__(self, work: Work, *, turn: ThreadPoolExecutor) -> None:
        self._work, self._cancel, self._started = work, threading.Event(), 0.0
        self.state: State = "waiting"
        self.fraction, self.result = 0.0, None
        self.error: BaseException | None = None
        self._future = turn.submit(self._run)

    @property
    def runs(self) -> bool:
        """True while it waits or runs."""
        return self.state in ("waiting", "running")

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
        wait([self._future], timeout_s)

    def _told(self, done: int, total: int) -> None:
        self.fraction = done / total

    def _run(self) -> None:
        try:
            self._started, self.state = time.monotonic(), "running"
            stop_if_set(self._cancel)
            self.result = self._work(self._told, self._cancel)
        except BaseException as error:  # whatever it is, the page gets it
            self.error = error
            self.state = "cancelled" if self._cancel.is_set() else "failed"
        else:
            self.fraction, self.state = 1.0, "done"


class PageGoneError(ArgumentError):
    """The page was ended, or never was."""


@dataclass(kw_only=True)
class Session:
    """One open page. Hold `lock` while using `photo` or changing `pictures` and `results`.

    folder: its files. seen: when it last said something. lives: whether its scripts ever did. pictures: what it sent,
    by the names of :data:`TABS`. sent: how often it sent each. receiving: what comes of each. photo: what the tab
    "Enlarge" shows, if it is in memory. suits: the model that suits it, and why. strip: stops the eight samples. jobs:
    its long work, and results: the files that this made, by their tab. closed: whether the page was ended.
    """

    folder: Path
    seen: float
    lives: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    pictures: dict[str, Path] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    receiving: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    photo: LivePhoto | None = None
    suits: ModelChoice | None = None
    strip: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[str, Path] = field(default_factory=dict)
    closed: bool = False

    def new_file(self, name: str) -> Path:
        """A path for a file of this name, in a folder of its own, so that names never meet."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()  # not its parents: the page may have been ended
        return folder / name

    def put(self, name: str, path: Path | None) -> None:
        """Replace a picture that the page sent; None only removes it.

        What the tab shows, made, or still makes of the older one is dropped, deleted or stopped. Raises: PageGoneError.
        """
        with self.lock:
            self._withdraw(TABS[name])
            if name == "enlarge":
                self.photo = self.suits = None
            if (old := self.pictures.pop(name, None)) is not None:
                delete_file(old)
            if path is not None:
                self.pictures[name] = path

    def begin(self, tab: str, target: Path, write: Work, *, turn: ThreadPoolExecutor) -> None:
        """Begin long work of a tab that writes a file; the tab's older one is stopped. Raises: PageGoneError."""

        def work(told: Callable[[int, int], None], cancel: threading.Event) -> Any:
            try:
                shown = write(told, cancel)
                stop_if_set(cancel)
                return shown
            except BaseException:
                delete_file(target)
                raise

        with self.lock:
            self._withdraw(tab)
            self.results[tab] = target
            self.jobs[tab] = Job(work, turn=turn)

    def result(self, key: str) -> Path | None:
        """A file that long work made, by its key, which only the page knows: :func:`key_of`."""
        with self.lock:
            for tab, path in self.results.items():
                if self.jobs[tab].state == "done" and secrets.compare_digest(key_of(path).encode(), key.encode()):
                    return path
            return None

    def check_open(self) -> None:
        """Raises: PageGoneError."""
        if self.closed:
            raise PageGoneError("the page was closed; load it again")

    def _withdraw(self, tab: str) -> None:
        self.check_open()
        if (job := self.jobs.pop(tab, None)) is not None:
            job.cancel()
        if (old := self.results.pop(tab, None)) is not None:
            delete_file(old)

    def in_words(self, text: str) -> str:
        """A message without the folders that only the server knows, and without advice to who started it."""
        words = text.replace(RAISE_LIMIT, "choose a smaller picture")
        return re.sub(re.escape(f"{self.folder}/") + "(?:[0-9a-f]{32}/)?", "", words)

    def stop(self) -> None:
        """Stop whatever runs for this page."""
        self.strip.set()
        for job in list(self.jobs.values()):
            job.cancel()


class Sessions:
    """All open pages by their key, which only the page and the server know.

    root: folder for their files; it must exist. clock: seconds, monotonic.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock, self._lock = root, clock, threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._ended: list[Session] = []
        self._shown: list[Session] = []  # those with a photo in memory

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> tuple[str, Session]:
        """A new page and its key. Raises: ArgumentError if too many pages live."""
        key = secrets.token_urlsafe(24)
        session = Session(folder=self._root / secrets.token_hex(16), seen=self._clock())
        with self._lock:
            if len(self._sessions) >= MOST_SESSIONS:
                unheard = next((key for key, other in self._sessions.items() if not other.lives), None)
                if unheard is None:
                    raise ArgumentError(f"{MOST_SESSIONS} pages are open, the most there may be; close others first")
                self.close(unheard)
            session.folder.mkdir(mode=0o700)
            self._sessions[key] = session
        return key, session

    def get(self, key: str) -> Session:
        """An open page. Raises: PageGoneError."""
        session = self._sessions.get(key)
        if session is None:
            raise PageGoneError("the page was closed, and its pictures were deleted; choose them again")
        session.seen = self._clock()
        return session

    def find(self, key: str) -> Session | None:
        """An open page, if it is one."""
        return self._sessions.get(key)

    def heard(self, key: str) -> None:
        """A page says that it lives. Raises: PageGoneError."""
        self.get(key).lives = True

    def close(self, key: str) -> None:
        """Stop a page's work; :meth:`release` deletes what it held. Nothing happens if it is not open."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is not None:
                session.closed = True
                session.stop()
                self._ended.append(session)

    def close_all(self) -> None:
        """Close every page."""
        for key in list(self._sessions):
            self.close(key)

    def release(self) -> None:
        """End the pages that are silent, and delete what ended pages held."""
        for key, session in list(self._sessions.items()):
            if self._clock() - session.seen >= SILENT_S:
                self.close(key)
        with self._lock:
            ended, self._ended = self._ended, []
            self._shown = [session for session in self._shown if not session.closed]
        for session in ended:
            with session.lock:
                session.photo = None
            for job in list(session.jobs.values()):
                job.join(_END_S)  # it ends before its next tile
            shutil.rmtree(session.folder, ignore_errors=True)

    def shows(self, session: Session) -> None:
        """Note that a page uses its photo; of those that did longest ago, the photo leaves the memory."""
        with self._lock:
            self._shown = [*(other for other in self._shown if other is not session), session]
            for other in self._shown[:-MOST_PHOTOS]:
                other.photo = None  # whoever draws it this moment has it still
            self._shown = self._shown[-MOST_PHOTOS:]


def plain_name(name: str) -> str:
    """A browser's name of a file as the name of a file in a folder of ours: not a path, not hidden, not too long."""
    plain = "".join("_" if letter in '/\\:*?"<>|' or not is_plain(letter) else letter for letter in name)
    stem, dot, ending = plain.strip(" .").rpartition(".")
    stem, ending = (stem, f".{ending[:20]}") if dot else (ending, "")
    room = _NAME_BYTES - len(ending.encode())
    return (stem.encode("utf-8", "ignore")[:room].decode("utf-8", "ignore") or "picture") + ending


def key_of(path: Path) -> str:
    """The key of a file of :meth:`Session.new_file`: 128 random bits."""
    return path.parent.name


def delete_file(path: Path) -> None:
    """Delete a file of :meth:`Session.new_file` with its folder."""
    shutil.rmtree(path.parent, ignore_errors=True)
