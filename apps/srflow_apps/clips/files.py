"""Clips in files, by PyAV: their frames as RGB, upright, in the order in which they are shown;
encoding; joining parts.

Parts of an output are encoded apart, then joined with the sound and the times of the source.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError, ImageError, MissingExtraError
from srflow_sdk.system.local_files import open_regular, replacing

CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".y4m")
"""The endings of the clips that are read."""

# no playlists
_READ = {"format_whitelist": "mov,matroska,avi,mpegts,yuv4mpegpipe", "protocol_whitelist": "file"}
_UNTAGGED = 2
_LIMITED = 1
_FULL = 2
_BT709 = 1
_SMPTE170M = 6
_SCALERS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # libswscale's matrices by H.273's
_RATE = Fraction(25)  # where nothing says
_SHORTER_S = 0.3  # than a file says, and yet whole

WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""The containers that are written, by their endings."""

QUALITY = 67
"""Of --quality: constant rate factor 17 of H.264, which is hardly told from the original."""

_WORST = {
    "libx264": 51,
    "libx265": 51,
    "libvpx-vp9": 63,
    "libsvtav1": 63,
    "libaom-av1": 63,
    "mpeg4": 31,
}
_OPTIONS = {  # frames that wait in memory
    "libx264": {"rc-lookahead": "12"},
    "libx265": {"x265-params": "log-level=error:rc-lookahead=12"},
    "libvpx-vp9": {"row-mt": "1", "cpu-used": "2", "lag-in-frames": "12"},
}
_THREADS = 4  # the same everywhere, since they change the bits of some encoders
_REORDERED = 64  # frames, more than any encoder holds back
_COMMENT = "comment"
_TRIED = 8  # packets of a stream, to see whether a container takes it
_SOUND = 96_000  # bits a second for each channel that is encoded anew

Put = Callable[[NDArray[Any] | None], None]
"""Encodes a frame, H×W×3; for None, what an encoder still holds."""

Kept = Mapping[int, tuple[str, str] | None]
"""By the numbers of a source's streams of sound and text: an encoder and its layout of channels, or
None for a copy."""


def import_pyav() -> Any:
    """The module `av`. Raises: MissingExtraError."""
    os.environ.setdefault("SVT_LOG", "1")  # or that encoder fills standard error
    try:
        import av

        if int(av.__version__.partition(".")[0]) != 18:  # PyAV 19 opens clips by other options
            raise ImportError(f"this is PyAV {av.__version__}")
    except ImportError as error:
        need = (
            'clips need PyAV 18, and Python 3.11 or newer; run: pip install -U "srflow-sdk[video]"'
        )
        raise MissingExtraError(f"{need} ({error})") from error
    return av


@contextlib.contextmanager
def open_container(file: Path | BytesIO, name: Path | str = "") -> Iterator[Any]:
    """The container in a file, called `name` in errors. Raises: ImageError, at once for pipes or
    folders.
    """
    with contextlib.ExitStack() as stack:
        with av_errors(name or str(file)):
            if isinstance(file, Path):
                open_regular(file).close()
            # A path may be a URL; and a file in memory is read from its beginning each time.
            where: Any = (
                f"file:{file.absolute()}" if isinstance(file, Path) else BytesIO(file.getvalue())
            )
            container = stack.enter_context(
                import_pyav().open(where, metadata_errors="replace", options=_READ)
            )
        yield container


