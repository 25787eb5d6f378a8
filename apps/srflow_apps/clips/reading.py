"""Reads clips with PyAV: what a file has, and its frames as RGB, upright, in the order in which they are shown."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError, MissingExtraError
from srflow_sdk.system.local_files import open_regular

CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".y4m")
"""The endings of the clips that are read."""

Y4M = "yuv4mpegpipe"
"""FFmpeg's name of YUV4MPEG2."""

AHEAD = 2
"""Frames that a decoder is ahead of what draws, and an encoder behind it."""

JUMP_S = 10
"""From this on, a broadcast's times do not go on or back, but another one begins."""

_T = TypeVar("_T")
_MAGIC = b"YUV4MPEG2"
_READ = {"format_whitelist": f"mov,matroska,avi,mpegts,{Y4M}", "protocol_whitelist": "file,pipe"}  # no playlists
_POLL_S, _HEADER = 0.1, 512
_UNTAGGED, _LIMITED, _FULL = 2, 1, 2
_BT709, _SMPTE170M = 1, 6
_SCALERS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # libswscale's matrices by H.273's
_RATE = Fraction(25)  # where nothing says
_SHORTER_S = 0.3  # than a file says, and yet whole


def is_clip(path: Path) -> bool:
    """True if the name is a clip's."""
    return path.suffix.lower() in CLIPS


def is_piped_clip() -> bool:
    """True if standard input is YUV4MPEG2, by its first bytes, which stay in it."""
    if sys.stdin is None or sys.stdin.isatty():
        return False
    head: bytes = getattr(sys.stdin.buffer, "peek", lambda _: b"")(len(_MAGIC))
    return head.startswith(_MAGIC)


def pyav() -> Any:
    """The module `av`. Raises: MissingExtraError."""
    os.environ.setdefault("SVT_LOG", "1")  # or that encoder fills standard error
    need = 'clips need PyAV 18 and Python 3.11, or newer; run: pip install -U "srflow-sdk[video]"'
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f"{need} ({error})") from error
    if int(av.__version__.partition(".")[0]) < 18:
        raise MissingExtraError(f"{need} (this is PyAV {av.__version__})")
    return av


class Piped:
    """Standard input or output for PyAV, which it reads or writes until `stopped` says to stop: then it is at its end.

    Whoever waits in the stream itself cannot be stopped, and holds its lock when Python ends.
    """

    def __init__(self, stream: BinaryIO, stopped: Callable[[], bool]) -> None:
        self._descriptor, self._stopped, self.head = stream.fileno(), stopped, b""
        if stream.readable():
            self.head = stream.read1(len(stream.peek()))  # type: ignore[attr-defined]  # what is_piped_clip left there

    def size(self) -> tuple[int, int]:
        """Width and height as the header has them; 0 where that does not say."""
        while b"\n" not in self.head and len(self.head) < _HEADER and (more := self._arrived(_HEADER)):
            self.head += more
        fields = {each[:1]: each[1:] for each in self.head.partition(b"\n")[0].split()}
        width, height = (int(fields.get(name, b"")) if fields.get(name, b"").isdigit() else 0 for name in (b"W", b"H"))
        return width, height

    def read(self, size: int) -> bytes:
        begin, self.head = self.head[:size], self.head[size:]
        return begin or self._arrived(size)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            if not self._is_ready([], [self._descriptor]):
                raise OSError(errno.EINTR, "it was stopped")
            rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]  # as much as never waits
        return len(data)

    def _arrived(self, size: int) -> bytes:
        return os.read(self._descriptor, size) if self._is_ready([self._descriptor], []) else b""

    def _is_ready(self, reading: list[int], writing: list[int]) -> bool:
        while not self._stopped():
            if any(select.select(reading, writing, [], _POLL_S)):
                return True
        return False


@contextlib.contextmanager
def opened(file: Any, name: Path | str = "") -> Iterator[Any]:
    """The container in a file, or in one that is open, called `name`. Raises: ImageError, at once for pipes or folders.

    FFmpeg is told that a path is no URL. It opens that itself: what a signal raises while it calls Python is lost.
    """
    with contextlib.ExitStack() as stack:
        with av_errors(name or file):
            if isinstance(file, Path):
                open_regular(file).close()
                file = f"file:{file.absolute()}"
            elif isinstance(file, BytesIO):
                file.seek(0)
            container = stack.enter_context(pyav().open(file, metadata_errors="replace", options=_READ))
        yield container


@contextlib.contextmanager
def av_errors(path: Path | str, doing: str = "cannot be read") -> Iterator[None]:
    """Turn FFmpeg's errors in the block into ImageErrors of one line."""
    av = pyav()  # now, as a generator may be closed when Python ends
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        whys = {errno.ENOSPC: "the disk is full", errno.EBUSY: "its header or its first frame is damaged"}
        raise ImageError(f"{path} {doing}: {whys.get(error.errno or 0, error.strerror or str(error))}") from error


def guessed_matrix(width: int, height: int) -> int:
    """The matrix that players take for a clip without tags, by its size."""
    return _BT709 if width >= 1280 or height > 576 else _SMPTE170M


