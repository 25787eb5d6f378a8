"""Segments of a clip: files in a folder beside the output, with which a run goes on after a kill, or another shares."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.clips.writing import Encoding
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.errors import ImageError
from srflow_sdk.system.local_files import replacing, write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SEGMENT = 24
"""Frames of a segment, which a kill costs."""

KEYFRAMES = 240
"""Frames after which detail begins anew, a multiple of :data:`SEGMENT`: a shard makes all of these, or none."""

_SETTINGS = "settings.json"
_OURS = re.compile(r"\.?(\d{6}\.(mkv|state)|settings\.json)(\..*)?")


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments of a clip of so many frames, each called after its number. record: how they are made."""

    folder: Path
    frames: int
    record: str

    def paths(self, shard: tuple[int, int] = (1, 1)) -> list[Path]:
        """All of them, or those of one shard: its number, from 1, and how many there are."""
        numbers = range(-(-self.frames // SEGMENT))
        mine = (number for number in numbers if number * SEGMENT // KEYFRAMES % shard[1] == shard[0] - 1)
        return [self.folder / f"{number:06}.mkv" for number in mine]

    def numbers(self, path: Path) -> range:
        """The numbers of a segment's frames."""
        first = int(path.stem) * SEGMENT
        return range(first, min(first + SEGMENT, self.frames))

    def is_kept(self) -> bool:
        """True if the folder has segments that are made so."""
        with contextlib.suppress(OSError, ValueError):
            return (self.folder / _SETTINGS).read_text("utf-8") == self.record
        return False

    @contextlib.contextmanager
    def held(self, *, keep: bool, shared: bool, say: Callable[[str], None]) -> Iterator[None]:
        """Make the folder, and hold it alone unless it is shared; what it has of other clips, or is not to keep, goes.

        Raises: ImageError, also if another run has it.
        """
        others = f"{self.folder} has parts of another clip, model or settings"
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if fcntl is not None:
                    stack.callback(os.close, descriptor := os.open(self.folder, os.O_RDONLY))
                    try:
                        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                    except BlockingIOError as error:
                        in_use = f"{self.folder} is in use: another run makes this clip"
                        raise ImageError(f"{in_use}; wait for it, or share the clip by --shard") from error
                    except OSError:  # this file system has no locks
                        pass
                if not (same := self.is_kept()) and any(self.folder.iterdir()):
                    if shared:
                        raise ImageError(f"{others}; remove it")
                    say(f"{others}: beginning anew")
                if not same or not (keep or shared):
                    self._clear()
                    write_atomically(self.folder / _SETTINGS, self.record.encode())
            except OSError as error:
                raise ImageError(f"{self.folder} cannot be written: {error.strerror or error}") from error
            yield

    def remove(self) -> None:
        """Delete them, and the folder if it has nothing else. Another run may do the same."""
        with contextlib.suppress(OSError):
            self._clear()
            self.folder.rmdir()

    def _clear(self) -> None:
        for path in list(self.folder.iterdir()):
            if _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def draw(
        self,
        todo: Sequence[Path],
        pictures: Iterator[NDArray[Any]],
        *,
        drawer: Callable[[], FrameUpscaler],
        encoding: Encoding,
        drawn: Callable[[], None],
    ) -> None:
        """Draw those that are missing; frames before one are passed over, or followed, unless there is a state.

        A frame is encoded while the next is drawn. pictures: of the whole clip. drawn: called after each frame.
        Raises: ImageError, and the errors of drawing.
        """
        place, clip = 0, None
        for path in todo:
            numbers = self.numbers(path)
            start, state = numbers.start, path.with_name(f"{int(path.stem) - 1:06}.state")
            if clip is None or place < start:
                clip = drawer()
                start = clip.start(start)
                # Of a damaged file numpy and zipfile raise a dozen kinds of errors.
                with contextlib.suppress(Exception), np.load(state) as arrays:
                    if int(arrays["number"]) == numbers.start - 1:
                        clip.go_on(arrays)
                        start = numbers.start
            with encoding.file(path) as put, ThreadPoolExecutor(1, thread_name_prefix="srflow-encode") as encoder:
                encoded: Future[None] | None = None
                for number in range(place, numbers.stop):
                    if (frame := next(pictures, None)) is None:
                        raise ImageError(f"it has only {number} frames now: it has changed")
                    if number >= numbers.start:
                        picture = clip.draw(frame, number)
                        if encoded is not None:  # one at a time, or pictures would fill the memory
                            encoded.result()
                        encoded = encoder.submit(put, picture)
                        drawn()
                    elif number >= start:
                        clip.follow(frame, number)
                if encoded is not None:
                    encoded.result()
                if clip.start(numbers.stop) < numbers.stop < self.frames:
                    following = replacing(path.with_suffix(".state"))
                    with following as descriptor, os.fdopen(os.dup(descriptor), "wb") as file:
                        np.savez(file, **clip.state())
            state.unlink(missing_ok=True)
            place = numbers.stop
