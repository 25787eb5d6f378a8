"""Writes clips with PyAV: encodes segments, and joins them with the sound and the times of their source."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.clips.reading import AHEAD, JUMP_S, Y4M, Clip, Look, av_errors, opened, pyav, video_of
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.local_files import content_sha256, replacing, write_atomically

WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""The containers that are written, by their endings."""

QUALITY = 67
"""Of --quality: constant rate factor 17 of H.264, which is hardly told from the original."""

_CODECS = {".webm": ("libvpx-vp9", "libsvtav1"), "": ("libx264", "libopenh264", "mpeg4")}
_WORST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63, "libaom-av1": 63, "mpeg4": 31}
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


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How an output is encoded. codec: an encoder's name. quality: 1 to 100; None if the codec has none."""

    codec: str
    quality: int | None
    pixel_format: str
    look: Look

    def tried(self, target: Path) -> BytesIO:
        """A segment of one frame. Raises: ImageError if the encoder refuses it; ArgumentError if its sides are odd."""
        width, height, pixels = self.look.width, self.look.height, pyav().VideoFormat(self.pixel_format)
        if width % (8 // pixels.chroma_width(8)) or height % (8 // pixels.chroma_height(8)):
            smaller = range(width - width % 2, 0, -2)
            fits = next((side for side in smaller if (side * height / width / 2 + 0.1) % 1 < 0.2), 2)  # even, too
            raise ArgumentError(
                f"{target} would have {width}×{height} pixels, and sides must be even for {self.codec} in "
                f"{self.pixel_format}; choose another --scale or --size, such as --size {fits}x"
            )
        with self.stream(segment := BytesIO(), "matroska", f"{target} in {self.codec}") as put:
            put(np.zeros((height, width, 3), np.uint16 if self.look.deep else np.uint8))
        return segment

    @contextlib.contextmanager
    def file(
        self, target: Path, container: str = "matroska", hash_in: Path | None = None, **metadata: str
    ) -> Iterator[Callable[[Any], None]]:
        """A function that encodes a frame, H×W×3; the file appears complete, at the end. Raises: ImageError.

        hash_in: a file that gets its sha256 before that.
        """
        with av_errors(target, "cannot be written"), replacing(target) as descriptor:
            with os.fdopen(os.dup(descriptor), "wb") as file, self.stream(file, container, target, **metadata) as put:
                yield put
            os.fsync(descriptor)
            if hash_in is not None:
                with os.fdopen(os.dup(descriptor), "rb") as whole:
                    whole.seek(0)
                    write_atomically(hash_in, content_sha256(whole).encode())

    @contextlib.contextmanager
    def stream(
        self, file: Any, container: str, name: Path | str, **metadata: str
    ) -> Iterator[Callable[[NDArray[Any] | None], None]]:
        """The same into an open file. container: FFmpeg's name of it. name: for errors. Another thread encodes."""
        number, waiting, sink = 0, deque[Future[None]](), _Sink(file)
        strict = {"strict": "unofficial"} if container == Y4M else {}  # deep ones
        with (
            av_errors(name, "cannot be written"),
            contextlib.ExitStack() as at_end,
            pyav().open(sink, "w", format=container, options=strict) as output,
            ThreadPoolExecutor(1, thread_name_prefix="srflow-encode") as pool,
        ):
            at_end.callback(sink.check)
            output.metadata.update(metadata)
            video = output.add_stream(self.codec, rate=self.look.rate)
            self._set(video.codec_context)

            def encode(rgb: NDArray[Any] | None) -> None:
                nonlocal number
                frame = None if rgb is None else self.look.to_yuv(rgb, self.pixel_format)
                if frame is not None:
                    frame.pts, frame.time_base = number, 1 / self.look.rate
                for packet in video.encode(frame):
                    if not packet.pts - _REORDERED <= packet.dts <= packet.pts:  # of libx265, for one or two frames
                        packet.dts = packet.pts
                    output.mux(packet)
                sink.check()
                number += 1

            def put(rgb: NDArray[Any] | None) -> None:
                waiting.append(pool.submit(encode, rgb))
                while len(waiting) > (AHEAD if rgb is not None else 0):
                    waiting.popleft().result()

            yield put
            put(None)

    def _set(self, context: Any) -> None:
        look, options = self.look, dict(_OPTIONS.get(self.codec, {}))
        context.width, context.height, context.pix_fmt = look.width, look.height, self.pixel_format
        context.sample_aspect_ratio, context.thread_count = look.aspect, _THREADS
        look.tag(context)
        if self.quality is not None:
            factor = round(_WORST[self.codec] * (100 - self.quality) / 100)
            if self.codec == "mpeg4":
                context.qmin = context.qmax = max(factor, 1)
            else:
                options["crf"], context.bit_rate = str(factor), 0
        context.options = options


class _Sink:
    """A file for PyAV, which would print errors of writing, and raise others: the first is kept, for :meth:`check`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        try:
            if self._error is None:
                self._file.write(data)
        except OSError as error:
            self._error = error
        return len(data)

    def check(self) -> None:
        """Raises: OSError if something was not written."""
        if self._error is not None:
            raise self._error


def chosen_encoding(target: Path, look: Look, *, codec: str | None, quality: int | None) -> Encoding:
    """The encoding of a file: by the codec asked for, or the first of those that suit its container.

    look: of the output. Raises: ArgumentError.
    """
    av, ending = pyav(), target.suffix.lower()
    if ending not in WRITTEN:
        raise ArgumentError(f"{target}: clips are written as {', '.join(WRITTEN)}; end the name so, or pipe -o -")
    names = [codec] if codec is not None else _CODECS.get(ending, _CODECS[""])
    found = next((name for name in names if _formats(name)), None)
    if found is None:
        raise ArgumentError(f"this PyAV has no encoder {names[0]} for YUV; leave out --codec for the usual one")
    name = av.Codec(found, "w").name  # h264 is libx264
    for kind in (WRITTEN[ending], "matroska"):  # of the parts
        with av.open(BytesIO(), "w", format=kind) as container:
            if not {av.Codec(name, "w").canonical_name, name} & set(container.supported_codecs):
                raise ArgumentError(
                    f"{target}: {ending[1:]} files cannot hold {name}; choose another --codec or ending"
                )
    if quality is not None and name not in _WORST:
        raise ArgumentError(f"--quality is not for the codec {name}, but for {', '.join(_WORST)}")
    depths = ("10le", "12le", "16le", "") if look.deep else ("",)
    wanted = (f"yuv{chroma}p{depth}" for depth in depths for chroma in (look.chroma, "420", "422", "444"))
    pixel_format = next((each for each in wanted if each in _formats(name)), _formats(name)[0])
    chosen = (QUALITY if quality is None else quality) if name in _WORST else None
    return Encoding(codec=name, quality=chosen, pixel_format=pixel_format, look=look)


def record_in(target: Path) -> str:
    """The record of :func:`join` in a clip; empty if there is none."""
    with contextlib.suppress(ImageError), opened(target) as container, av_errors(target):
        said = {name.lower(): text for name, text in container.metadata.items()}
        return str(said.get(_COMMENT, "")).rpartition("\n")[2]
    return ""


Kept = Mapping[int, tuple[str, str] | None]
"""How streams of sound and text of a source get into an output, by their numbers: an encoder and a layout of channels.

None copies a stream. One that is left out is not in it.
"""


def kept_streams(clip: Clip, target: Path, encoding: Encoding) -> tuple[Kept, list[str]]:
    """The streams that the output will have beside its pictures: a beginning is written to memory to see what fits.

    Returns also what is lost or becomes otherwise, one a line. Raises: ArgumentError if the pictures do not fit.
    """
    ending, segment, begun = target.suffix[1:], encoding.tried(target), replace(clip, times=clip.times[:1])
    kept: dict[int, tuple[str, str] | None] = {}

    def fits(kept: Kept) -> bool:
        with contextlib.suppress(pyav().error.FFmpegError, ValueError):
            return _muxed(BytesIO(), [segment], begun, target, kept, most=_TRIED)[0].keys() >= kept.keys()
        return False

    if not fits({}):
        raise ArgumentError(f"{target}: {ending} files cannot hold such {encoding.codec}; end the name in .mkv")
    with opened(segment) as made:
        plain = clip.look.aspect == 1 or made.streams.video[0].codec_context.sample_aspect_ratio
    lost = [] if plain else ["the shape of its pixels is left out; the codecs libx264, libx265 and mpeg4 keep it"]
    with opened(clip.path) as source:
        for stream in source.streams:
            if stream is video_of(source, clip.path):
                continue
            ways: list[tuple[str, str] | None] = [None] * (stream.type in ("audio", "subtitle"))
            if stream.type == "audio" and stream.codec_context is not None:
                codec = "libopus" if ending.lower() == "webm" else "aac"
                ways += [(codec, stream.layout.name), (codec, "stereo")]
            found = next(([way] for way in ways if fits({stream.index: way})), [])
            if found:
                kept[stream.index] = found[0]
            if found != [None]:
                becomes = f"becomes {found[0][0].removeprefix('lib')}" if found and found[0] else "is left out"
                why = f"{ending} files cannot hold it here; .mkv holds most sound and text"
                lost.append(f"{stream.type} stream {stream.index} {becomes}: {why}")
    return kept, lost


def join(segments: Sequence[Path], clip: Clip, target: Path, *, record: str, kept: Kept) -> list[str]:
    """Write the clip, which appears complete, without encoding its pictures again.

    record: how it was made. Returns what was lost, one a line. Raises: ImageError.
    """
    with av_errors(target, "cannot be written"), replacing(target) as descriptor:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            _, dropped = _muxed(file, segments, clip, target, kept, record=record)
        os.fsync(descriptor)
    return [f"{count} damaged packets of stream {number} are left out" for number, count in dropped.items()]


def _muxed(
    file: Any,
    segments: Sequence[Any],
    clip: Clip,
    target: Path,
    kept: Kept,
    *,
    record: str = "",
    most: int | None = None,
) -> tuple[Counter[int], Counter[int]]:
    """Write a clip into an open file, with so many packets of each other stream; how many were written and dropped."""
    av, written, dropped = pyav(), Counter[int](), Counter[int]()
    with (
        contextlib.ExitStack() as at_end,
        opened(clip.path) as source,
        opened(segments[0], target) as first,
        av.open(sink := _Sink(file), "w", format=WRITTEN[target.suffix.lower()]) as output,
    ):
        at_end.callback(sink.check)
        main, pictures = video_of(source, clip.path), output.add_stream_from_template(first.streams[0], opaque=True)
        pictures.time_base, pictures.disposition = clip.time_base, main.disposition
        said = {key: text for key, text in main.metadata.items() if key in ("language", "title")}
        pictures.metadata.update(said)
        if pictures.codec_context.name == "hevc" and target.suffix.lower() != ".mkv":
            pictures.codec_context.codec_tag = "hvc1"  # or Apple's players refuse it
        copies = {number: _copy(output, source.streams[number], way) for number, way in kept.items()}
        output.metadata.update(said := {name.lower(): text for name, text in source.metadata.items()})
        output.metadata[_COMMENT] = "\n".join(filter(None, (said.get(_COMMENT), record)))
        output.set_chapters(source.chapters())
        # A broadcast's times begin anywhere; a player of another container would wait for them.
        begin = Fraction(source.start_time or 0, av.time_base) * clip.is_broadcast
        output.start_encoding()
        # Merged by time, or all pictures would wait in memory for the sound.
        others = _others(source, clip, copies, kept, begin, dropped, most)
        for packet in heapq.merge(_pictures(segments, clip, pictures, begin), others, key=_time):
            number = [None, *copies][packet.stream_index]
            try:
                output.mux(packet)
            except av.error.FFmpegError:
                sink.check()
                if number is None:
                    raise
                dropped[number] += 1
            else:
                written[number] += number is not None
            sink.check()
    return written, dropped


def _copy(output: Any, stream: Any, way: tuple[str, str] | None) -> Any:
    """A stream of the output for one of the source. Raises: ValueError, FFmpegError if there cannot be one."""
    if way is None:
        copy = output.add_stream_from_template(stream, opaque=True)
    else:
        rates = pyav().Codec(way[0], "w").audio_rates
        copy = output.add_stream(way[0], rate=stream.rate if not rates or stream.rate in rates else 48_000)
        copy.layout = way[1]
        copy.bit_rate = _SOUND * copy.layout.nb_channels
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _pictures(segments: Sequence[Any], clip: Clip, stream: Any, begin: Fraction) -> Iterator[Any]:
    """The packets of all segments with the source's times since begin, in seconds.

    Decoding times are those of the frames themselves, moved back by as many frames as the encoder reorders: so they
    increase, and none is later than its frame is shown. Raises: ImageError if there is not a packet for each frame.
    """
    shown = [time - round(begin / clip.time_base) for time in clip.times]
    usual = max(round(1 / clip.look.rate / clip.time_base), 1)
    places: list[int] = []  # of every packet: the number of its frame
    for segment in segments:
        times = [packet.pts for packet in _packets(segment)]
        ranks = {time: rank for rank, time in enumerate(sorted(times), start=len(places))}
        places += [ranks[time] for time in times]
    if len(places) != len(shown):
        raise ImageError(f"{segments[0].parent} has {len(places)} of {len(shown)} frames; remove it, and begin anew")
    delay = max(number - place for number, place in enumerate(places))
    decoded = [shown[0] - usual * back for back in range(delay, 0, -1)] + shown
    ends = [*shown[1:], shown[-1] + usual]
    packets = (packet for segment in segments for packet in _packets(segment))
    for packet, place, time in zip(packets, places, decoded[: len(places)], strict=True):
        packet.stream, packet.time_base = stream, clip.time_base
        packet.pts, packet.dts, packet.duration = shown[place], time, ends[place] - shown[place]
        yield packet


def _packets(segment: Any) -> Iterator[Any]:
    with opened(segment) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)


def _others(
    source: Any,
    clip: Clip,
    copies: dict[int, Any],
    kept: Kept,
    begin: Fraction,
    dropped: Counter[int],
    most: int | None,
) -> Iterator[Any]:
    """The packets of the other streams with their times since begin, as they are, or encoded anew.

    Times go on as those of the pictures do. dropped: counts what cannot be decoded.
    """
    error = pyav().error.FFmpegError
    late: dict[int, int] = {}
    last: dict[int, tuple[int, int]] = {}  # decoding time and duration
    packets = itertools.islice(source.demux([source.streams[number] for number in copies]) if copies else (), most)
    with contextlib.suppress(error):  # of a file that breaks off, as was said
        for packet in packets:
            number, usual = packet.stream.index, packet.duration
            if (time := packet.dts if packet.dts is not None else packet.pts) is not None:
                time -= late.setdefault(number, round(begin / packet.time_base))
                if number in last:
                    before, step = last[number]
                    usual = usual or step or time - before
                    jumps = abs(time - before) * packet.time_base > JUMP_S
                    jumps &= clip.is_broadcast and packet.stream.type == "audio"  # text pauses for longer
                    if jumps or time <= before:
                        on = before + max(usual if jumps else 1, 1)
                        late[number], time = late[number] - (on - time) * jumps, on
                packet.pts = time if packet.pts is None else max(packet.pts - late[number], time)
                packet.dts, packet.duration = time, usual
                last[number] = time, usual
            if kept[number] is not None:
                try:
                    frames = packet.decode()
                except error:
                    dropped[number] += 1
                    continue
                yield from (each for frame in frames for each in copies[number].encode(frame))
            elif time is not None:
                packet.stream = copies[number]
                yield packet
    for number in (number for number, way in kept.items() if way is not None):
        yield from copies[number].encode(None)


def _time(packet: Any) -> Fraction:
    time: Fraction = (packet.dts if packet.dts is not None else packet.pts) * packet.time_base
    return time


def _formats(codec: str) -> list[str]:
    """The formats of YUV that an encoder takes; none if there is no such encoder."""
    try:
        return [each.name for each in pyav().Codec(codec, "w").video_formats or [] if each.name.startswith("yuv4")]
    except ValueError:
        return []
