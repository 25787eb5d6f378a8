"""What the server holds for each open page: its files, its photo, its running work; and when it lets go of them."""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from srflow_sdk._demo.controls import Controls
from srflow_sdk._demo.live import LivePhoto
from srflow_sdk._files import RAISE_LIMIT
from srflow_sdk.errors import ArgumentError

ENCODING_IDLE_S = 15 * 60
"""After this time without a change, a page's photo and encoding leave the memory; the next change reads it again."""
SESSION_IDLE_S = 60 * 60
"""After this time, a page's files are deleted, too."""
PHOTOS_BYTES = 1 << 30
"""Pixels and conditioning that all pages may hold together; the ones that were used longest ago are dropped first."""
MOST_SESSIONS = 64
_END_S = 10.0


@dataclass(kw_only=True)
class Session:
    """One open page. Hold `lock` while using `photo` or the fields below it.

    folder: its files. used: when it last asked for something. path, photo: what the tab "Enlarge" shows, of which place
    and sample, and drawn with which controls. strip: stops the eight samples. jobs: what stops long work, by its name.
    threads: in which that runs. uploads: files that its browser sent. Pages that send the same contents under the same
    name share one.
    """

    folder: Path
    used: float
    lock: threading.RLock = field(default_factory=threading.RLock)
    path: Path | None = None
    photo: LivePhoto | None = None
    sample: int = 0
    drawn: Controls | None = None
    place: tuple[int, int] = (0, 0)
    strip: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, threading.Event] = field(default_factory=dict)
    threads: set[threading.Thread] = field(default_factory=set)
    uploads: set[Path] = field(default_factory=set)
    closed: bool = False

    def new_file(self, name: str) -> Path:
        """A path for a file of this name, in a folder of its own, so that names never meet."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder / name

    def take(self, uploaded: str) -> Path:
        """A copy of an upload among the page's files. Raises: ArgumentError if either is gone."""
        source = Path(uploaded)
        with self.lock:
            if self.closed:
                raise ArgumentError("the page was closed; load it again")
            self.uploads.add(source)
            path = self.new_file(source.name)
            try:
                shutil.copyfile(source, path)
            except FileNotFoundError as error:
                raise ArgumentError(
                    f"{source.name} is gone, because the page rested for long; choose it again"
                ) from error
            return path

    def in_words(self, text: str) -> str:
        """A message without the folders that only the server knows, and without advice to who started it."""
        words = text.replace(RAISE_LIMIT, "choose a smaller picture")
        for folder in sorted(self.folder.glob("*"), reverse=True):
            words = words.replace(f"{folder}/", "")
        return words.replace(f"{self.folder}/", "")

    def stop(self) -> None:
        """Stop whatever runs for this page."""
        self.strip.set()
        for cancel in list(self.jobs.values()):
            cancel.set()


class Sessions:
    """All open pages by their key, which only the page and the server know.

    root: folder for their files; it must exist. clock: seconds, monotonic.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str) -> Session:
        """The page's session, made if there is none. Raises: ArgumentError if too many pages are open."""
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                if len(self._sessions) >= MOST_SESSIONS:
                    raise ArgumentError(f"{MOST_SESSIONS} pages are open, the most there may be; close others first")
                session = Session(folder=self._root / secrets.token_hex(16), used=self._clock())
                session.folder.mkdir()
                self._sessions[key] = session
            session.used = self._clock()
            return session

    def end(self, key: str) -> None:
        """Stop a page's work, and release its memory and its files. Nothing happens if it is not open."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.stop()
            with session.lock:
                session.closed, session.photo = True, None
            for thread in list(session.threads):
                thread.join(_END_S)  # it ends before its next tile
            shutil.rmtree(session.folder, ignore_errors=True)
            self._delete_uploads(session)
            _return_memory()

    def _delete_uploads(self, ended: Session) -> None:
        """Delete what only the ended page had sent."""
        shared = set[Path]().union(*(session.uploads for session in list(self._sessions.values())))
        for path in ended.uploads - shared:
            if self._root in path.parents:
                shutil.rmtree(path.parent, ignore_errors=True)  # Gradio gives each upload a folder of its own

    def end_all(self) -> None:
        """End every session."""
        for key in list(self._sessions):
            self.end(key)

    def release_idle(self) -> None:
        """Drop photos from memory, and end sessions, that were not used for a while."""
        now = self._clock()
        for key, session in list(self._sessions.items()):
            if any(not cancel.is_set() for cancel in list(session.jobs.values())):
                session.used = now
            if now - session.used >= SESSION_IDLE_S:
                self.end(key)
            elif now - session.used >= ENCODING_IDLE_S:
                _forget(session)

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


def _held(session: Session) -> int:
    photo = session.photo
    return 0 if photo is None else photo.nbytes


def _forget(session: Session) -> None:
    """Drop a session's photo and encoding from memory, unless they are being used this moment."""
    if session.lock.acquire(blocking=False):
        try:
            if session.photo is None or not session.photo.nbytes:
                return
            session.photo.forget()
        finally:
            session.lock.release()
        _return_memory()


def _return_memory() -> None:
    """Give the system back what the allocator keeps: with glibc, 100 MB and more after a large photo."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
