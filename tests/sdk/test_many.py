"""Many pictures at once: upscale_many gives what upscale gives for each."""

import threading

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import ArgumentError, CancelledError, ImageError, Upscaler, write_image


def test_a_list_of_any_kinds_gives_what_each_gives_alone(upscaler, photo, tmp_path):
    write_image(tmp_path / "photo.png", photo)
    images = [photo, photo[:9, :9, 0], Image.fromarray(photo[:20]), tmp_path / "photo.png", photo / 255]
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
        stack, expected = np.moveaxis(stack, -1, 1), np.moveaxis(expected, -1, 1)
    many = upscaler.upscale_many(stack, layout=layout)
    assert many.shape == expected.shape
    assert many.dtype == np.uint8
    assert np.array_equal(many, expected)


def test_a_stack_of_another_library_gives_a_tensor(upscaler, photo):
    torch = pytest.importorskip("torch")
    stack = torch.from_numpy(np.stack([photo[:9, :9], photo[9:18, :9]]))
    many = upscaler.upscale_many(stack)
    assert isinstance(many, torch.Tensor)
    assert torch.equal(many[1], upscaler.upscale(stack[1]))


def test_progress_counts_the_tiles_of_all(tiny_bundle, photo):
    told = []
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=32) as upscaler:
        tiles, cancel = upscaler.encode(photo).tiles, threading.Event()
        upscaler.upscale_many([photo, photo[:9, :9]], progress=lambda *step: told.append(step))
        assert tiles > 1
        assert told == [(done, tiles + 1) for done in range(1, tiles + 2)]
        with pytest.raises(CancelledError):
            upscaler.upscale_many([photo[:9, :9]] * 3, progress=lambda *_: cancel.set(), cancel=cancel)


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
