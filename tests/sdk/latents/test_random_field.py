import hashlib

import numpy as np
import pytest

from srflow_sdk.errors import ArgumentError
from srflow_sdk.latents.random_field import (
    LATENT_SCHEME,
    LatentLevel,
    normal_from_words,
    standard_normal,
    window_noise,
)

MASK = (1 << 64) - 1
GOLDEN_TRANSFORM = [
    "-0x1.95a11a0000000p+2",
    "-0x1.8aa6c80000000p+2",
    "-0x1.be596c0000000p+1",
    "-0x1.5956b80000000p-1",
    "0x1.40d9320000000p-32",
    "0x1.70bb0e0000000p+0",
    "0x1.95a11a0000000p+2",
]
GOLDEN_FIELD = [
    "0x1.2e47a80000000p-1",
    "0x1.d06f160000000p-1",
    "-0x1.a044fe0000000p-2",
    "-0x1.7f7b240000000p+0",
    "-0x1.1a75860000000p+0",
    "-0x1.3771160000000p-2",
]
GOLDEN_SHA256 = "9c70a9be59080761a826607f9b7ebf23c36047b59df17af8dd5929e664648fd5"


def philox4x64_10(counter, key):
    """Philox as published, in plain integers: the reference for the field's bits."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first = 0xD2E7470EE14C6C93 * c0
        second = 0xCA5A826395121157 * c2
        c0 = (second >> 64) ^ c1 ^ k0
        c1 = second & MASK
        c2 = (first >> 64) ^ c3 ^ k1
        c3 = first & MASK
        k0 = (k0 + 0x9E3779B97F4A7C15) & MASK
        k1 = (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


def reference_word(seed, sample, level, channel, y, x):
    block = philox4x64_10((x + 1, y, channel // 8, level), (seed, sample))
    return (block[channel % 8 // 2] >> (32 * (channel % 2))) & 0xFFFFFFFF


def window(seed=3, sample=1, level=2, **place):
    defaults = {"channels": 12, "top": 0, "left": 0, "height": 20, "width": 30}
    return standard_normal(seed, sample, level, **{**defaults, **place})


def test_reference_philox_gives_random123s_known_answer():
    expected = (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
    assert philox4x64_10((0, 0, 0, 0), (0, 0)) == expected


@pytest.mark.parametrize(
    ("seed", "sample", "level"), [(0, 0, 1), (MASK, 5, 3), (12345678901234567890, MASK, 2)]
)
def test_bits_are_those_of_the_documented_philox_blocks(seed, sample, level):
    top = 1000
    left = (1 << 32) - 4
    drawn = window(seed, sample, level, channels=19, top=top, left=left, height=2, width=3)
    words = [
        [
            [reference_word(seed, sample, level, c, top + y, left + x) for x in range(3)]
            for y in range(2)
        ]
        for c in range(19)
    ]
    np.testing.assert_array_equal(drawn, normal_from_words(np.array(words, np.uint32)))


def test_golden_values_of_scheme_1():
    """Never change these: a new field is a new LATENT_SCHEME."""
    assert LATENT_SCHEME == 1
    words = np.array([0, 1, 2**20, 2**30, 2**31, 3_973_344_665, 2**32 - 1], np.uint32)
    assert [value.hex() for value in normal_from_words(words).tolist()] == GOLDEN_TRANSFORM
    assert [
        value.hex() for value in window(0, 0, 1, channels=3, height=1, width=2).ravel().tolist()
    ] == GOLDEN_FIELD
    large = window(2**63 + 7, 4, 3, channels=48, top=11, left=5, height=33, width=35)
    assert hashlib.sha256(large.astype("<f4").tobytes()).hexdigest() == GOLDEN_SHA256


def test_any_window_is_cut_out_of_the_same_field():
    whole = window(np.int64(3), np.uint64(1), channels=20, height=40, width=50)
    part = window(channels=9, top=7, left=13, height=21, width=30)
    np.testing.assert_array_equal(part, whole[:9, 7:28, 13:43])
    np.testing.assert_array_equal(window(top=39, left=49, height=1, width=1), whole[:12, 39:, 49:])


def test_transform_is_the_inverse_normal_distribution_to_float32():
    special = pytest.importorskip("scipy.special")
    words = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    words[:4] = 0, 1, 2**32 - 2, 2**32 - 1
    expected = special.ndtri((words + 0.5) * 2.0**-32)
    np.testing.assert_allclose(normal_from_words(words), expected, rtol=6.1e-8)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_seeds_outside_the_field_are_refused(seed):
    with pytest.raises(OverflowError):
        window(seed)


LEVELS = (
    LatentLevel(level=1, channels=6),
    LatentLevel(level=2, channels=12),
    LatentLevel(level=3, channels=48),
)


def test_noise_of_a_window_is_the_field_at_its_place_on_every_level():
    noise = window_noise(LEVELS, scale=4, seed=5, sample=2, top=26, left=10, height=38, width=44)
    places = {1: (52, 20, 76, 88), 2: (26, 10, 38, 44), 3: (13, 5, 19, 22)}
    assert list(noise) == list(places)
    for entry in LEVELS:
        top, left, height, width = places[entry.level]
        expected = window(
            5,
            2,
            entry.level,
            channels=entry.channels,
            top=top,
            left=left,
            height=height,
            width=width,
        )
        np.testing.assert_array_equal(noise[entry.level], expected)


def test_a_window_that_begins_before_the_image_joins_the_fields_end_to_its_beginning():
    around = window_noise(LEVELS, scale=4, seed=1, sample=0, top=-4, left=-2, height=12, width=10)
    inside = window_noise(LEVELS, scale=4, seed=1, sample=0, height=8, width=8)
    for level, channels in ((entry.level, entry.channels) for entry in LEVELS):
        rows = 16 >> level
        columns = 8 >> level
        assert np.array_equal(around[level][:, rows:, columns:], inside[level])
        last = standard_normal(
            1, 0, level, channels=channels, top=2**32 - rows, left=0, height=rows, width=32 >> level
        )
        assert np.array_equal(around[level][:, :rows, columns:], last)


@pytest.mark.parametrize("name", ["top", "left", "height", "width"])
def test_a_window_between_latent_pixels_is_refused(name):
    place = {"top": 2, "left": 2, "height": 2, "width": 2, name: 3}
    with pytest.raises(ArgumentError, match=rf"^{name} is 3 LR pixels.*level 3.*size multiple"):
        window_noise(LEVELS, scale=4, seed=0, sample=0, **place)
