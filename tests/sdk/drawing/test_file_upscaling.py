from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.drawing.file_upscaling import made_of
from srflow_sdk.drawing.finishing import lr_psnr
from srflow_sdk.drawing.low_resolution import RowBuffer
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.errors import ArgumentError, CancelledError, ImageError, NonFiniteError
from srflow_sdk.files import Metadata, read_image, read_provenance, write_image
from srflow_sdk.upscaler import Upscaler

from ..pixels.icc_writer import DISPLAY_P3, SRGB_CURVE, matrix_profile
from ..tiny_bundle import write_tiny_bundle


@pytest.fixture
def tiled(tiny_bundle: Path) -> Any:
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        yield opened


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_file_becomes_what_its_pixels_become(
    tiled: Upscaler, tmp_path: Path, photo: np.ndarray, suffix: str, dtype: type, channels: int
) -> None:
    values = np.dstack([photo, photo[::-1, :, 0]])[..., [0, 3] if channels == 2 else slice(0, channels)]
    pixels = values.astype(dtype) * {np.uint8: 1, np.uint16: 257, np.float32: np.float32(1 / 255)}[dtype]
    write_image(tmp_path / "lr.tif", pixels.astype(dtype))
    tiled.upscale_file(tmp_path / "lr.tif", tmp_path / f"sr{suffix}", seed=2)
    got = read_image(tmp_path / f"sr{suffix}").pixels
    expected = tiled.upscale(pixels.astype(dtype), seed=2)
    if dtype is np.float32 and suffix == ".png":
        expected = np.rint(expected * 65535).astype(np.uint16)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_smallest_images_work(tiled: Upscaler, tmp_path: Path, shape: tuple[int, int], suffix: str) -> None:
    write_image(tmp_path / "lr.png", np.full((*shape, 3), 90, np.uint8))
    result = tiled.upscale_file(tmp_path / "lr.png", tmp_path / f"sr{suffix}", report=True, consistent=True)
    assert result.size == (shape[1], shape[0])
    assert read_image(tmp_path / f"sr{suffix}").pixels.shape == (4 * shape[0], 4 * shape[1], 3)
    assert result.outputs[0].lr_psnr is not None


def test_every_target_holds_its_sample_and_says_how_it_was_made(
    tiled: Upscaler, tmp_path: Path, photo: np.ndarray
) -> None:
    write_image(tmp_path / "lr.png", photo)
    targets = [tmp_path / "a.png", tmp_path / "b.tif"]
    seed = (1 << 64) - 3
    result = tiled.upscale_file(tmp_path / "lr.png", targets, tau=0.1 + 0.2, seed=seed, sample=7, report=True)
    for index, target in enumerate(targets):
        expected = tiled.upscale(photo, tau=0.1 + 0.2, seed=seed, sample=7 + index)
        np.testing.assert_array_equal(read_image(target).pixels, expected)
        made = read_provenance(target)
        assert made == result.outputs[index].provenance
        assert made is not None
        assert (made.tau, made.seed, made.sample, made.tile) == (0.1 + 0.2, seed, 7 + index, 16)
        assert made.model_sha256 == tiled.bundle.manifest.digest
        assert made.source == "lr.png"
    measured = [lr_psnr(read_image(target).pixels, photo) for target in targets]
    assert [output.lr_psnr for output in result.outputs] == pytest.approx(measured, abs=1e-6)


def test_a_map_of_temperatures_is_used_and_said(tiled: Upscaler, tmp_path: Path, photo: np.ndarray) -> None:
    write_image(tmp_path / "lr.png", photo)
    tau = np.random.default_rng(0).random((45, 61))
    tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png", tau=tau)
    np.testing.assert_array_equal(read_image(tmp_path / "sr.png").pixels, tiled.upscale(photo, tau=tau))
    made = read_provenance(tmp_path / "sr.png")
    assert made is not None
    assert made.tau is None


def test_the_profile_is_kept_and_the_file_is_what_the_pil_image_becomes(
    tiled: Upscaler, tmp_path: Path, photo: np.ndarray
) -> None:
    profile = matrix_profile(DISPLAY_P3, SRGB_CURVE)
    write_image(tmp_path / "lr.png", photo, metadata=Metadata(icc_profile=profile))
    tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png", seed=5)
    file = read_image(tmp_path / "sr.png")
    assert file.metadata.icc_profile == profile
    image = tiled.upscale(tmp_path / "lr.png", seed=5)
    assert image.info["icc_profile"] == profile
    # Rows of the enlarged residual are computed with three rows of context here, with all there: equal to rounding.
    assert np.abs(np.asarray(image).astype(int) - file.pixels).max() <= 1


def test_a_picture_in_the_camera_s_orientation_comes_out_upright(
    tiled: Upscaler, tmp_path: Path, photo: np.ndarray
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "lr.png", exif=exif)
    tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png")
    upright = np.rot90(photo, -1).copy()
    np.testing.assert_array_equal(read_image(tmp_path / "sr.png").pixels, tiled.upscale(upright))


def test_nothing_remains_of_a_call_that_failed(tmp_path: Path, photo: np.ndarray, tiled: Upscaler) -> None:
    source = tmp_path / "lr.png"
    write_image(source, photo)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"older")
    targets = [out / "a.jpg", out / "b.png", out / "c.tif"]

    def interrupt(done: int, total: int) -> None:
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