@dataclass(frozen=True, kw_only=True)
class Look:
    """The looks of a clip's frames, those of an output, too.

    width, height: upright. turns: quarter turns to the left that make a stored frame upright. aspect: of a pixel, width
    over height. deep: more than 8 bits. chroma: its layout, such as "420". primaries, transfer, matrix: of ITU-T H.273;
    the matrix is never unspecified, or a player would guess another one for a larger picture. range: 1 limited, 2 full.
    """

    width: int
    height: int
    turns: int
    aspect: Fraction
    deep: bool
    chroma: str
    rate: Fraction
    primaries: int
    transfer: int
    matrix: int
    range: int

    @classmethod
    def of(cls, frame: Any, stream: Any) -> Look:
        """By a frame; what that does not say, by its stream. Raises: ImageError."""
        pixels, context, turns = frame.format, stream.codec_context, round(frame.rotation / 90) % 4
        aspect, sides = stream.sample_aspect_ratio or Fraction(1), (frame.width, frame.height)
        primaries, transfer, matrix = (
            next(
                (tag for tag in (getattr(frame, name), getattr(context, name)) if tag not in (0, _UNTAGGED)), _UNTAGGED
            )
            for name in ("color_primaries", "color_trc", "colorspace")
        )
        if matrix == _UNTAGGED:
            matrix = _BT709 if pixels.is_rgb else guessed_matrix(*sides)
        if matrix not in _SCALERS:
            raise ImageError(f"its colour matrix, number {matrix} of H.273, is not supported; convert it to BT.709")
        full = _FULL in (frame.color_range, context.color_range) or pixels.name.startswith("yuvj")
        shares = (1, 1) if pixels.is_rgb else (8 // pixels.chroma_width(8), 8 // pixels.chroma_height(8))
        return cls(
            width=sides[turns % 2],
            height=sides[1 - turns % 2],
            turns=turns,
            aspect=1 / aspect if turns % 2 else aspect,
            deep=max(part.bits for part in pixels.components) > 8,
            chroma="420" if pixels.is_rgb else {(2, 1): "422", (1, 1): "444"}.get(shares, "420"),
            rate=stream.average_rate or stream.guessed_rate or _RATE,
            primaries=int(primaries),
            transfer=int(transfer),
            matrix=int(matrix),
            range=_FULL if full and not pixels.is_rgb else _LIMITED,
        )

    def tag(self, tagged: Any) -> None:
        """Give a frame or an encoder the colour tags."""
        tagged.color_primaries, tagged.color_trc = self.primaries, self.transfer
        tagged.colorspace, tagged.color_range = self.matrix, self.range

    def to_rgb(self, frame: Any) -> NDArray[Any]:
        """A frame as H×W×3, uint8, or uint16 if it is deep; upright."""
        of = {} if frame.format.is_rgb else {"src_colorspace": _SCALERS[self.matrix], "src_color_range": self.range}
        kind = "rgb48le" if self.deep else "rgb24"
        rgb = frame.reformat(format=kind, dst_color_range=_FULL, interpolation=_precise(), **of)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), self.turns))

    def to_yuv(self, rgb: NDArray[Any], pixel_format: str) -> Any:
        """A frame in a format of YUV, by the same matrix and range."""
        frame = pyav().VideoFrame.from_ndarray(rgb, "rgb24" if rgb.dtype == np.uint8 else "rgb48le")
        frame.color_range = _FULL
        to = {"dst_colorspace": _SCALERS[self.matrix], "dst_color_range": self.range}
        yuv = frame.reformat(format=pixel_format, interpolation=_precise(), **to)
        self.tag(yuv)
        return yuv


def _precise() -> Any:
    how = pyav().video.reformatter.Interpolation
    return how.BICUBIC | how.ACCURATE_RND | how.FULL_CHR_H_INT | how.FULL_CHR_H_INP | how.BITEXACT


@dataclass(kw_only=True)
class Clip:
    """A file that was looked through.

    times: of every frame that can be decoded, in units of time_base. sample: one of them, RGB.
    damage: what is wrong with the file; empty if nothing is. interlaced: some frames are. is_broadcast: its times begin
    anywhere, and may jump.
    """

    path: Path
    look: Look
    times: list[int]
    time_base: Fraction
    sample: NDArray[Any]
    damage: str
    interlaced: bool
    is_broadcast: bool = False


