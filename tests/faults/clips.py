"""Clips of every container, codec, sound, damage and name: each becomes a clip, or ends in errors of one line."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from click.testing import CliRunner

from tests.apps.clips.clips import moving, write_clip
from tests.faults.attempts import Attempt
from tests.faults.commands import hidden_files
from tests.faults.mutation import mutated
from tests.faults.workers import is_one_line, read_in_worker
from tests.sdk.tiny_bundle import write_tiny_bundle

_PATIENCE_S = 240
_CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".y4m")
_CODECS = ("libx264", "libx265", "mpeg4", "mpeg2video", "libvpx-vp9", "libsvtav1", "ffv1", "mjpeg", "prores_ks", "png")
_FORMATS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le", "png": "rgb24"}
_SOUNDS = ("", "aac", "pcm_s16le", "pcm_u8", "libmp3lame", "ac3", "libopus", "flac", "alac", "mp2", "adpcm_ms")
_TARGETS = ("large.mp4", "large.mov", "large.mkv", "large.webm", "large.m4v")
_NAMES = (
    *("clip", "concat:a|b", "http:127.0.0.1:9?x", "file:clip", "12:30", "%03d", "a b'\"$`*", "ä 日本", "\u202egnp"),
    *("\udcff\udcfe", "x" * 200, "two\nlines", ".hidden", "pipe:0", "subfile,,start,0,end,9,,:clip", "clip.mkv"),
)


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Make clips, damage half of them, and enlarge each."""
    chance = random.Random(seed)
    write_tiny_bundle(folder / "tiny.srflow")

    def clips() -> Iterator[tuple[str, Path]]:
        for number in range(count):
            while (made := _clip(folder / f"{number:05d}", chance)) is None:  # of a container that cannot hold it
                pass
            yield made

    return read_in_worker(__name__, clips(), patience_s=_PATIENCE_S)


def _clip(place: Path, chance: random.Random) -> tuple[str, Path] | None:
    """A folder with one clip, of which the name of the output's file is made, too; and its description."""
    ending, codec = chance.choice(_CONTAINERS), chance.choice(_CODECS)
    sound, layout = chance.choice(_SOUNDS), chance.choice(("mono", "stereo", "5.1"))
    damage, count = chance.choice((None, None, None, *_DAMAGES)), chance.choice((1, 2, 9, 25))
    target, name = chance.choice(_TARGETS), chance.choice(_NAMES)
    width, height = chance.choice((16, 32, 34, 48)), chance.choice((16, 24, 26))
    if ending == ".y4m":
        codec, sound = "rawvideo", ""
    if codec == "libx265":
        width, height = 64, 64  # of smaller ones it writes beyond its memory
    how: dict[str, Any] = {"codec": codec, "pixel_format": _FORMATS.get(codec, "yuv420p"), "layout": layout}
    how |= {"options": {"x265-params": "log-level=none"} if codec == "libx265" else {}, "sound": sound or False}
    place.mkdir()
    plain = place / f"clip{ending}"
    try:
        pictures = moving(count, width=width, height=height)
        write_clip(plain, pictures, output_ts_offset=chance.choice(("0", "3600")), **how)
        whole = len(_frames(plain))
    except (ValueError, IndexError, av.error.FFmpegError):
        shutil.rmtree(place)
        return None
    plain.write_bytes(_DAMAGES[damage](plain.read_bytes(), chance) if damage else plain.read_bytes())
    plain.rename(place / f"{name}{ending}")
    (place / target).with_suffix(f"{Path(target).suffix}.{whole * (damage is None)}").touch()
    return (
        f"{place.name}: {codec}, {sound or 'silent'} {layout}, {damage or 'whole'}, {name + ending!r}, {target}",
        place,
    )


_DAMAGES: dict[Any, Any] = {
    "cut": lambda data, chance: data[: chance.randrange(len(data))],
    "zeroed": lambda data, chance: data[: (at := chance.randrange(len(data)))] + bytes(len(data) - at),
    "mutated": mutated,
    "doubled": lambda data, _: data * 2,
    "hole": lambda data, chance: data[: (at := chance.randrange(len(data)))] + bytes(200) + data[at + 200 :],
    "empty": lambda *_: b"",
}


def read(place: Path) -> str | None:
    """Enlarge the clip in a folder, and judge what came of it."""
    from srflow_apps.commands.cli import upscale

    (mark,) = place.glob("large.*.*")
    (source,) = set(place.iterdir()) - {mark}
    wanted, target = int(mark.suffix[1:]), mark.with_suffix("")
    mark.unlink()
    with contextlib.chdir(place):
        options = ["--model", "../tiny.srflow", "--device", "cpu", "--threads", "1", "--max-pixels", "100k", "--quiet"]
        result = CliRunner().invoke(upscale, [os.fsdecode(source.name), "-o", target.name, *options])
    said = [line for line in result.stderr.splitlines() if not line.startswith(("Usage: ", "Try ")) and line]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"a traceback: {type(result.exception).__name__}: {result.exception}"
    if odd := [line for line in said if not line.lower().startswith(("error: ", "warning: ")) or not is_one_line(line)]:
        return f"a line that is neither an error nor a warning: {odd[0]!r}"
    failed = [line for line in said if line.lower().startswith("error: ")]
    if bool(failed) != bool(result.exit_code):
        return f"status {result.exit_code} with {len(failed)} errors: {said}"
    if wanted and failed and result.exit_code == 1:
        return f"a whole clip failed: {failed[0]}"
    if not failed and not target.exists():
        return f"no output: {said}"
    if target.exists() and (wrong := _wrong(source, target, wanted)):
        return f"{wrong}; {said}"
    if left := [*hidden_files(place), *(path.name for path in place.glob("*.parts"))]:
        return f"left behind: {[each for each in left if each != source.name]}" if left != [source.name] else None
    shutil.rmtree(place)
    return None


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
    """The times of all frames in seconds; PyAV alone, which raises an error for one that is damaged."""
    with clip.open("rb") as file, av.open(file) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def _sound_s(clip: Path) -> float:
    with clip.open("rb") as file, av.open(file, metadata_errors="replace") as container:
        frames = container.decode(audio=0) if container.streams.audio else ()
        return sum(frame.samples / frame.sample_rate for frame in frames)
