from __future__ import annotations

import gc
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import lr_psnr
from srflow_sdk.errors import ArgumentError, BundleError, DeviceError, ImageError, NonFiniteError
from srflow_sdk.files import read_image, write_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.upscaler import Upscaler

from .tiny_bundle import write_tiny_bundle


def open_tiled(bundle: Path, tile: Any) -> Upscaler:
    return Upscaler(bundle, device="cpu", threads=1, tile=tile)


@pytest.fixture
def floats(photo: np.ndarray) -> np.ndarray:
    return (photo / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("tile", [16, 22, 32, "auto"])
@pytest.mark.parametrize("size", [(45, 61), (16, 61), (1, 61), (1, 1), (60, 2)])
def test_same_seed_gives_same_image_for_any_tile_size(
    tiny_bundle: Path, upscaler: Upscaler, tile: Any, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(5).random((*size, 3), np.float32)
    with open_tiled(tiny_bundle, None) as whole, open_tiled(tiny_bundle, tile) as tiled:
        expected = whole.upscale(image, tau=0.9, seed=11)
        got = tiled.upscale(image, tau=0.9, seed=11)
    assert got.shape == (size[0] * 4, size[1] * 4, 3)
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_the_tile_test_would_notice_a_missing_halo(tmp_path: Path, floats: np.ndarray) -> None:
    bundle = write_tiny_bundle(tmp_path / "b.srflow", halo=0)
    with open_tiled(bundle, None) as whole, open_tiled(bundle, 16) as tiled:
        assert np.abs(whole.upscale(floats) - tiled.upscale(floats)).max() > 0.01


def test_tau_seed_and_sample_change_the_picture(upscaler: Upscaler, floats: np.ndarray) -> None:
    pictures = [
        upscaler.upscale(floats, tau=tau, seed=seed, sample=sample)
        for tau, seed, sample in [(0.0, 0, 0), (0.8, 0, 0), (0.8, 1, 0), (0.8, 0, 1), (0.4, 0, 0)]
    ]
    for number, one in enumerate(pictures):
        for other in pictures[:number]:
            assert np.abs(one - other).mean() > 0.01


def test_tau_zero_ignores_the_seed(upscaler: Upscaler, floats: np.ndarray) -> None:
    np.testing.assert_array_equal(upscaler.upscale(floats, tau=0, seed=1), upscaler.upscale(floats, tau=0, seed=2))


def test_tau_defaults_to_the_bundles(upscaler: Upscaler, floats: np.ndarray) -> None:
    np.testing.assert_array_equal(upscaler.upscale(floats), upscaler.upscale(floats, tau=0.8, seed=0))


@pytest.mark.parametrize("tile", [None, 16])
def test_a_sample_alone_is_the_same_image_as_among_many(tiny_bundle: Path, floats: np.ndarray, tile: Any) -> None:
    with open_tiled(tiny_bundle, tile) as opened:
        many = opened.encode(floats).samples(5, seed=4)
        assert len(many) == 5
        for index, one in enumerate(many):
            np.testing.assert_array_equal(opened.upscale(floats, seed=4, sample=index), one)
        later = opened.encode(floats).samples(2, seed=4, sample=3)
        np.testing.assert_array_equal(later[1], many[4])


@pytest.mark.parametrize(("budget", "kept"), [(0, 0), (40_000, 2), (1 << 30, 12)])
def test_an_encoding_gives_the_same_samples_whatever_it_keeps(
    tiny_bundle: Path, floats: np.ndarray, budget: int, kept: int
) -> None:
    with open_tiled(tiny_bundle, 16) as opened:
        encoding = opened.encode(floats, memory_budget=budget)
        assert (encoding.tiles, encoding.kept_tiles) == (12, kept)
        assert encoding.nbytes <= budget
        for tau, seed in ((0.9, 3), (0.2, 4)):
            np.testing.assert_array_equal(
                encoding.sample(tau=tau, seed=seed), opened.upscale(floats, tau=tau, seed=seed)
            )
        pair = encoding.samples(2, seed=1)
        np.testing.assert_array_equal(pair[1], encoding.sample(seed=1, sample=1))


def test_drawing_from_an_encoding_does_not_encode_again(
    tiny_bundle: Path, floats: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    with open_tiled(tiny_bundle, 16) as opened:
        encode = opened._painter.backend.encode
        monkeypatch.setattr(opened._painter.backend, "encode", lambda lr: calls.append(lr.shape) or encode(lr))
        encoding = opened.encode(floats)
        assert len(calls) == 12
        encoding.samples(3)
        assert len(calls) == 12
        opened.encode(floats, memory_budget=0).samples(3)
        assert len(calls) == 24


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays_come_back_as_they_were_given(upscaler: Upscaler, dtype: type, channels: int | None) -> None:
    shape = (10, 13) if channels is None else (10, 13, channels)
    values = np.random.default_rng(0).random(shape, np.float32)
    array = values if dtype is np.float32 else (values * np.iinfo(dtype).max).astype(dtype)
    out = upscaler.upscale(array)
    assert out.dtype == dtype
    assert out.shape == (40, 52, *shape[2:])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_pil_images_come_back_as_they_were_given(upscaler: Upscaler, photo: np.ndarray, mode: str) -> None:
    image = Image.new("I;16", (13, 10), 900) if mode == "I;16" else Image.fromarray(photo).convert(mode)
    out = upscaler.upscale(image)
    assert (out.mode, out.size) == (mode, (image.width * 4, image.height * 4))


def test_eight_bit_and_float_images_agree(upscaler: Upscaler, photo: np.ndarray, floats: np.ndarray) -> None:
    from_floats = np.rint(upscaler.upscale(floats) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(upscaler.upscale(photo), from_floats)
    np.testing.assert_array_equal(np.asarray(upscaler.upscale(Image.fromarray(photo))), from_floats)


def test_a_path_gives_a_pil_image(upscaler: Upscaler, photo: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", photo)
    for path in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        out = upscaler.upscale(path, seed=2)
        assert isinstance(out, Image.Image)
        np.testing.assert_array_equal(np.asarray(out), upscaler.upscale(photo, seed=2))


def test_bytes_and_binary_files_give_what_their_path_gives(
    upscaler: Upscaler, photo: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    write_image(path, photo)
    expected = np.asarray(upscaler.upscale(path, seed=2))
    with path.open("rb") as file:
        answers = [upscaler.upscale(path.read_bytes(), seed=2), upscaler.upscale(file, seed=2)]
    assert all(isinstance(answer, Image.Image) and np.array_equal(answer, expected) for answer in answers)
    assert np.array_equal(upscaler.encode(path.read_bytes()).sample(seed=2), expected)
    assert lr_psnr(answers[0], path.read_bytes()) == lr_psnr(answers[0], path)


@pytest.mark.parametrize(
    ("image", "error"), [(b"", ImageError), (b"text", ImageError), (io.StringIO("text"), ArgumentError)]
)
def test_bytes_that_are_no_image_are_a_typed_error(upscaler: Upscaler, image: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^image"):
        upscaler.upscale(image)


def test_a_sixteen_bit_path_is_not_reduced_in_silence(upscaler: Upscaler, tmp_path: Path) -> None:
    write_image(tmp_path / "deep.png", np.full((8, 8, 3), 40_000, np.uint16))
    with pytest.raises(ImageError, match=r"uint16.*upscale_file"):
        upscaler.upscale(tmp_path / "deep.png")
    assert upscaler.upscale(read_image(tmp_path / "deep.png").pixels).dtype == np.uint16


def test_many_threads_share_one_upscaler(tiny_bundle: Path, floats: np.ndarray) -> None:
    floats = floats[:30, :40]
    with open_tiled(tiny_bundle, 16) as opened:
        expected = [opened.upscale(floats, seed=seed) for seed in range(4)]
        encoding = opened.encode(floats, memory_budget=50_000)
        with ThreadPoolExecutor(4) as pool:
            direct = list(pool.map(lambda seed: opened.upscale(floats, seed=seed), [0, 1, 2, 3] * 3))
            drawn = list(pool.map(lambda seed: encoding.sample(seed=seed), [0, 1, 2, 3] * 3))
    for number in range(12):
        np.testing.assert_array_equal(direct[number], expected[number % 4])
        np.testing.assert_array_equal(drawn[number], expected[number % 4])


def test_progress_counts_tiles_of_samples_and_may_stop_the_call(tiny_bundle: Path, floats: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    with open_tiled(tiny_bundle, 16) as opened:
        opened.encode(floats).samples(2, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(done, 24) for done in range(1, 25)]

        def stop(done: int, total: int) -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            opened.upscale(floats, progress=stop)
        opened.upscale(floats)


def test_non_finite_output_names_place_tau_and_seed(tmp_path: Path, floats: np.ndarray) -> None:
    bundle = write_tiny_bundle(tmp_path / "b.srflow", gain=3e38)
    bright = floats.copy()
    bright[20:, 20:] = 1.0
    with (
        open_tiled(bundle, 16) as opened,
        pytest.raises(NonFiniteError, match=r"tau 1\.2, seed 9, sample 0.*rows \d+ to"),
    ):
        opened.upscale(bright, tau=1.2, seed=9)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tau": -0.1},
        {"tau": 2.1},
        {"tau": float("nan")},
        {"tau": float("inf")},
        {"tau": "0.8"},
        {"tau": True},
        {"tau": [0.8]},
        {"seed": -1},
        {"seed": 1 << 64},
        {"seed": 1.0},
        {"sample": -1},
        {"sample": 1 << 64},
        {"tau": 10**400},
        {"progress": "x"},
        {"cancel": True},
        {"consistent": "no"},
    ],
)
def test_arguments_out_of_range_are_typed_errors(
    upscaler: Upscaler, floats: np.ndarray, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        upscaler.upscale(floats, **arguments)


@pytest.mark.parametrize("method", ["samples", "mean", "std"])
@pytest.mark.parametrize("n", [0, 1.5, True, 1 << 63, None])
def test_numbers_of_samples_out_of_range_are_typed_errors(
    upscaler: Upscaler, floats: np.ndarray, method: str, n: Any
) -> None:
    with pytest.raises(ArgumentError, match=r"^n is "):
        getattr(upscaler.encode(floats), method)(n)


def test_samples_whose_numbers_are_too_large_are_a_typed_error(upscaler: Upscaler, floats: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match=r"below 2\^64"):
        upscaler.encode(floats).samples(2, sample=(1 << 64) - 1)


def test_the_error_of_an_unknown_keyword_names_the_right_ones(upscaler: Upscaler, floats: np.ndarray) -> None:
    encoding: Any = upscaler.encode(floats)
    samples: Any = {"samples": 3}
    for call in (
        lambda: upscaler.upscale(floats, **samples),
        lambda: upscaler.upscale_file("a.png", "b.png", **samples),
        lambda: encoding.mean(2, **samples),
    ):
        with pytest.raises(
            TypeError, match=r"'samples' is no .* there are tau, seed, .*; encode\(image\)\.samples\(n\)"
        ):
            call()
    wrong: Any = {"blur": 1}
    with pytest.raises(TypeError, match=r"'blur' is no .* there are tau, over, progress, cancel$"):
        upscaler.restore(floats, **wrong)


def test_an_upscaler_shows_its_models_device_and_precision(tiny_bundle: Path) -> None:
    with Upscaler(tiny_bundle, device="cpu", threads=1) as opened:
        assert repr(opened) == "<Upscaler: tiny, device='cpu', precision='bundle'>"
    assert "x4-small or " in repr(Upscaler(device="cpu"))


def test_numpy_numbers_are_taken(upscaler: Upscaler, floats: np.ndarray) -> None:
    got = upscaler.upscale(floats, tau=np.float64(0.5), seed=np.int64(3))
    np.testing.assert_array_equal(got, upscaler.upscale(floats, tau=0.5, seed=3))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tile": 4}, ArgumentError),
        ({"device": "npu"}, ArgumentError),
        ({"device": "tensorrt"}, DeviceError),
        ({"threads": 0}, ArgumentError),
        ({"tile": np.zeros(3)}, ArgumentError),
        ({"bundle": 3}, ArgumentError),
        ({"bundle": ""}, ArgumentError),
    ],
)
def test_options_out_of_range_are_typed_errors(
    tiny_bundle: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Upscaler(**{"bundle": tiny_bundle, **options})


def test_a_path_that_is_no_bundle_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Upscaler(tmp_path / "absent.srflow")


def test_an_open_bundle_is_taken_and_shown(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    with Upscaler(bundle, device="cpu") as opened:
        assert opened.bundle is bundle
        assert (opened.scale, opened.device) == (4, "cpu")


def test_a_closed_upscaler_says_so(tiny_bundle: Path, floats: np.ndarray) -> None:
    opened = open_tiled(tiny_bundle, None)
    encoding = opened.encode(floats)
    opened.close()
    opened.close()
    with pytest.raises(DeviceError, match="this Upscaler was closed: make another one"):
        opened.upscale(floats)
    with pytest.raises(DeviceError, match="this Upscaler was closed: make another one"):
        encoding.sample()
    with pytest.raises(DeviceError, match="this Upscaler was closed"), opened:
        pass
    del opened, encoding
    gc.collect()


def test_an_upscaler_is_not_pickled_and_says_what_to_do(upscaler: Upscaler) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(upscaler)


def test_an_encoding_does_not_change_with_the_callers_array(tiny_bundle: Path, floats: np.ndarray) -> None:
    with open_tiled(tiny_bundle, 16) as opened:
        mine = floats.copy()
        encoding = opened.encode(mine, memory_budget=0)
        mine[:] = 0
        np.testing.assert_array_equal(encoding.sample(seed=1), opened.upscale(floats, seed=1))


def test_numpy_whole_numbers_are_taken_everywhere(tiny_bundle: Path, floats: np.ndarray) -> None:
    with Upscaler(tiny_bundle, device="cpu", threads=np.int64(1), tile=np.int64(16)) as opened:  # type: ignore[arg-type]
        opened.encode(floats, memory_budget=np.int64(1 << 20)).samples(np.int64(2))  # type: ignore[arg-type]


def test_a_closed_pil_image_is_a_typed_error(upscaler: Upscaler, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(ImageError):
        upscaler.upscale(image)