def test_a_source_that_breaks_off_is_one_line_and_leaves_nothing(tmp_path: Path, tiled: Upscaler) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    write_image(tmp_path / "lr.png", pixels)
    whole = (tmp_path / "lr.png").read_bytes()
    (tmp_path / "lr.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"lr\.png") as error:
        tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png")
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["lr.png"]


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ([], ArgumentError),
        (["sr.bmp"], ArgumentError),
        (["sr.jpg"], ImageError),
        (["missing/sr.png"], ImageError),
    ],
)
def test_targets_that_cannot_be_are_refused_before_the_work(
    tmp_path: Path, photo: np.ndarray, tiled: Upscaler, targets: list[str], error: type[Exception]
) -> None:
    write_image(tmp_path / "lr.png", np.dstack([photo, photo[..., 0]]))
    with pytest.raises(error):
        tiled.upscale_file(
            tmp_path / "lr.png",
            [tmp_path / target for target in targets],
            progress=lambda done, total: pytest.fail("it went to work"),
        )


def test_a_webp_larger_than_webp_can_be_is_refused_before_the_work(tmp_path: Path, tiled: Upscaler) -> None:
    write_image(tmp_path / "lr.png", np.zeros((1, 4200, 3), np.uint8))
    with pytest.raises(ImageError, match=r"16,?383"):
        tiled.upscale_file(
            tmp_path / "lr.png", tmp_path / "sr.webp", progress=lambda done, total: pytest.fail("it went to work")
        )


def test_what_a_file_would_say_is_known_before_it_is_made(tiled: Upscaler, tmp_path: Path, photo: np.ndarray) -> None:
    write_image(tmp_path / "lr.png", photo)
    for scale in (None, 1.5):
        options = DrawOptions(seed=3, scale=scale, linear_light=True)
        result = tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png", **vars(options))
        made = result.outputs[0].provenance
        manifest, (height, width) = tiled.bundle.manifest, photo.shape[:2]
        factor, _, _ = options.output_of(manifest, height=height, width=width)
        known = options.provenance_fields(manifest, sample=0, scale=factor)
        assert (known["tau"], known["scale"]) == (0.8, scale)
        assert made == made_of(manifest, source=tmp_path / "lr.png", source_sha256=made.source_sha256, tile=16, **known)


def test_rows_of_the_source_are_forgotten_as_they_are_done(
    tiled: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(60, 190, (600, 9, 4), np.uint8)
    write_image(tmp_path / "lr.png", pixels)
    held = []
    append = RowBuffer.append

    def remember(self: RowBuffer, rows: np.ndarray) -> None:
        append(self, rows)
        held.append(len(self._held) if self._held is not None else 0)

    monkeypatch.setattr(RowBuffer, "append", remember)
    result = tiled.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png", consistent=True, report=True)
    assert 100 < max(held) < 4 * 120  # of HR rows, the context of the projection and a band; 2400 in all
    monkeypatch.undo()
    measured = lr_psnr(tiled.upscale(pixels, consistent=True), pixels)
    assert result.outputs[0].lr_psnr == pytest.approx(measured, abs=0.01)


def test_the_source_is_not_overwritten_nor_one_sample_by_another(
    tiled: Upscaler, tmp_path: Path, photo: np.ndarray
) -> None:
    source = tmp_path / "lr.png"
    write_image(source, photo)
    before = source.read_bytes()
    for targets in ([source], [tmp_path / "." / "lr.png"], [tmp_path / "sr.png", tmp_path / "sr.png"]):
        with pytest.raises(ArgumentError, match=r"overwritten|same file"):
            tiled.upscale_file(source, targets)
    assert source.read_bytes() == before
    assert names(tmp_path) == ["lr.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"source": 3},
        {"source": ""},
        {"targets": None},
        {"targets": [3]},
        {"max_pixels": "10"},
        {"report": None},
        {"progress": "x"},
        {"cancel": True},
        {"seed": -1},
    ],
)
def test_wrong_arguments_are_typed_errors(tiled: Upscaler, tmp_path: Path, arguments: dict[str, Any]) -> None:
    write_image(tmp_path / "lr.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ArgumentError):
        tiled.upscale_file(**{"source": tmp_path / "lr.png", "targets": tmp_path / "sr.png", **arguments})


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif"])
@pytest.mark.parametrize("truncate", [True, False])
def test_a_source_that_changes_meanwhile_gives_one_error_and_no_output(
    tiled: Upscaler, tmp_path: Path, suffix: str, truncate: bool
) -> None:
    source, target = tmp_path / f"lr{suffix}", tmp_path / "sr.png"
    write_image(source, np.random.default_rng(0).integers(0, 256, (300, 20, 3), dtype=np.uint8))
    target.write_bytes(b"older")

    def change(done: int, total: int) -> None:
        if done == (1 if truncate else total):
            os.truncate(source, source.stat().st_size // 2) if truncate else source.write_bytes(b"another version")

    with pytest.raises(ImageError, match=f"{source.name}: the file changed while it was read"):
        tiled.upscale_file(source, target, progress=change)
    assert target.read_bytes() == b"older"
    assert names(tmp_path) == sorted([source.name, target.name])
