"""Writes clips with PyAV: encodes their parts, and joins them with the sound and the times of their source."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_apps.clips.reading import Clip, Look, av_errors, opened, pyav, video_of
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.system.local_files import replacing

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

Put = Callable[[NDArray[Any] | None], None]
"""Encodes a frame, H×W×3; for None, what an encoder still holds."""

Kept = Mapping[int, str | None]
"""By the numbers of a source's streams of sound and text: the encoder of what is encoded anew, or None for a copy."""


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
            even = f"sides must be even for {self.codec} in {self.pixel_format}"
            fix = f"choose another --scale or --size, such as --size {fits}x"
            raise ArgumentError(f"{target} would have {width}×{height} pixels, and {even}; {fix}")
        segment, refused = BytesIO(), av_errors(f"{target} in {self.codec}", "cannot be written")
        with refused, pyav().open(segment, "w", format="matroska") as output:
            put = self._encoder(output)
            put(np.zeros((height, width, 3), np.uint16 if self.look.deep else np.uint8))
            put(None)
        return segment

    @contextlib.contextmanager
    def file(self, target: Path) -> Iterator[Put]:
        """Write a part, a file which appears complete, at the end. Raises: ImageError."""
        file, errors = written(target), av_errors(target, "cannot be written")
        with errors, file as path, pyav().open(path, "w", format="matroska") as output:
            yield (put := self._encoder(output))
            put(None)

    def _encoder(self, output: Any) -> Put:
        number, video = 0, output.add_stream(self.codec, rate=self.look.rate)
        look, context, options = self.look, video.codec_context, dict(_OPTIONS.get(self.codec, {}))
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

        def encode(rgb: NDArray[Any] | None) -> None:
            nonlocal number
            frame = None if rgb is None else look.to_yuv(rgb, self.pixel_format)
            if frame is not None:
                frame.pts, frame.time_base = number, 1 / look.rate
            for packet in video.encode(frame):
                if not packet.pts - _REORDERED <= packet.dts <= packet.pts:  # of libx265, for one or two frames
                    packet.dts = packet.pts
                output.mux(packet)
            number += 1

        return encode


@contextlib.contextmanager
def written(target: Path) -> Iterator[Any]:
    """A name or a file for FFmpeg to write, which becomes the target at the end of the block. Raises: OSError."""
    with replacing(target) as descriptor:
        with os.fdopen(os.dup(descriptor), "wb") as file:  # for Windows, where FFmpeg cannot open a descriptor
            yield f"file:/dev/fd/{descriptor}" if os.name == "posix" else file
        os.fsync(descriptor)


def chosen_encoding(target: Path, look: Look, *, codec: str | None, quality: int | None) -> Encoding:
    """The encoding of a file: by the codec asked for, or the first of those that suit its container.

    look: of the output. Raises: ArgumentError.
    """
    av, ending = pyav(), target.suffix.lower()
    if ending not in WRITTEN:
        raise ArgumentError(f"{target}: clips are written as {', '.join(WRITTEN)}; end the name so")
    names = [codec] if codec is not None else _CODECS.get(ending, _CODECS[""])
    found = next((name for name in names if _formats(name)), None)
    if found is None:
        raise ArgumentError(f"this PyAV has no encoder {names[0]} for YUV; leave out --codec for the usual one")
    name = av.Codec(found, "w").name  # h264 is libx264
    if quality is not None and name not in _WORST:
        raise ArgumentError(f"--quality is not for the codec {name}, but for {', '.join(_WORST)}")
    best, _ = av.codec.codec.find_best_pix_fmt_of_list(_formats(name), look.format)
    chosen = (QUALITY if quality is None else quality) if name in _WORST else None
    return Encoding(codec=name, quality=chosen, pixel_format=best.name, look=look)


def _formats(codec: str) -> list[str]:
    """The formats of YUV that an encoder takes; none if there is no such encoder."""
    try:
        return [each.name for each in pyav().Codec(codec, "w").video_formats or [] if each.name.startswith("yuv4")]
    except ValueError:
        return []


def record_in(target: Path) -> dict[str, Any]:
    """How a clip says that it was made; empty if it does not."""
    with contextlib.suppress(ImageError, ValueError), opened(target) as container, av_errors(target):
        said = {name.lower(): text for name, text in container.metadata.items()}
        return dict(json.loads(str(said.get(_COMMENT, "")).rpartition("\n")[2]))
    return {}


def kept_streams(clip: Clip, target: Path, encoding: Encoding) -> tuple[Kept, list[str]]:
    """The source's streams of sound and text that fit the output: a beginning is written to memory to see that.

    Returns also what is lost or becomes otherwise, one a line. Raises: ArgumentError if the pictures do not fit.
    """
    ending, segment, kept = target.suffix[1:], encoding.tried(target), dict[int, str | None]()
    sound = "libopus" if ending.lower() == "webm" else "aac"

    def fits(kept: Kept) -> bool:
        with contextlib.suppress(pyav().error.FFmpegError, ValueError):
            return Joined(clip, clip.times[:1], target, kept).write(BytesIO(), [segment], most=_TRIED) >= kept.keys()
        return False

    if not fits({}):
        raise ArgumentError(f"{target}: {ending} files cannot hold such {encoding.codec}; end the name in .mkv")
    with opened(segment) as made:
        plain = encoding.look.aspect == 1 or made.streams.video[0].codec_context.sample_aspect_ratio
    lost = [] if plain else ["the shape of its pixels is left out; the codecs libx264, libx265 and mpeg4 keep it"]
    with opened(clip.path) as source:
        pictures = video_of(source, clip.path)
        for number, stream in ((each.index, each) for each in source.streams if each is not pictures):
            ways: list[str | None] = [None] * (stream.type in ("audio", "subtitle"))
            ways += [sound] * (stream.type == "audio" and stream.codec_context is not None)
            kept.update(next(({number: way} for way in ways if fits({number: way})), {}))
            if kept.get(number, sound) is not None:
                becomes = f"becomes {sound.removeprefix('lib')}" if number in kept else "is left out"
                why = f"{ending} files cannot hold it here; .mkv holds most sound and text"
                lost.append(f"{stream.type} stream {number} {becomes}: {why}")
    return kept, lost


