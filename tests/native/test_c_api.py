import ctypes

import numpy as np
import pytest

import srflow_sdk
from srflow_sdk.latents.random_field import standard_normal

LIMIT = 1 << 32
U64 = (1 << 64) - 1


@pytest.fixture(scope="module")
def library(ort_library):
    loaded = ctypes.CDLL(str(ort_library))
    loaded.srflow_version.restype = ctypes.c_char_p
    sizes = [ctypes.c_int] * 2 + [ctypes.c_int64] * 4
    loaded.srflow_standard_normal.argtypes = [
        ctypes.c_uint64,
        ctypes.c_uint64,
        *sizes,
        ctypes.c_void_p,
    ]
    return loaded


def draw(library, seed, sample, level, **window):
    out = np.full((window["channels"], window["height"], window["width"]), np.nan, np.float32)
    places = [window[name] for name in ("channels", "top", "left", "height", "width")]
    assert library.srflow_standard_normal(seed, sample, level, *places, out.ctypes.data) == 0
    return out


def test_library_is_the_package_s_version(library):
    assert library.srflow_version().decode() == srflow_sdk.__version__


def test_latents_are_those_of_python_bit_for_bit(library):
    def check(seed, sample, level, **window):
        expected = standard_normal(seed, sample, level, **window)
        np.testing.assert_array_equal(draw(library, seed, sample, level, **window), expected)

    random = np.random.default_rng(0)
    ends = {"channels": 17, "top": LIMIT - 2, "left": LIMIT - 3, "height": 2, "width": 3}
    for seed, sample, level in ((0, 0, 1), (U64, U64, 63)):
        check(seed, sample, level, **ends)
    for _ in range(40):
        seed, sample = (
            int(value) for value in random.integers(0, U64, 2, np.uint64, endpoint=True)
        )
        height, width, channels = (int(value) for value in random.integers(1, 40, 3))
        top, left = (int(value) for value in random.integers(0, LIMIT - 40, 2))
        place = {"channels": channels, "top": top, "left": left, "height": height, "width": width}
        level = int(random.integers(1, 64))
        check(seed, sample, level, **place)
    # Enough words to cover both branches of the transform fully.
    check(7, 0, 2, channels=8, top=0, left=0, height=350, width=360)


def test_arguments_out_of_range_are_refused(library):
    assert (
        library.srflow_standard_normal(0, 0, 64, 1, 0, 0, 1, 1, np.empty(1, np.float32).ctypes.data)
        == 1
    )
    assert library.srflow_standard_normal(0, 0, 1, 1, 0, 0, 1, 1, None) == 1
    room = np.zeros(64, np.float32)
    for channels, side in ((1, LIMIT), (1, 1 << 31), (1 << 16, 1 << 23)):  # which no memory holds
        assert (
            library.srflow_standard_normal(0, 0, 1, channels, 0, 0, side, side, room.ctypes.data)
            == 1
        )
    assert not room.any()
