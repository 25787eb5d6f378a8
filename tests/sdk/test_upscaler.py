import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import lr_psnr
from srflow_sdk.errors import ArgumentError, BundleError, CancelledError, DeviceError, ImageError
from srflow_sdk.files import read_image, write_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.upscaler import Upscaler


def open_tiled(bundle, tile):
    return Upscaler(bundle, device="cpu", threads=1, tile=tile)


def test_tau_seed_and_sample_change_the_picture(upscaler, floats):
    pictures = [
        upscaler.upscale(floats, tau=tau, seed=seed, sample=sample)
        for tau, seed, sample in [(0.0, 0, 0), (0.8, 0, 0), (0.8, 1, 0), (0.8, 0, 1), (0.4, 0, 0)]
    ]
    for number, one in enumerate(pictures):
        for other in pictures[:number]:
            assert np.abs(one - other).mean() > 0.01
    np.testing.assert_array_equal(
        upscaler.upscale(floats, tau=0, seed=2), pictures[0], "tau 0 ignores the seed"
    )
    np.testing.assert_array_equal(
        upscaler.upscale(floats), pictures[1], "the bundle's tau, and seed 0"
    )
    numbers = {"tau": np.float64(0.8), "seed": np.int64(1), "sample": np.uint8(0)}
    np.testing.assert_array_equal(upscaler.upscale(floats, **numbers), pictures[2])


@pytest.mark.parametrize(("budget", "kept"), [(0, 0), (40_000, 2), (1 << 30, 12)])
def test_an_encoding_gives_the_same_samples_whatever_it_keeps(
    tiny_bundle, floats, monkeypatch, budget, kept
):
    calls = []
    with open_tiled(tiny_bundle, np.int64(16)) as opened:
        expected = [opened.upscale(floats, tau=0.9, seed=3, sample=sample) for sample in range(2)]
        encode = opened.engine.painter.backend.encode
        monkeypatch.setattr(
            opened.engine.painter.backend, "encode", lambda lr: calls.append(lr.shape) or encode(lr)
        )
        mine = floats.copy()
        encoding = opened.encode(mine, memory_budget=np.int64(budget))
        mine[:] = 0  # it does not change with the caller's array
        assert (encoding.tiles, encoding.kept_tiles) == (12, kept)
        assert encoding.nbytes <= budget
        calls.clear()
        np.testing.assert_array_equal(encoding.samples(np.int64(2), tau=0.9, seed=3), expected)
        assert len(calls) == 12 - kept, "what is kept is not encoded again"