class Joined:
    """A clip whose pictures are in segments; the rest comes from its source."""

    def __init__(self, clip: Clip, times: Sequence[int], target: Path, kept: Kept, record: str = "") -> None:
        self._clip, self._times, self._target, self._kept, self._record = clip, times, target, kept, record

    def to_file(self, segments: Sequence[Path]) -> None:
        """Write the target, which appears complete, without encoding the pictures again. Raises: ImageError."""
        with av_errors(self._target, "cannot be written"), written(self._target) as path:
            self.write(path, segments)

    def write(self, file: str | BytesIO, segments: Sequence[Any], *, most: int | None = None) -> set[int]:
        """Write it, and `most` packets of the other streams; returns which of these have any.

        Raises: ImageError, FFmpegError, ValueError.
        """
        av, clip, found, container = pyav(), self._clip, set[int](), WRITTEN[self._target.suffix.lower()]
        with (
            opened(clip.path) as source,
            opened(segments[0], self._target) as first,
            av.open(file, "w", format=container) as output,
        ):
            main, pictures = video_of(source, clip.path), output.add_stream_from_template(first.streams[0], opaque=True)
            pictures.time_base, pictures.disposition = clip.time_base, main.disposition
            pictures.metadata.update({key: main.metadata[key] for key in ("language", "title") if key in main.metadata})
            if pictures.codec_context.name == "hevc" and container != "matroska":
                pictures.codec_context.codec_tag = "hvc1"  # or Apple's players refuse it
            copies = {number: _copy(output, source.streams[number], codec) for number, codec in self._kept.items()}
            output.metadata.update(said := {name.lower(): text for name, text in source.metadata.items()})
            output.metadata[_COMMENT] = "\n".join(filter(None, (said.get(_COMMENT), self._record)))
            output.set_chapters(source.chapters())
            output.start_encoding()
            numbers = [*copies]  # after the pictures, which are stream 0
            # Merged by time, or all pictures would wait in memory for the sound.
            for packet in heapq.merge(
                self._pictures(segments, pictures),
                self._others(source, copies, most),
                key=lambda packet: packet.dts * packet.time_base,
            ):
                output.mux(packet)
                found.update(numbers[packet.stream_index - 1 : packet.stream_index])
        return found

    def _pictures(self, segments: Sequence[Any], stream: Any) -> Iterator[Any]:
        """The packets of all segments with the source's times. Raises: ImageError without them all.

        Decoding times are those of the frames, moved back by as many as the encoder reorders: so they increase.
        """
        base, shown = self._clip.time_base, list(self._times)
        usual = max(round(1 / self._clip.look.rate / base), 1)
        places: list[int] = []  # of every packet: the number of its frame
        for segment in segments:
            times = [packet.pts for packet in _packets(segment)]
            ranks = {time: rank for rank, time in enumerate(sorted(times), start=len(places))}
            places += [ranks[time] for time in times]
        if len(places) != len(shown):
            there = f"{len(places)} of {len(shown)} frames"
            raise ImageError(f"{segments[0].parent} has {there}; remove it, and begin anew")
        delay = max(number - place for number, place in enumerate(places))
        decoded = [shown[0] - usual * back for back in range(delay, 0, -1)] + shown
        ends = [*shown[1:], shown[-1] + usual]
        packets = (packet for segment in segments for packet in _packets(segment))
        for packet, place, time in zip(packets, places, decoded[: len(places)], strict=True):
            packet.stream, packet.time_base = stream, base
            packet.pts, packet.dts, packet.duration = shown[place], time, ends[place] - shown[place]
            yield packet

    def _others(self, source: Any, copies: Mapping[int, Any], most: int | None) -> Iterator[Any]:
        """The packets of the other streams, whose times grow, as they are or encoded anew."""
        last: dict[int, int] = {}
        with contextlib.suppress(pyav().error.FFmpegError):  # of a file that breaks off, as was said
            streams = [source.streams[number] for number in copies]
            for packet in itertools.islice(source.demux(streams) if streams else (), most):
                number = packet.stream.index
                if self._kept[number] is not None:
                    with contextlib.suppress(pyav().error.FFmpegError):  # of a damaged packet
                        yield from (each for frame in packet.decode() for each in copies[number].encode(frame))
                elif (time := packet.pts if packet.dts is None else packet.dts) is not None:
                    packet.dts = last[number] = max(time, last.get(number, time - 1) + 1)
                    packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                    packet.stream = copies[number]
                    yield packet
        for number in (number for number, codec in self._kept.items() if codec is not None):
            yield from copies[number].encode(None)


def _copy(output: Any, stream: Any, codec: str | None) -> Any:
    """A stream of the output for one of the source. Raises: ValueError, FFmpegError if there cannot be one."""
    if codec is None:
        copy = output.add_stream_from_template(stream, opaque=True)
    else:
        rates = pyav().Codec(codec, "w").audio_rates
        copy = output.add_stream(codec, rate=stream.rate if not rates or stream.rate in rates else 48_000)
        copy.layout = "stereo" if stream.channels > 1 else "mono"
        copy.bit_rate = _SOUND * copy.layout.nb_channels
    copy.metadata.update(stream.metadata)
    copy.disposition = stream.disposition
    return copy


def _packets(segment: Any) -> Iterator[Any]:
    with opened(segment) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)
