"""Arrays of other libraries, through DLPack: as numpy's, in the machine's memory only, and without
importing them."""

import numpy as np
import pytest

from srflow_sdk import lr_psnr
from srflow_sdk.errors import ArgumentError, ImageError


class Foreign:
    """An array of another library: numpy's memory, reached through DLPack alone."""

    def __init__(self, values, device=1):
        self._values = values
        self._device = device

    def __dlpack__(self, **keywords):
        return self._values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._device, 0


class Unreadable(Foreign):
    dtype = "bfloat16"

    def __dlpack__(self, **_):
        raise BufferError("Unsupported dtype")


def values_of(photo, dtype):
    if np.dtype(dtype).kind == "f":
        return (photo / 255).astype(dtype)
    return photo.astype(dtype) * dtype(np.iinfo(dtype).max // 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_a_tensor_gives_what_its_array_gives(upscaler, photo, dtype):
    values = values_of(photo, dtype)
    for array in (values, values[..., 0], values[:, ::2, :1], values.transpose(1, 0, 2)):
        expected = upscaler.upscale(array, tau=0.5, seed=3)
        got = upscaler.upscale(Foreign(array), tau=0.5, seed=3)
        assert isinstance(got, np.ndarray)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)
    encoding = upscaler.encode(Foreign(values))
    np.testing.assert_array_equal(encoding.samples(2)[1], upscaler.upscale(values, sample=1))
    assert lr_psnr(Foreign(upscaler.upscale(values)), Foreign(values)) == lr_psnr(
        upscaler.upscale(values), values
    )


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (
            Foreign(np.zeros((4, 4, 3), np.uint8), device=2),
            r"on a GPU or another device \(DLPack type 2\).*tensor.cpu",
        ),
        (
            Unreadable(np.zeros((4, 4, 3), np.uint8)),
            r"the tensor of dtype bfloat16 cannot be read: Unsupported dtype;",
        ),
        (
            Foreign(np.zeros((4, 4, 3), np.float16)),
            r"the tensor's dtype is float16; it must be uint8, uint16, float32",
        ),
        (
            Foreign(np.zeros((3, 9, 9), np.uint8)),
            r'shape is \(3, 9, 9\).* first for "chw"; this is "hwc"$',
        ),
    ],
)
def test_a_tensor_that_is_no_image_is_one_clear_line(upscaler, tensor, why):
    with pytest.raises(ImageError, match=why) as caught:
        upscaler.upscale(tensor)
    assert "\n" not in str(caught.value)


def test_torch_s_tensors_are_read(upscaler, photo):
    torch = pytest.importorskip("torch")
    expected = upscaler.upscale(photo)
    np.testing.assert_array_equal(upscaler.upscale(torch.from_numpy(photo)), expected)
    channels_first = torch.from_numpy(photo).permute(2, 0, 1).contiguous()
    np.testing.assert_array_equal(upscaler.upscale(channels_first.permute(1, 2, 0)), expected)
    floats = torch.from_numpy(photo).double() / 255
    drawn = upscaler.upscale(floats)
    assert isinstance(drawn, torch.Tensor)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, torch.from_numpy(upscaler.upscale(floats.numpy())))
    assert torch.equal(
        upscaler.upscale(channels_first, layout="chw"), torch.from_numpy(expected).permute(2, 0, 1)
    )
    for tensor, why in (
        (floats.float().requires_grad_(), "cannot be read: .*detach"),
        (floats.bfloat16(), "the tensor of dtype torch.bfloat16 cannot be read"),
    ):
        with pytest.raises(ImageError, match=why):
            upscaler.upscale(tensor)


def test_channels_first_are_the_same_picture(upscaler, photo):
    first = np.moveaxis(photo, -1, 0)
    drawn = upscaler.upscale(first, layout="chw", seed=2)
    assert drawn.flags.c_contiguous
    np.testing.assert_array_equal(drawn, np.moveaxis(upscaler.upscale(photo, seed=2), -1, 0))
    assert upscaler.upscale(photo[..., 0], layout="chw").shape == (180, 244)
    encoding = upscaler.encode(first, layout="chw")
    same = upscaler.encode(photo)
    np.testing.assert_array_equal(encoding.std(2), np.moveaxis(same.std(2), -1, 0))
    best = upscaler.best_of(first, lambda picture: picture.shape[0], 1, layout="chw")
    np.testing.assert_array_equal(best, np.moveaxis(same.sample(), -1, 0))
    assert lr_psnr(drawn, first, layout="chw") == lr_psnr(np.moveaxis(drawn, 0, -1), photo)
    with pytest.raises(ImageError, match=r'channels last for layout="hwc".*; this is "chw"$'):
        upscaler.upscale(photo, layout="chw")
    with pytest.raises(ArgumentError, match="layout is 'nchw'"):
        upscaler.upscale(first, layout="nchw")