@contextlib.contextmanager
def av_errors(path: Path | str, doing: str = "cannot be read") -> Iterator[None]:
    """Turn FFmpeg's errors in the block into ImageErrors of one line."""
    av = import_pyav()  # now, as a generator may be closed when Python ends
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        whys = {
            errno.ENOSPC: "the disk is full",
            errno.EBUSY: "its header or its first frame is damaged",
        }
        raise ImageError(
            f"{path} {doing}: {whys.get(error.errno or 0, error.strerror or str(error))}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class FrameFormat:
    """The size, rate and colours of the frames of a clip, or of an output.

    They are upright after so many quarter turns to the left.

    Attributes:
        aspect: Of a pixel, width over height.
        deep: More than 8 bits.
        format: Of YUV, by FFmpeg's name.
        primaries, transfer, matrix, range: Of ITU-T H.273; the matrix is never unspecified, or a
            player would guess another one for a larger picture.
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
    def of(cls, frame: Any, stream: Any) -> FrameFormat:
        """By a frame; what that does not say, by its stream. Raises: ImageError."""
        pixels = frame.format
        context = stream.codec_context
        turns = round(frame.rotation / 90) % 4
        aspect = stream.sample_aspect_ratio or Fraction(1)
        sides = (frame.width, frame.height)

        def tag(name: str) -> int:
            numbers = (int(getattr(each, name)) for each in (frame, context))
            return next((number for number in numbers if number not in (0, _UNTAGGED)), _UNTAGGED)

        matrix = tag("colorspace")
        if matrix == _UNTAGGED:  # as players take it
            hd = pixels.is_rgb or frame.width >= 1280 or frame.height > 576
            matrix = _BT709 if hd else _SMPTE170M
        if matrix not in _SCALERS:
            raise ImageError(
                f"its colour matrix, number {matrix} of H.273, is not supported; convert it to "
                "BT.709"
            )
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
        tagged.color_primaries = self.primaries
        tagged.color_trc = self.transfer
        tagged.colorspace = self.matrix
        tagged.color_range = self.range

    def to_rgb(self, frame: Any) -> NDArray[Any]:
        """A frame as H×W×3, uint8, or uint16 if it is deep; upright."""
        of = (
            {}
            if frame.format.is_rgb
            else {"src_colorspace": _SCALERS[self.matrix], "src_color_range": self.range}
        )
        kind = "rgb48le" if self.deep else "rgb24"
        rgb = frame.reformat(
            format=kind, dst_color_range=_FULL, interpolation=_precise_interpolation(), **of
        )
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), self.turns))

    def to_yuv(self, rgb: NDArray[Any], pixel_format: str) -> Any:
        """A frame in a format of YUV, by the same matrix and range."""
        frame = import_pyav().VideoFrame.from_ndarray(
            rgb, "rgb24" if rgb.dtype == np.uint8 else "rgb48le"
        )
        frame.color_range = _FULL
        to = {"dst_colorspace": _SCALERS[self.matrix], "dst_color_range": self.range}
        yuv = frame.reformat(format=pixel_format, interpolation=_precise_interpolation(), **to)
        self.tag(yuv)
        return yuv


def _precise_interpolation() -> Any:
    how = import_pyav().video.reformatter.Interpolation
    return how.BICUBIC | how.ACCURATE_RND | how.FULL_CHR_H_INT | how.FULL_CHR_H_INP | how.BITEXACT


class Clip:
    """A clip in a file. damage: if it has any.

    After :meth:`look_through`, also: times, of every frame that can be decoded, in units of
    time_base; sample: one of them, RGB; interlaced: some are; late: seconds that the times are
    earlier than in the file, if that is a broadcast, whose times begin anywhere.
    """

    sample: NDArray[Any]
    time_base: Fraction
    late: Fraction

    def __init__(self, path: Path, *, max_pixels: int) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self._frame_format: FrameFormat | None = None
        self.times = list[int]()
        self.damage = ""
        self.interlaced = False
        self._duration = self._end = 0.0  # in seconds: as the file says, and of its last packet

    @property
    def frame_format(self) -> FrameFormat:
        """By the first frame. Raises: ImageError if none was decoded."""
        if self._frame_format is None:
            why = self.damage or "it is empty"
            raise ImageError(
                f"{self.path} cannot be read: none of its frames can be decoded: {why}"
            )
        return self._frame_format

    def look_through(self) -> None:
        """Decode it once: how many frames there are, when each is shown, and whether the file is
        whole.
        """
        times = list[Any]()
        first = None
        sample = None
        for frame in self.decode_frames():
            first = first or frame
            if (frame.width, frame.height) != (first.width, first.height):
                sizes = (
                    f"{first.width}×{first.height} to {frame.width}×{frame.height} at frame "
                    f"{len(times)}"
                )
                raise ImageError(
                    f"{self.path}: its frames change from {sizes}; cut it there, or bring it to "
                    "one size"
                )
            # the last is from the second half; the first is black in many
            if not len(times) & (len(times) - 1):
                sample = frame
            self.interlaced |= frame.interlaced_frame
            times.append(frame.pts)
        rate = self.frame_format.rate
        self.sample = self.frame_format.to_rgb(sample)
        base = self._base
        if (
            not base
            or None in times
            or not all(after > before for before, after in itertools.pairwise(times))
        ):
            start = round((times[0] or 0) * (base or 0) * rate)
            base = 1 / rate
            times = list(range(start, start + len(times)))
        if not self.damage and self._duration > self._end + _SHORTER_S:
            self.damage = f"it ends after {self._end:.1f} of {self._duration:.1f} seconds"
        self.times = [time - round(self.late / base) for time in times]
        self.time_base = base

    def pictures(self) -> Iterator[NDArray[Any]]:
        """The frames as RGB. Raises: ImageError."""
        yield from (self.frame_format.to_rgb(frame) for frame in self.decode_frames())

    def decode_frames(self) -> Iterator[Any]:
        """The frames that can be decoded. Raises: ImageError, also for frames of more than
        max_pixels.
        """
        av = import_pyav()
        with open_container(self.path) as container, av_errors(self.path):
            stream = find_pictures(container, self.path)
            self._check_size(stream.width, stream.height)
            stream.thread_type = "AUTO"
            broadcast = "mpegts" in container.format.name
            self.late = Fraction(container.start_time or 0, av.time_base) * broadcast
            self._base = stream.time_base
            self._duration = (container.duration or 0) / 1e6
            packets = container.demux()
            packet = None
            while True:
                try:
                    packet = next(packets, None)
                    if packet is not None and packet.pts is not None:
                        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                        self._end = max(self._end, end)
                    # most of these begin so
                    if packet is not None and packet.is_corrupt and not broadcast:
                        self.damage = self.damage or "it breaks off"
                    if packet is not None and (packet.stream is not stream or not packet.size):
                        continue
                    frames = stream.decode(packet)
                except av.error.EOFError:
                    return
                except av.error.FFmpegError as error:
                    self.damage = self.damage or str(error.strerror)
                    frames = []
                for frame in frames:
                    self._check_size(frame.width, frame.height)
                    self._frame_format = self._frame_format or FrameFormat.of(frame, stream)
                    if frame.is_corrupt:
                        self.damage = self.damage or f"frame {frame.pts} is damaged"
                    yield frame
                if packet is None:
                    return

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            larger = f"frames of {width}×{height} are too large"
            raise ImageError(f"{self.path}: {larger}; raise the limit with --max-pixels")


def find_pictures(container: Any, name: Path | str) -> Any:
    """The stream of moving pictures, not of a cover. Raises: ImageError, also if there is no
    decoder for it.
    """
    cover = import_pyav().stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise ImageError(f"{name}: there are no moving pictures in this file, only {kinds}")
    if streams[0].codec_context is None:
        raise ImageError(
            f"{name} cannot be read: its codec is not known here, or its header is damaged"
        )
    return streams[0]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How an output is encoded. codec: an encoder's name. quality: 1 to 100; None if the codec has
    none.
    """

    codec: str
    quality: int | None
    pixel_format: str
    frame_format: FrameFormat

    def encode_one_frame(self, target: Path) -> BytesIO:
        """A segment of one frame. Raises: ImageError if the encoder refuses it; ArgumentError if
        its sides are odd.
        """
        width = self.frame_format.width
        height = self.frame_format.height
        pixels = import_pyav().VideoFormat(self.pixel_format)
        if width % (8 // pixels.chroma_width(8)) or height % (8 // pixels.chroma_height(8)):
            even = f"sides must be even for {self.codec} in {self.pixel_format}"
            raise ArgumentError(
                f"{target} would have {width}×{height} pixels, and {even}; choose another --size"
            )
        with self.write_part(segment := BytesIO(), f"{target} in {self.codec}") as put:
            put(np.zeros((height, width, 3), np.uint16 if self.frame_format.deep else np.uint8))
        return segment

    @contextlib.contextmanager
    def write_part(self, target: Path | BytesIO, name: Path | str) -> Iterator[Put]:
        """Write a part, to memory or as a file, which appears complete, at the end. Raises:
        ImageError.
        """
        file = (
            open_for_writing(target) if isinstance(target, Path) else contextlib.nullcontext(target)
        )
        with (
            av_errors(name, "cannot be written"),
            file as place,
            import_pyav().open(place, "w", format="matroska") as output,
        ):
            yield (put := self._add_encoder(output))
            put(None)

    def _add_encoder(self, output: Any) -> Put:
        number = 0
        video = output.add_stream(self.codec, rate=self.frame_format.rate)
        frame_format = self.frame_format
        context = video.codec_context
        options = dict(_OPTIONS.get(self.codec, {}))
        context.width = frame_format.width
        context.height = frame_format.height
        context.pix_fmt = self.pixel_format
        context.sample_aspect_ratio = frame_format.aspect
        context.thread_count = _THREADS
        frame_format.tag(context)
        if self.quality is not None:
            factor = round(_WORST[self.codec] * (100 - self.quality) / 100)
            context.bit_rate = 0
            bounds = ("qmin", "qmax") if self.codec == "mpeg4" else ("crf",)
            options |= dict.fromkeys(bounds, str(max(factor, len(bounds) - 1)))
        context.options = options

        def encode(rgb: NDArray[Any] | None) -> None:
            nonlocal number
            frame = None if rgb is None else frame_format.to_yuv(rgb, self.pixel_format)
            if frame is not None:
                frame.pts = number
                frame.time_base = 1 / frame_format.rate
            for packet in video.encode(frame):
                # of libx265, for one or two frames
                if not packet.pts - _REORDERED <= packet.dts <= packet.pts:
                    packet.dts = packet.pts
                output.mux(packet)
            number += 1

        return encode


@contextlib.contextmanager
def open_for_writing(target: Path) -> Iterator[Any]:
    """A name or a file for FFmpeg to write, which becomes the target at the end of the block.
    Raises: OSError.
    """
    with replacing(target) as descriptor:
        with os.fdopen(
            os.dup(descriptor), "wb"
        ) as file:  # for Windows, where FFmpeg cannot open a descriptor
            yield f"file:/dev/fd/{descriptor}" if os.name == "posix" else file
        os.fsync(descriptor)


def choose_encoding(
    target: Path, frame_format: FrameFormat, *, codec: str | None, quality: int | None
) -> Encoding:
    """The encoding of a file: by the codec asked for, or the first of those that suit its
    container.

    frame_format: of the output. Raises: ArgumentError.
    """
    av = import_pyav()
    ending = target.suffix.lower()
    if ending not in WRITTEN:
        raise ArgumentError(f"{target}: clips are written as {', '.join(WRITTEN)}; end the name so")
    asked = codec or ("libvpx-vp9" if ending == ".webm" else "libx264")
    if not _list_yuv_formats(asked):
        raise ArgumentError(
            f"this PyAV has no encoder {asked} for YUV; name another with --codec, such as mpeg4"
        )
    name = av.Codec(asked, "w").name  # h264 is libx264
    if quality is not None and name not in _WORST:
        raise ArgumentError(f"--quality is not for the codec {name}, but for {', '.join(_WORST)}")
    best, _ = av.codec.codec.find_best_pix_fmt_of_list(_list_yuv_formats(name), frame_format.format)
    chosen = (QUALITY if quality is None else quality) if name in _WORST else None
    return Encoding(codec=name, quality=chosen, pixel_format=best.name, frame_format=frame_format)


def _list_yuv_formats(codec: str) -> list[str]:
    """The formats of YUV that an encoder takes; none if there is no such encoder."""
    try:
        return [
            each.name
            for each in import_pyav().Codec(codec, "w").video_formats or []
            if each.name.startswith("yuv4")
        ]
    except ValueError:
        return []


def read_record(target: Path) -> dict[str, Any]:
    """How a clip says that it was made; empty if it does not."""
    with (
        contextlib.suppress(ImageError, ValueError),
        open_container(target) as container,
        av_errors(target),
    ):
        said = {name.lower(): text for name, text in container.metadata.items()}
        return dict(json.loads(str(said.get(_COMMENT, "")).rpartition("\n")[2]))
    return {}


def choose_streams(clip: Clip, target: Path, encoding: Encoding) -> tuple[Kept, list[str]]:
    """The source's streams of sound and text that fit the output: a beginning is written to memory
    to see that.

    Returns also what is lost or becomes otherwise, one a line. Raises: ArgumentError if the
    pictures do not fit.
    """
    # Many names: every way is tried for every stream.
    ending = target.suffix[1:]
    segment = encoding.encode_one_frame(target)
    kept = dict[int, tuple[str, str] | None]()
    sound = "libopus" if ending.lower() == "webm" else "aac"

    def fits(kept: Kept) -> bool:
        with contextlib.suppress(import_pyav().error.FFmpegError, ValueError):
            return join(clip, [segment], target, kept, most=_TRIED) >= kept.keys()
        return False

    if not fits({}):
        raise ArgumentError(
            f"{target}: {ending} files cannot hold such {encoding.codec}; end the name in .mkv"
        )
    lost = list[str]()
    with open_container(clip.path) as source:
        pictures = find_pictures(source, clip.path)
        for number, stream in (
            (each.index, each) for each in source.streams if each is not pictures
        ):
            ways: list[tuple[str, str] | None] = [None] * (stream.type in ("audio", "subtitle"))
            if stream.type == "audio" and stream.codec_context is not None:
                ways += [(sound, f"{stream.channels}c"), (sound, "stereo")]
            kept.update(next(({number: way} for way in ways if fits({number: way})), {}))
            if kept.get(number, ways) is not None:
                becomes = (
                    f"becomes {sound.removeprefix('lib')}" if number in kept else "is left out"
                )
                why = f"{ending} files cannot hold it here; .mkv holds most sound and text"
                lost.append(f"{stream.type} stream {number} {becomes}: {why}")
    return kept, lost


def join(
    clip: Clip,
    segments: Sequence[Any],
    target: Path,
    kept: Kept,
    *,
    record: str = "",
    most: int | None = None,
) -> set[int]:
    """Write a clip, which appears complete, of pictures in segments, not encoded again, and the
    rest of its source.

    segments: paths, or files in memory. most: write to memory the first picture alone, and so many
    packets of the other streams. Returns which of these have any. Raises: ImageError; with `most`
    FFmpegError, ValueError, too.
    """
    # Many names: two containers that are read and one that is written, open at once.
    av = import_pyav()
    filled = set[int]()
    container = WRITTEN[target.suffix.lower()]
    with (
        av_errors(target, "cannot be written") if most is None else contextlib.nullcontext(),
        open_for_writing(target) if most is None else contextlib.nullcontext(BytesIO()) as file,
        open_container(clip.path) as source,
        open_container(segments[0], target) as first,
        av.open(file, "w", format=container) as output,
    ):
        main = find_pictures(source, clip.path)
        pictures = output.add_stream_from_template(first.streams[0], opaque=True)
        pictures.time_base = clip.time_base
        pictures.disposition = main.disposition
        pictures.metadata.update(
            {key: main.metadata[key] for key in ("language", "title") if key in main.metadata}
        )
        if pictures.codec_context.name == "hevc" and container != "matroska":
            pictures.codec_context.codec_tag = "hvc1"  # or Apple's players refuse it
        copies = {
            number: _add_copy(output, source.streams[number], way) for number, way in kept.items()
        }
        output.metadata.update(
            said := {name.lower(): text for name, text in source.metadata.items()}
        )
        output.metadata[_COMMENT] = "\n".join(filter(None, (said.get(_COMMENT), record)))
        output.set_chapters(source.chapters())
        output.start_encoding()
        drawn = _time_pictures(clip, clip.times[: None if most is None else 1], segments, pictures)
        # after the pictures, stream 0
        others = _time_others(source, clip.late, kept, copies, most)
        numbers = [*copies]
        # Merged by time, or all pictures would wait in memory for the sound.
        for packet in heapq.merge(drawn, others, key=lambda packet: packet.dts * packet.time_base):
            try:
                output.mux(packet)
                filled.update(numbers[packet.stream_index - 1 : packet.stream_index])
            except av.error.InvalidDataError:  # a damaged packet of sound, as broadcasts have them
                if not packet.stream_index:
                    raise
    return filled


def _time_pictures(
    clip: Clip, shown: Sequence[int], segments: Sequence[Any], stream: Any
) -> Iterator[Any]:
    """The packets of all segments with these times. Raises: ImageError without them all.

    Decoding times are those of the frames, moved back by as many as the encoder reorders: so they
        increase.
    """
    # Many names: the times and places of packets, before and after they are put in order.
    usual = max(round(1 / clip.frame_format.rate / clip.time_base), 1)
    places: list[int] = []  # of every packet: the number of its frame
    for segment in segments:
        times = [packet.pts for packet in _read_packets(segment)]
        ranks = {time: rank for rank, time in enumerate(sorted(times), start=len(places))}
        places += [ranks[time] for time in times]
    if len(places) != len(shown):
        there = f"{len(places)} of {len(shown)} frames"
        raise ImageError(f"{segments[0].parent} has {there}; remove it, and begin anew")
    delay = max(number - place for number, place in enumerate(places))
    decode_times = [*(shown[0] - usual * back for back in range(delay, 0, -1)), *shown]
    ends = [*shown[1:], shown[-1] + usual]
    packets = (packet for segment in segments for packet in _read_packets(segment))
    for packet, place, time in zip(packets, places, decode_times[: len(places)], strict=True):
        packet.stream = stream
        packet.time_base = clip.time_base
        packet.pts = shown[place]
        packet.dts = time
        packet.duration = ends[place] - shown[place]
        yield packet


def _time_others(
    source: Any, late: Fraction, kept: Kept, copies: Mapping[int, Any], most: int | None
) -> Iterator[Any]:
    """The packets of the other streams, `late` seconds earlier, with times that grow, as they are
    or encoded anew.
    """
    last: dict[int, int] = {}
    # of a file that breaks off, as was said
    with contextlib.suppress(import_pyav().error.FFmpegError):
        streams = [source.streams[number] for number in copies]
        for packet in itertools.islice(source.demux(streams) if streams else (), most):
            number = packet.stream.index
            before = round(late / packet.time_base)
            if (time := packet.pts if packet.dts is None else packet.dts) is not None:
                packet.dts = last[number] = max(
                    time - before, last.get(number, time - before - 1) + 1
                )
                packet.pts = (
                    packet.dts if packet.pts is None else max(packet.pts - before, packet.dts)
                )
            if kept[number] is not None:
                with contextlib.suppress(import_pyav().error.FFmpegError):  # of a damaged packet
                    yield from (
                        each for frame in packet.decode() for each in copies[number].encode(frame)
                    )
            elif time is not None:
                packet.stream = copies[number]
                yield packet
    for number in (number for number, way in kept.items() if way is not None):
        yield from copies[number].encode(None)


def _add_copy(output: Any, stream: Any, way: tuple[str, str] | None) -> Any:
    """A stream of the output for one of the source. Raises: ValueError, FFmpegError if there cannot
    be one.
    """
    if way is None:
        copy = output.add_stream_from_template(stream, opaque=True)
    else:
        rates = import_pyav().Codec(way[0], "w").audio_rates
        copy = output.add_stream(
            way[0], rate=stream.rate if not rates or stream.rate in rates else 48_000
        )
        copy.layout = way[1]
        copy.bit_rate = _SOUND * copy.layout.nb_channels
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _read_packets(segment: Any) -> Iterator[Any]:
    with open_container(segment) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)
