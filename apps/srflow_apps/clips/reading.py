"""Reads clips with PyAV: what a file has, and its frames as RGB, upright, in the order in which they are shown."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError, MissingExtraError
from srflow_sdk.system.local_files import open_regular

CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m")
"""The endings of the clips that are read."""

_READ = {"format_whitelist": "mov,matroska,avi,yuv4mpegpipe", "protocol_whitelist": "file"}  # no playlists
_UNTAGGED, _LIMITED, _FULL = 2, 1, 2
_BT709, _SMPTE170M = 1, 6
_SCALERS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # libswscale's matrices by H.273's
_RATE = Fraction(25)  # where nothing says
_SHORTER_S = 0.3  # than a file says, and yet whole


def is_clip(path: Path) -> bool:
    """True if the name is a clip's."""
    return path.suffix.lower() in CLIPS


def pyav() -> Any:
    """The module `av`. Raises: MissingExtraError."""
    os.environ.setdefault("SVT_LOG", "1")  # or that encoder fills standard error
    try:
        import av

        if int(av.__version__.partition(".")[0]) < 18:
            raise ImportError(f"this is PyAV {av.__version__}")
    except ImportError as error:
        need = 'clips need PyAV 18 and Python 3.11, or newer; run: pip install -U "srflow-sdk[video]"'
        raise MissingExtraError(f"{need} ({error})") from error
    return av


@contextlib.contextmanager
def opened(file: Path | BytesIO, name: Path | str = "") -> Iterator[Any]:
    """The container in a file, called `name` in errors. Raises: ImageError, at once for pipes or folders."""
    with contextlib.ExitStack() as stack:
        with av_errors(name or str(file)):
            if isinstance(file, Path):
                open_regular(file).close()
            # A path may be a URL; and a file in memory is read from its beginning each time.
            where: Any = f"file:{file.absolute()}" if isinstance(file, Path) else BytesIO(file.getvalue())
            container = stack.enter_context(pyav().open(where, metadata_errors="replace", options=_READ))
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


@dataclass(frozen=True, kw_only=True)
class Look:
    """The looks of a clip's frames, of an output's, too; upright, after so many quarter turns to the left.

    aspect: of a pixel, width over height. deep: more than 8 bits. format: of YUV, by FFmpeg's name. primaries,
    transfer, matrix, range: of ITU-T H.273; the matrix is never unspecified, or a player would guess another one for a
    larger picture.
    """

    width: int
    height: int
    turns: int
    aspect: Fraction
    deep: bool
    format: str
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

        def tag(name: str) -> int:
            found = (int(getattr(each, name)) for each in (frame, context))
            return next((number for number in found if number not in (0, _UNTAGGED)), _UNTAGGED)

        matrix = tag("colorspace")
        if matrix == _UNTAGGED:  # as players take it
            hd = pixels.is_rgb or frame.width >= 1280 or frame.height > 576
            matrix = _BT709 if hd else _SMPTE170M
        if matrix not in _SCALERS:
            raise ImageError(f"its colour matrix, number {matrix} of H.273, is not supported; convert it to BT.709")
        full = _FULL in (frame.color_range, context.color_range) or pixels.name.startswith("yuvj")
        deep = max(part.bits for part in pixels.components) > 8
        return cls(
            width=sides[turns % 2],
            height=sides[1 - turns % 2],
            turns=turns,
            aspect=1 / aspect if turns % 2 else aspect,
            deep=deep,
            format=f"yuv420p{'10le' * deep}" if pixels.is_rgb else pixels.name,
            rate=stream.average_rate or stream.guessed_rate or _RATE,
            primaries=tag("color_primaries"),
            transfer=tag("color_trc"),
            matrix=matrix,
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


class Clip:
    """A clip in a file. damage: if it has any.

    After :meth:`look_through`, also: times, of every frame that can be decoded, in units of time_base; sample: one of
    them, RGB; interlaced: some are.
    """

    sample: NDArray[Any]
    time_base: Fraction

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        self.path, self._max_pixels = path, max_pixels
        self._look: Look | None = None
        self.times, self.damage = list[int](), ""
        self.interlaced = False
        self._duration = self._end = 0.0  # in seconds: as the file says, and of its last packet

    @property
    def look(self) -> Look:
        """By the first frame. Raises: ImageError if none was decoded."""
        if self._look is None:
            why = self.damage or "it is empty"
            raise ImageError(f"{self.path} cannot be read: none of its frames can be decoded: {why}")
        return self._look

    def look_through(self) -> None:
        """Decode it once: how many frames there are, when each is shown, and whether the file is whole."""
        times, first, sample = list[Any](), None, None
        for frame in self.decoded():
            first = first or frame
            if (frame.width, frame.height) != (first.width, first.height):
                sizes = f"{first.width}×{first.height} to {frame.width}×{frame.height} at frame {len(times)}"
                raise ImageError(f"{self.path}: its frames change from {sizes}; cut it there, or bring it to one size")
            if not len(times) & (len(times) - 1):  # the last is from the second half; the first is black in many
                sample = frame
            self.interlaced |= frame.interlaced_frame
            times.append(frame.pts)
        rate, self.sample = self.look.rate, self.look.to_rgb(sample)
        base = self._base
        if not base or None in times or not all(after > before for before, after in itertools.pairwise(times)):
            start = round((times[0] or 0) * (base or 0) * rate)
            base, times = 1 / rate, list(range(start, start + len(times)))
        if not self.damage and self._duration > self._end + _SHORTER_S:
            self.damage = f"it ends after {self._end:.1f} of {self._duration:.1f} seconds"
        self.times, self.time_base = times, base

    def pictures(self) -> Iterator[NDArray[Any]]:
        """The frames as RGB. Raises: ImageError."""
        yield from (self.look.to_rgb(frame) for frame in self.decoded())

    def decoded(self) -> Iterator[Any]:
        """The frames that can be decoded. Raises: ImageError, also for frames of more than max_pixels."""
        av = pyav()
        with opened(self.path) as container, av_errors(self.path):
            stream = video_of(container, self.path)
            self._check_size(stream.width, stream.height)
            stream.thread_type = "AUTO"
            self._base, self._duration = stream.time_base, (container.duration or 0) / 1e6
            packets, packet = container.demux(), None
            while True:
                try:
                    packet = next(packets, None)
                    if packet is not None and packet.pts is not None:
                        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        self._end = max(self._end, end)
                    if packet is not None and packet.is_corrupt:
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
                    self._look = self._look or Look.of(frame, stream)
                    if frame.is_corrupt:
                        self.damage = self.damage or f"frame {frame.pts} is damaged"
                    yield frame
                if packet is None:
                    return

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            larger = f"frames of {width}×{height} are too large"
            raise ImageError(f"{self.path}: {larger}; raise the limit with --max-pixels")


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