def test_pil_images_come_back_as_they_were_given_and_agree_with_arrays(upscaler, photo, floats):
    for mode in ("RGBA", "L", "I;16"):
        image = (
            Image.new("I;16", (13, 10), 900)
            if mode == "I;16"
            else Image.fromarray(photo).convert(mode)
        )
        out = upscaler.upscale(image)
        assert (out.mode, out.size) == (mode, (image.width * 4, image.height * 4))
    from_floats = np.rint(upscaler.upscale(floats) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(upscaler.upscale(photo), from_floats)
    np.testing.assert_array_equal(np.asarray(upscaler.upscale(Image.fromarray(photo))), from_floats)


def test_paths_bytes_and_binary_files_give_a_pil_image(upscaler, photo, tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, photo)
    expected = upscaler.upscale(photo, seed=2)
    with path.open("rb") as file:
        answers = [
            upscaler.upscale(image, seed=2) for image in (path, str(path), path.read_bytes(), file)
        ]
    assert all(
        isinstance(answer, Image.Image) and np.array_equal(answer, expected) for answer in answers
    )
    assert np.array_equal(upscaler.encode(path.read_bytes()).sample(seed=2), expected)
    assert lr_psnr(answers[0], path.read_bytes()) == lr_psnr(answers[0], path)


def test_many_threads_share_one_upscaler(tiny_bundle, floats):
    floats = floats[:30, :40]
    with open_tiled(tiny_bundle, 16) as opened:
        expected = [opened.upscale(floats, seed=seed) for seed in range(4)]
        encoding = opened.encode(floats, memory_budget=50_000)
        with ThreadPoolExecutor(4) as pool:
            direct = list(
                pool.map(lambda seed: opened.upscale(floats, seed=seed), [0, 1, 2, 3] * 2)
            )
            drawn = list(pool.map(lambda seed: encoding.sample(seed=seed), [0, 1, 2, 3] * 2))
    np.testing.assert_array_equal(direct, expected * 2)
    np.testing.assert_array_equal(drawn, expected * 2)


def test_progress_counts_tiles_of_samples_and_may_stop_the_call(tiny_bundle, floats):
    seen = []
    with open_tiled(tiny_bundle, 16) as opened:
        opened.encode(floats).samples(2, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(done, 24) for done in range(1, 25)]

        def stop(done, total):
            raise InterruptedError

        with pytest.raises(InterruptedError):
            opened.upscale(floats, progress=stop)
        opened.upscale(floats)


def test_arguments_out_of_range_are_typed_errors(upscaler, floats):
    wrong = {
        "tau": (-0.1, 2.1, float("nan"), "0.8", True, [0.8], 10**400),
        "seed": (-1, 1 << 64, 1.0),
        "sample": (1 << 64,),
        "consistent": ("no",),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ArgumentError, match=name):
                upscaler.upscale(floats, **{name: value})


def test_options_out_of_range_are_typed_errors(tiny_bundle):
    wrong = {
        "tile": (4, "all", 15, 64.0, True, np.zeros(3)),
        "device": ("npu",),
        "threads": (0,),
        "bundle": (3, ""),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ArgumentError):
                Upscaler(**{"bundle": tiny_bundle, name: value})
    with pytest.raises(DeviceError):
        Upscaler(tiny_bundle, device="tensorrt")
    with pytest.raises(BundleError):
        Upscaler("absent.srflow")


def test_numbers_of_samples_out_of_range_are_typed_errors(upscaler, floats):
    encoding = upscaler.encode(floats)
    for n in (0, 1.5, True, 1 << 63, None):
        with pytest.raises(ArgumentError, match=r"^n is "):
            encoding.samples(n)
    for call in (
        lambda: encoding.mean(1),
        lambda: encoding.std(1),
        lambda: encoding.std(2, consistent=True),
    ):
        with pytest.raises(ArgumentError, match=r"n is 1|omit consistent"):
            call()
    with pytest.raises(ArgumentError, match=r"the last sample is"):
        encoding.samples(2, sample=(1 << 64) - 1)


def test_what_is_no_image_is_a_typed_error(upscaler, tmp_path):
    write_image(tmp_path / "deep.png", np.full((8, 8, 3), 40_000, np.uint16))
    with Image.open(tmp_path / "deep.png") as closed:
        pass
    for image, error, says in (
        (b"", ImageError, "^image"),
        (b"text", ImageError, "^image"),
        (io.StringIO("text"), ArgumentError, "^image"),
        # which is not reduced in silence
        (tmp_path / "deep.png", ImageError, r"uint16.*upscale_file"),
        (closed, ImageError, "damaged"),
    ):
        with pytest.raises(error, match=says):
            upscaler.upscale(image)
    assert upscaler.upscale(read_image(tmp_path / "deep.png").pixels).dtype == np.uint16


def test_an_upscaler_shows_what_it_is_and_is_not_pickled(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    with Upscaler(bundle, device="cpu", threads=1) as opened:
        assert opened.bundle is bundle
        assert (opened.scale, opened.device) == (4, "cpu")
        with pytest.raises(TypeError, match="make one in each process"):
            pickle.dumps(opened)


def test_a_closed_upscaler_says_so(tiny_bundle, floats):
    opened = open_tiled(tiny_bundle, None)
    encoding = opened.encode(floats)
    opened.close()
    opened.close()
    mask = np.zeros(floats.shape[:2], bool)
    for call in (
        lambda: opened.upscale(floats),
        encoding.sample,
        lambda: opened.transfer(floats, floats, mask),
    ):
        with pytest.raises(DeviceError, match="this Upscaler was closed: make another one"):
            call()
    with pytest.raises(DeviceError, match="this Upscaler was closed"), opened:
        pass


# Many pictures at once: upscale_many gives what upscale gives for each.


def test_a_list_of_any_kinds_gives_what_each_gives_alone(upscaler, photo, tmp_path):
    write_image(tmp_path / "photo.png", photo)
    images = [
        photo,
        photo[:9, :9, 0],
        Image.fromarray(photo[:20]),
        tmp_path / "photo.png",
        photo / 255,
    ]
    many = upscaler.upscale_many(images, tau=0.7, seed=4)
    alone = [upscaler.upscale(image, tau=0.7, seed=4) for image in images]
    assert [type(one) for one in many] == [type(one) for one in alone]
    assert all(np.array_equal(one, other) for one, other in zip(many, alone, strict=True))
    assert upscaler.upscale_many([]) == []


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_a_stack_gives_a_stack_of_its_kind(upscaler, photo, layout):
    stack = np.stack([photo[:16, :20], photo[16:32, :20], photo[:16, 20:40]])
    expected = np.stack([upscaler.upscale(one) for one in stack])
    if layout == "chw":
        stack = np.moveaxis(stack, -1, 1)
        expected = np.moveaxis(expected, -1, 1)
    many = upscaler.upscale_many(stack, layout=layout)
    assert many.shape == expected.shape
    assert many.dtype == np.uint8
    assert np.array_equal(many, expected)


def test_progress_counts_the_tiles_of_all(tiny_bundle, photo):
    told = []
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=32) as upscaler:
        tiles = upscaler.encode(photo).tiles
        cancel = threading.Event()
        upscaler.upscale_many([photo, photo[:9, :9]], progress=lambda *step: told.append(step))
        assert tiles > 1
        assert told == [(done, tiles + 1) for done in range(1, tiles + 2)]
        with pytest.raises(CancelledError):
            upscaler.upscale_many(
                [photo[:9, :9]] * 3, progress=lambda *_: cancel.set(), cancel=cancel
            )


def test_an_error_says_which_image_it_is_before_any_is_drawn(upscaler, photo):
    told = []
    with pytest.raises(ImageError, match=r"^image 1: the array's shape is \(3,\)"):
        upscaler.upscale_many([photo, photo[0, 0]], progress=lambda *step: told.append(1))
    assert not told
    with pytest.raises(ArgumentError, match=r"^image 1: the tau map"):
        upscaler.upscale_many([photo, photo[:9, :9]], tau=np.full((45, 61), 0.5))
    for images in ("photo.png", b"bytes", 3, {"a": 1}):
        with pytest.raises(ArgumentError, match="must be a list of images, or an array N×H×W×C"):
            upscaler.upscale_many(images)
    for shape in ((9, 9, 3), (9, 9), (0, 9, 9, 3)):
        with pytest.raises(ImageError, match="must be N×H×W×C; or pass a list"):
            upscaler.upscale_many(np.zeros(shape, np.uint8))
