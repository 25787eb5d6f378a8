from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import Result

from srflow_apps.clips.files import read_record
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.upscaler import Upscaler

from .clips import moving, seen, write_clip

Run = Callable[..., Result]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model only repeats pixels, so that what comes out can be told."""
    monkeypatch.setattr(
        FrameUpscaler, "draw", lambda _self, frame, _number: frame.repeat(4, 0).repeat(4, 1)
    )


def made(run: Run, *arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_a_clip_keeps_its_times_sound_subtitles_and_metadata(run: Run, tmp_path: Path) -> None:
    times = [0, 40, 95, 130, 131, 190, 260, 300, 390, 400]
    source = write_clip(
        tmp_path / "clip.mkv",
        moving(10),
        times=times,
        sound=True,
        text=True,
        chapter="one",
        metadata={"title": "A", "comment": "mine"},
    )
    result = made(run, "clip.mkv")
    assert result.stdout == "clip_x4.mkv\n"
    before = seen(source)
    after = seen(tmp_path / "clip_x4.mkv")
    assert after.times == before.times
    assert len(set(after.frames)) == 10
    assert after.size == (128, 96)
    assert (after.sound, after.text) == (before.sound, before.text)
    assert len(before.sound) > 100
    assert b"hello" in before.text
    first, record = after.comment.split("\n")
    assert first == "mine"
    assert json.loads(record)["latents"] == "motion"
    assert not list(tmp_path.glob("*.parts"))
    with av.open(str(tmp_path / "clip_x4.mkv")) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one"]


def test_frames_are_those_of_the_sdk(run: Run, tmp_path: Path, upscaler: Upscaler) -> None:
    """Lossless there and back, but for 8 bits of YUV."""
    write_clip(tmp_path / "clip.mkv", moving(3), codec="ffv1", pixel_format="yuv444p", options={})
    made(
        run, "clip.mkv", "-o", "large.mkv", "--codec", "ffv1", "--seed", "5", "--latents", "screen"
    )
    drawer = FrameUpscaler(upscaler, latents="screen", seed=5)
    with av.open(str(tmp_path / "clip.mkv")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(tmp_path / "large.mkv")) as container:
        found = [
            frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)
        ]
    for number, picture in enumerate(pictures):
        assert np.abs(found[number] - drawer.draw(picture, number)).mean() < 3


@pytest.mark.usefixtures("plain")
def test_another_decoder_shows_it_upright(run: Run, tmp_path: Path) -> None:
    """OpenCV has an FFmpeg of its own, and turns frames by the matrix of the container."""
    source = write_clip(
        tmp_path / "clip.mp4", moving(4), turn=90, sound=True, sample_aspect_ratio=Fraction(4, 3)
    )
    made(run, "clip.mp4", "--tau", "0")
    shown = [
        cv2.VideoCapture(str(path)).read()[1] for path in (source, tmp_path / "clip_x4_tau0.mp4")
    ]
    assert shown[0].shape == (32, 24, 3)
    assert shown[1].shape == (128, 96, 3)
    small = cv2.resize(shown[1], (24, 32), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - shown[0]).mean() < 6
    assert np.abs(small[::-1] - shown[0]).mean() > 20
    assert seen(tmp_path / "clip_x4_tau0.mp4").aspect == Fraction(3, 4)


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ({"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}, (9, 16, 9, 1)),
        ({"color_primaries": 5, "color_trc": 6, "colorspace": 5, "color_range": 2}, (5, 6, 5, 2)),
        # untagged and small: BT.601, and said so, since the output may be large
        ({}, (2, 2, 6, 1)),
    ],
)
@pytest.mark.usefixtures("plain")
def test_colours_keep_their_tags_and_their_values(
    run: Run, tmp_path: Path, given: dict, tags: tuple
) -> None:
    flat = [np.full((24, 32, 3), (200, 60, 30), np.uint8)] * 2
    write_clip(tmp_path / "clip.mp4", flat, **given)
    made(run, "clip.mp4", "--tau", "0", "--codec", "libx264", "--quality", "95")
    after = seen(tmp_path / "clip_x4_tau0.mp4")
    before = seen(tmp_path / "clip.mp4")
    assert after.tags == tags
    for plane in range(3):
        assert abs(int(after.first[50, 60, plane]) - int(before.first[12, 15, plane])) <= 4


@pytest.mark.usefixtures("plain")
def test_ten_bits_stay_ten(run: Run, tmp_path: Path) -> None:
    ramp = np.repeat(
        np.repeat(np.linspace(20000, 22000, 32).astype(np.uint16)[None, :, None], 24, 0), 3, 2
    )
    write_clip(tmp_path / "clip.mkv", [ramp] * 2, pixel_format="yuv420p10le")
    made(run, "clip.mkv", "--tau", "0")
    after = seen(tmp_path / "clip_x4_tau0.mkv")
    assert after.format == "yuv420p10le"
    with av.open(str(tmp_path / "clip_x4_tau0.mkv")) as container:
        luma = next(container.decode(video=0)).to_ndarray()[:96]
    assert len(np.unique(luma[48])) > 12  # 8 bits have 7 in this range


def test_webm_gets_vp9_and_says_what_it_cannot_hold(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mkv", moving(3), sound=True, text=True)
    result = made(run, "clip.mkv", "-o", "large.webm")
    assert "libvpx-vp9" in result.stderr
    assert (
        "warning: clip.mkv: audio stream 1 becomes opus: webm files cannot hold it" in result.stderr
    )
    assert (
        "warning: clip.mkv: subtitle stream 2 is left out: webm files cannot hold it"
        in result.stderr
    )
    assert len(seen(tmp_path / "large.webm").frames) == 3


@pytest.mark.parametrize(
    ("name", "sound", "target", "becomes"),
    [
        ("clip.avi", "pcm_s16le", "large.mp4", "aac"),
        ("clip.mkv", "ac3", "large.webm", "opus"),
        ("clip.mkv", "flac", "large.mp4", "flac"),
    ],
)
@pytest.mark.usefixtures("plain")
def test_sound_that_a_container_cannot_hold_is_encoded_anew(
    run: Run, tmp_path: Path, name: str, sound: str, target: str, becomes: str
) -> None:
    source = write_clip(
        tmp_path / name, moving(30), sound=sound, layout="stereo", codec="mpeg4", options={}
    )
    result = made(run, name, "-o", target)
    assert (f"audio stream 1 becomes {becomes}: " in result.stderr) == (becomes != sound)
    if becomes == sound:
        assert seen(tmp_path / target).sound == seen(source).sound != b""
    else:
        assert heard(tmp_path / target) == pytest.approx(heard(source), rel=0.1)


@pytest.mark.parametrize(
    ("sound", "target"),
    [("pcm_s16le", "large.mp4"), ("ac3", "large.webm"), ("wavpack", "large.mp4")],
)
@pytest.mark.usefixtures("plain")
def test_sound_that_is_encoded_anew_keeps_its_channels_where_the_encoder_has_them(
    run: Run, tmp_path: Path, sound: str, target: str
) -> None:
    write_clip(tmp_path / "clip.mkv", moving(5), sound=sound, layout="5.1(side)")
    made(run, "clip.mkv", "-o", target)
    with av.open(str(tmp_path / target)) as container:
        assert container.streams.audio[0].layout.name == "5.1"


@pytest.mark.usefixtures("plain")
def test_a_broadcast_begins_at_zero(run: Run, tmp_path: Path) -> None:
    """Its times begin anywhere, and a player would wait for them."""
    source = write_clip(tmp_path / "clip.ts", moving(3), sound=True, output_ts_offset="3600")
    made(run, "clip.ts", "-o", "large.mkv")
    before = seen(source)
    after = seen(tmp_path / "large.mkv")
    late = [float(old - new) for old, new in zip(before.times, after.times, strict=True)]
    assert min(late) > 3599
    assert max(late) - min(late) < 0.002
    assert after.times[0] < 0.1
    assert after.sound


@pytest.mark.usefixtures("plain")
def test_a_damaged_packet_of_sound_is_left_out(run: Run, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.ts", moving(50), sound=True)
    with av.open(str(source)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    broken = bytearray(source.read_bytes())
    at = broken.index(b"\xff\xf1", places[len(places) // 2])  # where a frame of ADTS begins
    broken[at : at + 2] = b"\0\0"
    (tmp_path / "clip.ts").write_bytes(broken)
    made(run, "clip.ts", "-o", "large.mp4")
    assert heard(tmp_path / "large.mp4")[0] > 1


def heard(path: Path) -> tuple[float, float]:
    """The seconds of sound, and its loudness."""
    with av.open(str(path)) as container:
        mono = av.AudioResampler(format="flt", layout="mono")
        frames = list(container.decode(audio=0))
        samples = np.concatenate(
            [one.to_ndarray()[0] for frame in frames for one in mono.resample(frame)]
        )
        return sum(frame.samples / frame.sample_rate for frame in frames), float(samples.std())


@pytest.mark.usefixtures("plain")
def test_an_avi_becomes_a_file_that_holds_its_sound(run: Run, tmp_path: Path) -> None:
    source = write_clip(
        tmp_path / "clip.avi", moving(5), sound="pcm_s16le", codec="mpeg4", options={}
    )
    assert made(run, "clip.avi").stdout == "clip_x4.mkv\n"
    assert seen(tmp_path / "clip_x4.mkv").sound == seen(source).sound != b""


def test_a_container_that_cannot_hold_the_codec_is_refused_before_anything_is_drawn(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    monkeypatch.setattr(FrameUpscaler, "draw", None)
    result = run("clip.mp4", "-o", "large.mov", "--codec", "libvpx-vp9")
    assert result.exit_code == 2
    assert "mov files cannot hold such libvpx-vp9; end the name in .mkv" in result.stderr


def test_a_codec_may_be_called_otherwise_or_be_of_other_bits(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    assert "libx265, quality 67" in made(run, "clip.mp4", "--codec", "hevc").stderr
    # libx265 makes up decoding times of so few
    assert len(seen(tmp_path / "clip_x4.mp4").times) == 2
    made(run, "clip.mp4", "-o", "large.mov", "--codec", "prores_ks")
    assert seen(tmp_path / "large.mov").format == "yuv422p10le"


@pytest.mark.parametrize(
    ("scale", "model", "said"), [("2", "x2-small", "x2-small ("), ("6", "x8-small", "(192×144")]
)
def test_the_scale_chooses_a_clip_s_model(
    five_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: str,
    model: str,
    said: str,
) -> None:
    from click.testing import CliRunner

    from srflow_apps.commands import cli

    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", moving(2))
    arguments = [
        "clip.mp4",
        "--latents",
        "fresh",
        "--scale",
        scale,
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    result = CliRunner().invoke(cli.upscale, arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(said) == 1
    assert read_record(tmp_path / f"clip_x{scale}.mp4")["model"] == model


def test_several_clips_go_into_a_folder_and_a_bad_one_does_not_stop_the_others(
    run: Run, tmp_path: Path
) -> None:
    write_clip(tmp_path / "one.mkv", moving(2))
    (tmp_path / "two.mp4").write_bytes(b"not a clip at all, by any means")
    write_clip(tmp_path / "three.mp4", moving(2))
    result = run("one.mkv", "two.mp4", "three.mp4", "-o", "large")
    assert result.exit_code == 1
    assert result.stdout == "large/one.mkv\nlarge/three.mp4\n"
    assert "error: two.mp4 cannot be read: Invalid data" in result.stderr


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(3))
    before = sorted(tmp_path.iterdir())
    made(run, "clip.mp4", "--dry-run", "-o", "new/")
    mistyped = run("clip.mp4", "-o", "nwe/large.mp4")
    assert (mistyped.exit_code, "there is no folder nwe" in mistyped.stderr) == (1, True)
    result = made(run, "clip.mp4", "--dry-run")
    assert (
        "dry run, nothing was written: clip.mp4: 3 frames -> clip_x4.mp4 (128×96, libx264, quality "
        "67)" in result.stdout
    )
    assert sorted(tmp_path.iterdir()) == before


def test_a_lower_quality_makes_a_smaller_file(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(4))
    made(run, "clip.mp4", "-o", "small.mp4", "--quality", "10")
    made(run, "clip.mp4", "-o", "large.mp4", "--quality", "95")
    assert (tmp_path / "small.mp4").stat().st_size * 2 < (tmp_path / "large.mp4").stat().st_size
