"""Open pages: the files, the photo and the long work of each, and when they are let go of."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from srflow_apps.demo.live import LivePhoto
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.files import RAISE_LIMIT
from srflow_sdk.model.model_choice import ModelChoice
from srflow_sdk.system.hardware import return_freed_memory
from srflow_sdk.system.plain_text import is_plain
from srflow_sdk.system.raising import stop_if_set

Work = Callable[[Callable[[int, int], None], threading.Event], Any]
"""A function of `progress` and `cancel`, as every drawing method takes them."""

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_LOOK_S = 0.05  # between two looks of waiting work for whether it is cancelled


class Job:
    """Work that has begun. It waits until no other work of the same `turn` runs.

    state: how it is. fraction: how much is done, 0 to 1. result: what the work returned, once the state is "done".
    error: why it failed, once the state is "failed".
    """

    def __init__(self, work: Work, *, turn: threading.Lock) -> None:
        self._work = work
        self._turn = turn
        self._cancel = threading.Event()
        self._started = 0.0
        self.state: State = "waiting"
        self.fraction = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="srflow-demo-work", daemon=True)
        self._thread.start()

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

    def join(self, timeout_s: float) -> None:
        """Wait until its thread has ended."""
        self._thread.join(timeout_s)

    def _told(self, done: int, total: int) -> None:
        self.fraction = done / total

    def _run(self) -> None:
        try:
            while not self._turn.acquire(timeout=_LOOK_S):
                stop_if_set(self._cancel)
            try:
                stop_if_set(self._cancel)
                self._started, self.state = time.monotonic(), "running"
                self.result = self._work(self._told, self._cancel)
            finally:
                self._turn.release()
        except CancelledError:
            self.state = "cancelled"
        except BaseException as error:  # whatever it is, the page gets it
            self.error = error
            self.state = "cancelled" if self._cancel.is_set() else "failed"
        else:
            self.fraction, self.state = 1.0, "done"


UNHEARD_S = 20.0
"""A page that does not say that it lives within this time is ended."""
SILENT_S = 150.0
"""A page that lived and is silent for this time is ended. In the background, browsers let it speak once a minute."""
ENCODING_IDLE_S = 15 * 60
"""After this time without a change, a page's photo and encoding leave the memory; the next change reads it again."""
SESSION_IDLE_S = 60 * 60
"""After this time without a change, a page is ended even if it lives."""
PHOTOS_BYTES = 1 << 30
"""Pixels and conditioning that all pages may hold together; the ones that were used longest ago are dropped first."""
MOST_SESSIONS = 64
TABS = {"enlarge": "enlarge", "restore": "restore", "photo": "transfer", "other": "transfer", "mask": "transfer"}
"""The pictures that a page may send, and the tab that each belongs to. A page has one of each."""

_END_S = 10.0
_NAME_BYTES = 120


class PageGoneError(ArgumentError):
    """The page was ended, or never was."""


@dataclass(kw_only=True)
class Session:
    """One open page. Hold `lock` while using `photo` or changing `pictures` and `results`.

    folder: its files. used: when it last asked for something. seen: when it last said that it lives. lives: whether
    it ever did. pictures: what it sent, by the names of :data:`TABS`. sent: how often it sent each. receiving: what
    comes of each. photo: what the tab "Enlarge" shows. suits: the model that suits it, and why. strip: stops the
    eight samples. jobs: its long work, and results: the files that this made, by their tab. closed: whether the
    page was ended.
    """

    folder: Path
    used: float
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
                self.photo = None
            if (old := self.pictures.pop(name, None)) is not None:
                delete_file(old)
            if path is not None:
                self.pictures[name] = path

    def begin(self, tab: str, target: Path, write: Work, *, turn: threading.Lock) -> None:
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

    root: folder for their files; it must exist. freed: called after memory was freed. clock: seconds, monotonic.
    """

    def __init__(
        self,
        root: Path,
        *,
        freed: Callable[[], None] = return_freed_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._freed = freed
        self._clock = clock
        self._lock = threading.RLock()
        self._sessions: dict[str, Session] = {}
        self._ended: list[Session] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> tuple[str, Session]:
        """A new page and its key. Raises: ArgumentError if too many pages live."""
        key, now = secrets.token_urlsafe(24), self._clock()
        session = Session(folder=self._root / secrets.token_hex(16), used=now, seen=now)
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
            raise PageGoneError("the page rested for long, and its pictures were deleted; choose them again")
        session.used = session.seen = self._clock()
        return session

    def heard(self, key: str) -> None:
        """A page says that it lives. Raises: PageGoneError."""
        used = session.used if (session := self._sessions.get(key)) else 0.0
        session = self.get(key)
        session.lives, session.used = True, used

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
        """End the pages that are silent or rest, drop photos that rest, and delete what ended pages held."""
        now, freed = self._clock(), False
        for key, session in list(self._sessions.items()):
            if any(job.runs for job in list(session.jobs.values())):
                session.used = now
            silent = now - session.seen >= (SILENT_S if session.lives else UNHEARD_S)
            if silent or now - session.used >= SESSION_IDLE_S:
                self.close(key)
            elif now - session.used >= ENCODING_IDLE_S:
                freed |= _forget(session)
        with self._lock:
            ended, self._ended = self._ended, []
        for session in ended:
            with session.lock:
                freed |= session.photo is not None
                session.photo = None
            for job in list(session.jobs.values()):
                job.join(_END_S)  # it ends before its next tile
            shutil.rmtree(session.folder, ignore_errors=True)
        if freed or any(session.jobs for session in ended):
            self._freed()

    def release_excess(self, current: Session) -> None:
        """Drop the photos that were used longest ago while all together take too much; never the current page's."""
        others = sorted((s for s in list(self._sessions.values()) if s is not current), key=lambda s: s.used)
        held = _held(current) + sum(map(_held, others))
        for session in others:
            if held <= PHOTOS_BYTES:
                return
            before = _held(session)
            _forget(session)
            held -= before - _held(session)


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


def _held(session: Session) -> int:
    photo = session.photo
    return 0 if photo is None else photo.nbytes


def _forget(session: Session) -> bool:
    """Drop a session's photo and encoding from memory, unless they are being used this moment; whether it did."""
    if session.photo is None or not session.photo.nbytes or not session.lock.acquire(blocking=False):
        return False
    try:
        if session.photo is not None:
            session.photo.forget()
        return True
    finally:
        session.lock.release()
