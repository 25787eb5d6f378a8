"""Clips of every container, codec, sound, damage and name: each becomes a clip, or ends in errors
of one line."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from tests.apps.clips.clips import moving, write_clip
from tests.faults.commands import ON_CPU, errors_of, hidden_files, loss_of, run_command
from tests.faults.names import NAMES
from tests.sdk.tiny_bundle import write_tiny_bundle

_CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m")
_CODECS = (
    "libx264",
    "libx265",
    "mpeg4",
    "mpeg2video",
    "libvpx-vp9",
    "libsvtav1",
    "ffv1",
    "mjpeg",
    "prores_ks",
    "png",
)
_FORMATS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le", "png": "rgb24"}
_SOUNDS = (
    "",
    "aac",
    "pcm_s16le",
    "pcm_u8",
    "libmp3lame",
    "ac3",
    "libopus",
    "flac",
    "alac",
    "mp2",
    "adpcm_ms",
)
_TARGETS = ("large.mp4", "large.mov", "large.mkv", "large.webm", "large.m4v")
_NAMES = (*NAMES, "pipe:0", "subfile,,start,0,end,9,,:clip", "clip.mkv", ".hidden")
_DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda data, at: data[:at],
    "zeroed": lambda data, at: data[:at] + bytes(len(data) - at),
    "doubled": lambda data, _: data * 2,
    "holed": lambda data, at: data[:at] + bytes(200) + data[at + 200 :],
    "empty": lambda *_: b"",
}


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
    """Make clips, damage half of them, and enlarge each."""
    chance = random.Random(seed)
    write_tiny_bundle(folder / "tiny.srflow")
    for number in range(count):
        place = folder / f"{number:05d}"
        while (made := _clip(place, chance)) is None:  # of a container that cannot hold it
            shutil.rmtree(place)
        source, wanted, what = made
        target = place / chance.choice(_TARGETS)
        loss = _loss(source, target, wanted)
        yield f"{place.name}: {what}, to {target.name}", loss
        if loss is None:
            shutil.rmtree(place)


def _clip(place: Path, chance: random.Random) -> tuple[Path, int, str] | None:
    """A clip in a new folder, its number of frames, 0 if it is damaged, and its description."""
    ending = chance.choice(_CONTAINERS)
    codec = chance.choice(_CODECS)
    sound = chance.choice(_SOUNDS)
    layout = chance.choice(("mono", "stereo", "5.1"))
    damage = chance.choice((None, None, None, *_DAMAGES))
    count = chance.choice((1, 2, 9, 25))
    width = chance.choice((16, 32, 34, 48))
    height = chance.choice((16, 24, 26))
    if ending == ".y4m":
        codec = "rawvideo"
        sound = ""
    if codec == "libx265":
        # Of smaller ones it writes beyond its memory
        width = 64
        height = 64
    how: dict[str, Any] = {
        "codec": codec,
        "pixel_format": _FORMATS.get(codec, "yuv420p"),
        "layout": layout,
    }
    how |= {
        "options": {"x265-params": "log-level=none"} if codec == "libx265" else {},
        "sound": sound or False,
    }
    place.mkdir()
    plain = place / f"clip{ending}"
    try:
        pictures = moving(count, width=width, height=height)
        write_clip(plain, pictures, **how)
        whole = len(_frames(plain))
    except (ValueError, IndexError, av.error.FFmpegError):
        return None
    data = plain.read_bytes()
    if damage:
        plain.write_bytes(_DAMAGES[damage](data, chance.randrange(len(data))))
    source = plain.rename(place / f"{chance.choice(_NAMES)}{ending}")
    what = f"{codec}, {sound or 'silent'} {layout}, {damage or 'whole'}, {source.name!r}"
    return source, whole * (damage is None), what


def _loss(source: Path, target: Path, wanted: int) -> str | None:
    place = source.parent
    options = [*ON_CPU, "--max-pixels", "100k", "--quiet"]
    command = ["-o", target.name, "--model", "../tiny.srflow", *options, "--", source.name]
    ended = run_command("srflow-upscale", command, folder=place)
    failed = errors_of(ended)
    if loss := loss_of(ended):
        return loss
    if wanted and ended.status == 1:
        return f"a whole clip failed: {failed[0]}"
    if bool(failed) != bool(ended.status) or (not failed and not target.exists()):
        return f"status {ended.status} with {len(failed)} errors, {target.exists() = }"
    if target.exists() and (wrong := _wrong(source, target, wanted)):
        return f"{wrong}; {failed}"
    left = {*hidden_files(place), *(path.name for path in place.glob("*.parts"))} - {source.name}
    return f"left behind: {left}" if left else None


def _wrong(source: Path, target: Path, wanted: int) -> str | None:
    times = _frames(target)
    if not times or (wanted and len(times) != wanted):
        return f"{len(times)} frames of {wanted or 'some'}"
    if any(after <= before for before, after in itertools.pairwise(times)):
        return "times that do not increase"
    if wanted and abs(_sound_s(source) - _sound_s(target)) > 0.1:
        return f"{_sound_s(target):.2f} s of sound, of {_sound_s(source):.2f}"
    return None


def _frames(clip: Path) -> list[float]:
    """The times of all frames in seconds; PyAV alone, which raises an error for one that is
    damaged."""
    with clip.open("rb") as file, av.open(file) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def _sound_s(clip: Path) -> float:
    with clip.open("rb") as file, av.open(file, metadata_errors="replace") as container:
        frames = container.decode(audio=0) if container.streams.audio else ()
        return sum(frame.samples / frame.sample_rate for frame in frames)
