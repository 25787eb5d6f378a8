"""The thread that opens photos and draws, so that the window never waits."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from part import LivePart, Pixels, Place, as_rgb
from PySide6.QtCore import QThread, Signal
from widgets import image_of

from srflow_sdk import CancelledError, SRFlowError, Upscaler, read_image


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What to draw. photo: its pixels. source, target: files; with a target the whole photo is
    written into it.
    """

    photo: Pixels
    source: Path
    place: Place
    tau: float
    seed: int
    target: Path | None = None

    def replaces(self, other: Job) -> bool:
        """Whether what was begun for the other job is of no use for this one."""
        return self.photo is not other.photo or self.place != other.place


class Artist(QThread):
    """Draws one job, or opens one file, at a time. A newer one takes the place of those that have
    not begun.

    The signals come with the job, or the path, that they are about. A new temperature lets the
    drawing before it finish, as a slider that moves all the time would otherwise never show
    anything; and what is being saved ends only by :meth:`stop`.
    """

    opened = Signal(object, object, object)  # Path, pixels, QImage
    drawn = Signal(object, object)  # Job, uint8 H×W×3
    saved = Signal(object)
    cancelled = Signal(object)
    failed = Signal(object, str)
    progressed = Signal(int, int)

    def __init__(self, upscaler: Upscaler) -> None:
        super().__init__()
        self._upscaler = upscaler
        self._changed = threading.Condition()
        self._next: Job | Path | None = None
        self._now: Job | Path | None = None
        self._cancel = threading.Event()
        self._closing = False
        self._part: LivePart | None = None
        self._part_of: Job | None = None

    def read(self, path: Path) -> None:
        """Open this file next; what is drawn of the photo before is given up."""
        with self._changed:
            self._next = path
            self._cancel.set()
            self._changed.notify()

    def ask(self, job: Job) -> None:
        """Draw this next."""
        with self._changed:
            self._next = job
            now = self._now
            if (
                isinstance(now, Job)
                and now.target is None
                and (job.target is not None or job.replaces(now))
            ):
                self._cancel.set()
            self._changed.notify()

    def stop(self) -> None:
        """Give up what is being drawn, and what was to be drawn next."""
        with self._changed:
            dropped = self._next
            self._next = None
            self._cancel.set()
        if isinstance(dropped, Job):
            self.cancelled.emit(dropped)

    def close(self) -> None:
        """Give up everything, and wait for the thread's end."""
        with self._changed:
            self._closing = True
            self._cancel.set()
            self._changed.notify()
        self.wait()

    def run(self) -> None:
        """The thread."""
        while (job := self._taken()) is not None:
            try:
                if isinstance(job, Job):
                    self._do(job)
                else:
                    photo = read_image(job).pixels
                    self.opened.emit(job, photo, image_of(as_rgb(photo)))
            except CancelledError:
                self.cancelled.emit(job)
            except SRFlowError as error:
                self.failed.emit(job, str(error))
            except Exception as error:  # a defect: the window says so, and goes on
                logging.getLogger(__name__).exception("drawing failed")
                self.failed.emit(job, f"This is a defect of the viewer: {error!r}")

    def _taken(self) -> Job | Path | None:
        with self._changed:
            self._now = None
            self._changed.wait_for(lambda: self._next is not None or self._closing)
            if self._closing:
                return None
            self._now = self._next
            self._next = None
            self._cancel = threading.Event()
            return self._now

    def _do(self, job: Job) -> None:
        if job.target is not None:
            self._upscaler.upscale_file(
                job.source,
                job.target,
                tau=job.tau,
                seed=job.seed,
                cancel=self._cancel,
                progress=self.progressed.emit,
            )
            self.saved.emit(job)
            return
        if self._part is None or self._part_of is None or job.replaces(self._part_of):
            self._part = None
            self._part = LivePart(self._upscaler, job.photo, job.place)
            self._part_of = job
        self.drawn.emit(
            job, as_rgb(self._part.sample(tau=job.tau, seed=job.seed, cancel=self._cancel))
        )