def look_through(path: Path, *, max_pixels: int) -> Clip:
    """Decode a clip once: how many frames there are, when each is shown, and whether the file is whole.

    Raises: ImageError if it has no video, cannot be decoded, or its frames change their size; MissingExtraError.
    """
    times: list[Any] = []
    decoded, sample, size, interlaced = Decoded(path, max_pixels=max_pixels), None, (0, 0), False
    for frame in decoded:
        size = size if times else (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            changed = f"{size[0]}×{size[1]} to {frame.width}×{frame.height} at frame {len(times)}"
            raise ImageError(f"{path}: its frames change from {changed}; cut it there, or bring it to one size")
        if not len(times) & (len(times) - 1):  # the last is from the second half; the first is black in many
            sample = frame
        interlaced |= frame.interlaced_frame
        times.append(frame.pts)
    look, base, damage = decoded.look, decoded.time_base, decoded.damage
    if look is None:
        raise ImageError(f"{path} cannot be read: none of its frames can be decoded: {damage or 'it is empty'}")
    if base and None not in times:
        times = _without_jumps(times, round(JUMP_S / base), look.rate * base) if decoded.is_broadcast else times
    if not base or None in times or any(after <= before for before, after in itertools.pairwise(times)):
        first = round((times[0] or 0) * (base or 0) * look.rate)
        base, times = 1 / look.rate, list(range(first, first + len(times)))
    if not damage and decoded.duration > decoded.end + _SHORTER_S:
        damage = f"it ends after {decoded.end:.1f} of {decoded.duration:.1f} seconds"
    rgb = look.to_rgb(sample)
    clip = Clip(path=path, look=look, times=times, time_base=base, sample=rgb, damage=damage, interlaced=interlaced)
    return replace(clip, is_broadcast=decoded.is_broadcast)


def _without_jumps(times: list[int], jump: int, rate: Fraction) -> list[int]:
    """Times that go on by a frame where they go back or on by a jump, as where one broadcast follows another."""
    late, found = 0, times[:1]
    for time in times[1:]:
        if not -jump < time + late - found[-1] < jump:
            late = found[-1] + round(1 / rate) - time
        found.append(time + late)
    return found


class Decoded:
    """The frames of a clip, all that can be decoded. What else it shows is known when it is read.

    file: a path, or what :func:`opened` takes, which is called `name` in errors. look: by the first frame; None before
    it. duration: seconds, as the file says; 0 if it does not. end: of its last packet, in seconds. damage: the first
    that was found.

    Iterating raises: ImageError, also for frames of more than max_pixels.
    """

    def __init__(self, file: Any, *, name: str | None = None, max_pixels: int = sys.maxsize) -> None:
        self._file, self._name, self._max_pixels = file, name or file, max_pixels
        self.look: Look | None = None
        self.time_base, self.duration, self.end, self.damage, self.is_broadcast = _RATE, 0.0, 0.0, "", False
        self._frames = self._decoded()

    def __iter__(self) -> Iterator[Any]:
        return self._frames

    def pictures(self) -> Iterator[NDArray[Any]]:
        """The frames as RGB."""
        for frame in self:
            assert self.look is not None
            yield self.look.to_rgb(frame)

    def _check_size(self, width: int, height: int) -> None:
        if not width or not height:
            raise ImageError(f"{self._name} cannot be read: its header says that frames have {width}×{height} pixels")
        if width * height > self._max_pixels:
            larger = f"frames of {width}×{height} are too large"
            raise ImageError(f"{self._name}: {larger}; raise the limit with --max-pixels")

    def _decoded(self) -> Iterator[Any]:
        av = pyav()
        if isinstance(self._file, Piped):
            self._check_size(*self._file.size())  # before FFmpeg reads a frame of that size
        with opened(self._file, self._name) as container, av_errors(self._name):
            stream = video_of(container, self._name)
            self._check_size(stream.width, stream.height)
            stream.thread_type, self.is_broadcast = "AUTO", "mpegts" in container.format.name
            self.time_base, self.duration = stream.time_base, (container.duration or 0) / 1e6
            packets, packet = container.demux(), None
            while True:
                try:
                    packet = next(packets, None)
                    if packet is not None and packet.pts is not None:
                        self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                    if packet is not None and packet.is_corrupt and stream.frames:  # not in broadcasts, which begin so
                        self.damage = self.damage or "it breaks off"
                    if packet is not None and (packet.stream is not stream or not packet.size):
                        continue
                    frames = stream.decode(packet)
                except av.error.EOFError:
                    return
                except av.error.FFmpegError as error:
                    self.damage, frames = self.damage or str(error.strerror), []
                for frame in frames:
                    self._check_size(frame.width, frame.height)
                    self.look = self.look or Look.of(frame, stream)
                    if frame.is_corrupt:
                        self.damage = self.damage or f"frame {frame.pts} is damaged"
                    yield frame
                if packet is None:
                    return


def ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """The items, none of them None, made by a thread of its own, a few ahead. Close it: the thread ends then."""
    with ThreadPoolExecutor(1, thread_name_prefix="srflow-decode") as pool:
        made = deque(pool.submit(next, items, None) for _ in range(AHEAD))
        while (item := made.popleft().result()) is not None:
            made.append(pool.submit(next, items, None))
            yield item


def video_of(container: Any, name: Path | str) -> Any:
    """The stream of moving pictures, not of a cover. Raises: ImageError, also if there is no decoder for it."""
    cover = pyav().stream.Disposition.attached_pic
    found = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not found:
        kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ImageError(f"{name}: there are no moving pictures in this file, only {kinds}")
    if found[0].codec_context is None:
        raise ImageError(f"{name} cannot be read: its codec is not known here, or its header is damaged")
    return found[0]
