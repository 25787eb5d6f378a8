import threading

import numpy as np
import pytest

from srflow_sdk.drawing.finishing import lr_psnr
from srflow_sdk.drawing.low_resolution import RowBuffer
from srflow_sdk.errors import ArgumentError, CancelledError, DeviceError, ImageError, NonFiniteError
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import write_tiny_bundle


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_of_floats_keeps_them_or_their_sixteen_bits(tiled, tmp_path, photo):
    pixels = photo.astype(np.float32) / 255
    write_image(tmp_path / "lr.tif", pixels)
    expected = tiled.upscale(pixels, seed=2)
    tiled.upscale_file(tmp_path / "lr.tif", tmp_path / "sr.tif", seed=2)
    np.testing.assert_array_equal(read_image(tmp_path / "sr.tif").pixels, expected)
    tiled.upscale_file(tmp_path / "lr.tif", tmp_path / "sr.png", seed=2)
    sixteen = np.rint(expected * 65535).astype(np.uint16)
    np.testing.assert_array_equal(read_image(tmp_path / "sr.png").pixels, sixteen)


def test_every_target_holds_its_sample_and_says_how_it_was_made(tiled, tmp_path, photo):
    write_image(tmp_path / "lr.png", photo)
    targets = [tmp_path / "a.png", tmp_path / "b.tif"]
    seed = (1 << 64) - 3
    result = tiled.upscale_file(
        tmp_path / "lr.png", targets, tau=0.1 + 0.2, seed=seed, sample=7, report=True
    )
    for index, target in enumerate(targets):
        expected = tiled.upscale(photo, tau=0.1 + 0.2, seed=seed, sample=7 + index)
        np.testing.assert_array_equal(read_image(target).pixels, expected)
        made = read_provenance(target)
        assert made == result.outputs[index].provenance
        assert made is not None
        assert (made.tau, made.seed, made.sample, made.tile) == (0.1 + 0.2, seed, 7 + index, 16)
        assert made.model_sha256 == tiled.bundle.manifest.digest
        assert made.source == "lr.png"
    tau = np.random.default_rng(0).random((45, 61))
    mapped = tiled.upscale_file(tmp_path / "lr.png", tmp_path / "c.png", tau=tau)
    np.testing.assert_array_equal(
        read_image(tmp_path / "c.png").pixels, tiled.upscale(photo, tau=tau)
    )
    assert mapped.outputs[0].provenance.tau is None
    measured = [lr_psnr(read_image(target).pixels, photo) for target in targets]
    assert [output.lr_psnr for output in result.outputs] == pytest.approx(measured, abs=1e-6)


def test_nothing_remains_of_a_call_that_failed(tmp_path, photo, tiled):
    source = tmp_path / "lr.png"
    write_image(source, photo)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"older")
    targets = [out / "a.jpg", out / "b.png", out / "c.tif"]

    def interrupt(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(KeyboardInterrupt):
        tiled.upscale_file(source, targets, progress=interrupt)
    with pytest.raises(CancelledError):
        tiled.upscale_file(source, targets, cancel=cancelled)
    bundle = write_tiny_bundle(tmp_path / "overflow.srflow", gain=3e38)
    with Upscaler(bundle, device="cpu", tile=16) as overflowing, pytest.raises(NonFiniteError):
        overflowing.upscale_file(source, targets)
    assert names(out) == ["b.png"]
    assert (out / "b.png").read_bytes() == b"older"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("srflow")]


def test_a_thread_that_cannot_be_started_is_one_line_with_what_is_needed(
    tiled, tmp_path, monkeypatch
):
    def no_room(_thread):
        raise RuntimeError("can't start new thread")

    write_image(tmp_path / "lr.png", np.zeros((20, 20, 3), np.uint8))
    monkeypatch.setattr(threading.Thread, "start", no_room)
    with pytest.raises(
        DeviceError, match="the system starts no more threads for this process: raise its limits"
    ):
        tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png")
    assert names(tmp_path) == ["lr.png"]


def test_rows_of_the_source_are_forgotten_as_they_are_done(tiled, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(60, 190, (600, 9, 4), np.uint8)
    write_image(tmp_path / "lr.png", pixels)
    held = []
    append = RowBuffer.append

    def remember(self, rows):
        append(self, rows)
        held.append(len(self._held) if self._held is not None else 0)

    monkeypatch.setattr(RowBuffer, "append", remember)
    result = tiled.upscale_file(
        tmp_path / "lr.png", tmp_path / "sr.png", consistent=True, report=True
    )
    # of HR rows, the context of the projection and a band; 2400 in all
    assert 100 < max(held) < 4 * 120
    monkeypatch.undo()
    measured = lr_psnr(tiled.upscale(pixels, consistent=True), pixels)
    assert result.outputs[0].lr_psnr == pytest.approx(measured, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"targets": []}, ArgumentError, "there is no target"),
        ({"targets": "sr.bmp"}, ArgumentError, r"\.png, \.jpg"),
        ({"targets": "sr.jpg"}, ImageError, "no transparency"),
        ({"targets": "missing/sr.png"}, ImageError, "cannot be written"),
        ({"source": "wide.png", "targets": "sr.webp"}, ImageError, r"16,?383"),
        ({"targets": "./lr.png"}, ArgumentError, "would be overwritten by its own enlargement"),
        ({"targets": ["sr.png", "sr.png"]}, ArgumentError, "written to the same file"),
        ({"seed": -1}, ArgumentError, "seed is -1"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    tiled, tmp_path, monkeypatch, arguments, error, says
):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "lr.png", np.full((8, 8, 4), 90, np.uint8))
    write_image(tmp_path / "wide.png", np.zeros((1, 4200, 3), np.uint8))
    before = (tmp_path / "lr.png").read_bytes()
    monkeypatch.setattr(
        "srflow_sdk.drawing.file_upscaling.draw_tiles",
        lambda *_, **__: pytest.fail("it went to work"),
    )
    with pytest.raises(error, match=says):
        tiled.upscale_file(**{"source": "lr.png", "targets": "sr.png", **arguments})
    assert names(tmp_path) == ["lr.png", "wide.png"]
    assert (tmp_path / "lr.png").read_bytes() == before
