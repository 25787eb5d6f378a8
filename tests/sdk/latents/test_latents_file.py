import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from srflow_sdk import ArgumentError, Bundle, ImageError, Latents, Upscaler
from tests.sdk.tiny_bundle import LEVELS

from .pictures import MODEL, normal_latents


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    normal_latents(log_likelihood=-1234.5678901234567).save(path)
    return path


def parts(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_what_was_saved_is_loaded_bit_for_bit(saved):
    latents = normal_latents(log_likelihood=-1234.5678901234567)
    loaded = Latents.load(str(saved))
    for level, array in latents.levels.items():
        np.testing.assert_array_equal(loaded.levels[level].view(np.uint32), array.view(np.uint32))
    assert list(loaded.levels) == [1, 2, 3]
    assert (loaded.height, loaded.width, loaded.model_sha256) == (90, 70, MODEL)
    assert loaded.log_likelihood == latents.log_likelihood
    latents.scaled(0.5).save(saved)
    assert Latents.load(saved).log_likelihood is None


def test_the_safetensors_package_reads_the_file_and_writes_what_is_read(saved, tmp_path):
    arrays = safetensors.numpy.load_file(saved)
    assert sorted(arrays) == ["level1", "level2", "level3"]
    for level, array in normal_latents().levels.items():
        np.testing.assert_array_equal(arrays[f"level{level}"], array)
    with safe_open(saved, "numpy") as file:
        metadata = file.metadata()
    numbers = {"height": "90", "width": "70", "log_likelihood": "-1234.5678901234567"}
    assert metadata == {
        "format": "srflow-latents",
        "format_version": "1",
        "model_sha256": MODEL,
        **numbers,
    }
    safetensors.numpy.save_file(
        dict(reversed(arrays.items())), tmp_path / "other.safetensors", metadata
    )
    loaded = Latents.load(tmp_path / "other.safetensors")
    assert list(loaded.levels) == [1, 2, 3]
    for level, array in loaded.levels.items():
        np.testing.assert_array_equal(array, arrays[f"level{level}"])


@pytest.mark.parametrize("precision", ["bundle", "bf16", "int8"])
@pytest.mark.parametrize("nats", [None, 1.0, 123.25])
def test_odd_values_and_the_precision_are_kept_and_values_are_aligned(saved, precision, nats):
    array = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32).reshape(4, 1, 1)
    given = {
        "height": 1,
        "width": 2,
        "model_sha256": MODEL,
        "log_likelihood": nats,
        "precision": precision,
    }
    Latents({1: array}, **given).save(saved)
    loaded = Latents.load(saved)
    np.testing.assert_array_equal(loaded.levels[1].view(np.uint32), array.view(np.uint32))
    assert (loaded.precision, loaded.scaled(0.5).precision) == (precision, precision)
    content = saved.read_bytes()
    assert struct.unpack("<Q", content[:8])[0] % 8 == 0
    assert (b"precision" in content) == (precision != "bundle"), (
        "exact latents are those of older versions"
    )


def test_places_that_cannot_be_written_are_named(tmp_path):
    latents = normal_latents()
    with pytest.raises(
        ImageError,
        match=r"b[/\\]a cannot be written: No such file or directory$",
    ):
        latents.save(tmp_path / "b" / "a")
    with pytest.raises(ImageError, match="cannot be written"):
        latents.save(tmp_path)
    with pytest.raises(ArgumentError, match=r"^path is 3; it must be the path of a file"):
        latents.save(3)
    assert list(tmp_path.iterdir()) == []


def test_a_model_accepts_its_own_latents_only(tiny_bundle, tmp_path):
    bundle = Bundle.open(tiny_bundle)
    zeros = {
        level: np.zeros((channels, 64 >> level, 64 >> level), np.float32)
        for level, channels in LEVELS.items()
    }
    mine = Latents(zeros, height=60, width=60, model_sha256=bundle.model_sha256)
    mine.save(tmp_path / "mine")
    assert set(Latents.load(tmp_path / "mine", model=bundle).levels) == set(LEVELS)
    with Upscaler(tiny_bundle) as upscaler:
        Latents.load(tmp_path / "mine", model=upscaler)
    Latents(zeros, height=60, width=60, model_sha256=MODEL).save(tmp_path / "other")
    with pytest.raises(
        ArgumentError, match=r"in .*other are of the model 0123\w+…, not of tiny \(\w+…\): "
    ):
        Latents.load(tmp_path / "other", model=bundle)


HOSTILE = {
    "no metadata": lambda h: h.pop("__metadata__"),
    "another format": lambda h: h["__metadata__"].update(format="pt"),
    "a newer version": lambda h: h["__metadata__"].update(format_version="2"),
    "a strange width": lambda h: h["__metadata__"].update(width="7\n0\x1b[31m" * 50),
    "NaN nats": lambda h: h["__metadata__"].update(log_likelihood="nan"),
    "a missing level": lambda h: h.pop("level3"),
    "level 17": lambda h: h.update(level17=h.pop("level3")),
    "another dtype": lambda h: h["level1"].update(dtype="F16"),
    "a negative shape": lambda h: h["level1"].update(shape=[-6, -48, 36]),
    "a huge shape": lambda h: h["level1"].update(shape=[6, 1 << 40, 1 << 40]),
    "a place outside": lambda h: h["level3"].update(
        data_offsets=[1 << 60, (1 << 60) + 4 * 48 * 12 * 9]
    ),
    "overlapping places": lambda h: h["level2"].update(data_offsets=[0, 4 * 12 * 24 * 18]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_lies_gives_one_line(saved, name):
    header, data = parts(saved)
    HOSTILE[name](header)
    write(saved, header, data)
    with pytest.raises(
        ImageError, match=r"a\.safetensors is not a file of latents: .*; Latents\.save"
    ) as caught:
        Latents.load(saved)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300 + len(str(saved))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8 + b"{}",
        struct.pack("<Q", 1 << 20) + b" " * (1 << 20),
        struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
        struct.pack("<Q", 60_000) + b"[" * 60_000,
    ],
)
def test_other_files_give_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(
        ImageError, match=r"a\.png is not a file of latents: .*; Latents\.save writes one$"
    ):
        Latents.load(tmp_path / "a.png")


@pytest.mark.parametrize("change", [-1, -4, -30_000, 1, 4])
def test_a_file_that_is_cut_off_or_goes_on_is_refused(saved, change):
    content = saved.read_bytes()
    saved.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(ImageError, match=r"its tensors need .* bytes and it has"):
        Latents.load(saved)


@pytest.mark.not_on_windows("links and FIFOs")
def test_links_are_followed_and_what_is_no_file_is_refused_at_once(saved, tmp_path):
    (tmp_path / "link").symlink_to(saved)
    assert Latents.load(tmp_path / "link").height == 90
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (
        ("fifo", "not a regular file"),
        ("loop", "."),
        ("none", "No such file"),
        (".", "not a regular"),
    ):
        with pytest.raises(ImageError, match=f"cannot be read: .*{why}"):
            Latents.load(tmp_path / name)
