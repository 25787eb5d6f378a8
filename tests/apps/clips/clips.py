"""Clips for tests, made and read with PyAV alone, so that the tests do not lean on what they
test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

MILLISECONDS = Fraction(1, 1000)


def moving(count: int, *, width: int = 32, height: int = 24) -> list[np.ndarray]:
    """Smooth pictures that move."""
    y, x = np.mgrid[0:height, 0:width]
    waves = (
        (np.sin((x + i) / 5), np.cos((y + i / 2) / 4), np.sin((x + y - i) / 6))
        for i in range(count)
    )
    return [np.rint(127 + 80 * np.stack(wave, -1)).astype(np.uint8) for wave in waves]


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sound: bool | str = False,
    layout: str = "mono",
    text: bool = False,
    turn: int = 0,
    chapter: str | None = None,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    output_ts_offset: str = "0",
    **context: Any,
) -> Path:
    """Write a clip of 25 frames a second, or with these times in ms. context: attributes of the
    encoder."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options={"output_ts_offset": output_ts_offset}) as output:
        output.metadata.update(metadata or {})
        if chapter is not None:
            title = {"title": chapter}
            output.set_chapters(
                [{"id": 1, "start": 0, "end": 200, "time_base": MILLISECONDS, "metadata": title}]
            )
        video = output.add_stream(
            codec, rate=25, options={"crf": "8"} if options is None else options
        )
        video.width = width
        video.height = height
        video.pix_fmt = pixel_format
        video.codec_context.time_base = MILLISECONDS
        for name, value in context.items():
            setattr(video.codec_context, name, value)
        if turn:
            video.set_display_rotation(turn)
        audio = (
            output.add_stream(sound if isinstance(sound, str) else "aac", rate=48000)
            if sound
            else None
        )
        if audio is not None:
            audio.layout = layout
        subtitles = output.add_mux_stream("subrip") if text else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(
                picture, "rgb24" if picture.dtype == np.uint8 else "rgb48le"
            )
            frame.pts = 40 * number if times is None else times[number]
            frame.time_base = MILLISECONDS
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            write_sound(output, audio, seconds=len(pictures) / 25)
        if subtitles is not None:
            packet = av.Packet(b"hello")
            packet.stream = subtitles
            packet.time_base = MILLISECONDS
            packet.pts = packet.dts = 40
            packet.duration = 80
            output.mux(packet)
    return path


def write_sound(output: Any, stream: Any, *, seconds: float) -> None:
    samples = np.arange(1024)
    for start in range(0, int(seconds * 48000), 1024):
        wave = (
            (0.3 * np.sin((samples + start) / 20))
            .astype(np.float32)[None]
            .repeat(stream.layout.nb_channels, 0)
        )
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout=stream.layout.name)
        frame.sample_rate = 48000
        frame.pts = start
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


@dataclass(frozen=True)
class Seen:
    """What a clip has. frames: hashes. pictures: RGB."""

    times: list[Fraction]
    frames: list[str]
    first: np.ndarray
    size: tuple[int, int]
    format: str
    tags: tuple[int, ...]
    aspect: Fraction | None
    comment: str
    sound: bytes
    text: bytes


def seen(path: Path) -> Seen:
    times = []
    frames = []
    first = None
    tags = ()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            assert not frame.is_corrupt
            times.append(frame.pts * frame.time_base)
            frames.append(hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()[:12])
            if first is None:
                first = frame.to_ndarray(format="rgb24")
                tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
        comment = {name.lower(): text for name, text in container.metadata.items()}.get(
            "comment", ""
        )
        size = (stream.width, stream.height)
        kind = stream.codec_context.pix_fmt
        aspect = stream.sample_aspect_ratio
    assert first is not None
    return Seen(
        times,
        frames,
        first,
        size,
        kind,
        tags,
        aspect,
        comment,
        packets(path, "audio"),
        packets(path, "subtitles"),
    )


def packets(path: Path, kind: str) -> bytes:
    """The bytes of the first stream of a kind; none without one."""
    with av.open(str(path)) as container:
        streams = getattr(container.streams, kind)
        return (
            b"".join(bytes(packet) for packet in container.demux(streams[0]) if packet.size)
            if streams
            else b""
        )
