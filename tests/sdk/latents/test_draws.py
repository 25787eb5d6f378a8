import math

import numpy as np
import pytest

from srflow_sdk.latents.normalising import STATISTICS_SCHEME, true_statistics
from srflow_sdk.latents.random_field import normal_from_words
from tests.sdk.latents.test_random_field import MASK, philox4x64_10

KINDS = {"spatial": 1, "local": 2, "global": 3}
GOLDEN = {  # means and deviations of two collections
    (0, 1, "spatial", 1000, 0): "0x1.cd7433d8dbdbep-5 0x1.ad34dcfd6fde0p-6 0x1.0716a0d1d41fdp+0 0x1.f73378b878ebdp-1",
    (2**63 + 7, 3, "local", 48, 123456): (
        "-0x1.4133888cb7df7p-4 -0x1.763b9e46471c0p-2 0x1.12ef8d51c4603p+0 0x1.0135d5ca6b3a3p+0"
    ),
    (5, 2, "local", 2, 9): "0x1.821c120972f49p-1 0x1.6bf40beb293d2p-1 0x1.e65636d331a12p+0 0x1.1b9023408919dp-2",
    (0, 2, "global", 5_000_000, 0): (
        "-0x1.1458a3d495dbcp-11 -0x1.bf9fbaa871195p-13 0x1.ffc5014ef1871p-1 0x1.ffe147feb5a16p-1"
    ),
}


def words_of(block):
    return [part for word in block for part in (word & 0xFFFFFFFF, word >> 32)]


def reference(seed, level, over, collection, size):
    """Statistics 1 as its documentation says, one collection at a time, with the library's logarithm."""

    def block(number):
        return words_of(philox4x64_10((collection + 1, number, 0, (KINDS[over] << 32) + level), (seed, 0)))

    def normal(word):
        return float(normal_from_words(np.array([word], np.uint32))[0])

    shape = (size - 1) / 2 + (1 if size == 2 else 0)
    d = shape - 1 / 3
    c = 1 / (3 * math.sqrt(d))
    first = block(0)
    for attempt in range(300):
        words = block(attempt // 3)
        x, u = normal(words[2 + 2 * (attempt % 3)]), (words[3 + 2 * (attempt % 3)] + 0.5) / 2**32
        w = (1 + c * x) ** 3
        if w > 0 and math.log(u) < 0.5 * x * x + d - d * w + d * math.log(w):
            break
    gamma = d * w * (((first[1] + 0.5) / 2**32) ** 2 if size == 2 else 1)
    return normal(first[0]) / math.sqrt(size), math.sqrt(2 * gamma / (size - 1))


@pytest.mark.parametrize(("over", "size", "count"), [("spatial", 1000, 40), ("local", 3, 400), ("local", 2, 400)])
@pytest.mark.parametrize(("seed", "level"), [(0, 1), (MASK, 3)])
def test_draws_are_those_of_the_documented_blocks(over, size, count, seed, level):
    drawn = true_statistics(seed, level, over, size=size, first=7, count=count)
    expected = np.array([reference(seed, level, over, 7 + index, size) for index in range(count)])
    np.testing.assert_array_equal(drawn.mean, expected[:, 0])
    np.testing.assert_allclose(drawn.deviation, expected[:, 1], rtol=1e-12)


def test_golden_values_of_statistics_1():
    """Never change these: other statistics are a new STATISTICS_SCHEME."""
    assert STATISTICS_SCHEME == 1
    for (seed, level, over, size, first), expected in GOLDEN.items():
        drawn = true_statistics(seed, level, over, size=size, first=first, count=2)
        assert " ".join(value.hex() for value in (*drawn.mean.tolist(), *drawn.deviation.tolist())) == expected


def test_draws_do_not_depend_on_how_collections_are_grouped():
    whole = true_statistics(3, 2, "local", size=3, count=40_000)  # enough for a few that need a second block
    for first, count in ((0, 1), (39_999, 1), (11_111, 20_000)):
        part = true_statistics(3, 2, "local", size=3, first=first, count=count)
        np.testing.assert_array_equal(part.mean, whole.mean[first : first + count])
        np.testing.assert_array_equal(part.deviation, whole.deviation[first : first + count])


def test_draws_that_reject_a_whole_block_take_the_next():
    def rejected(index):
        words = words_of(philox4x64_10((index + 1, 0, 0, (2 << 32) + 1), (0, 0)))
        d = 1 - 1 / 3
        normals = normal_from_words(np.array(words[2::2], np.uint32)).astype(float)
        w = np.maximum((1 + normals / (3 * math.sqrt(d))) ** 3, 1e-300)
        u = (np.array(words[3::2]) + 0.5) / 2**32
        return not (np.log(u) < 0.5 * normals**2 + d - d * w + d * np.log(w)).any()

    found = next(index for index in range(200_000) if rejected(index))
    drawn = true_statistics(0, 1, "local", size=3, first=found)
    mean, deviation = reference(0, 1, "local", found, 3)
    assert drawn.mean[0] == mean
    assert drawn.deviation[0] == pytest.approx(deviation, rel=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4, 6, 12, 48, 5000])
def test_draws_are_distributed_as_the_mean_and_deviation_of_normal_numbers(size):
    stats = pytest.importorskip("scipy.stats")
    drawn = true_statistics(1, 1, "local", size=size, count=100_000)
    squares = drawn.deviation**2 * (size - 1)
    assert stats.kstest(drawn.mean * math.sqrt(size), "norm").pvalue > 0.001
    assert stats.kstest(squares, "chi2", args=(size - 1,)).pvalue > 0.001
    assert abs(np.corrcoef(drawn.mean, drawn.deviation)[0, 1]) < 5 / math.sqrt(100_000)


def test_seeds_levels_and_kinds_give_unrelated_draws():
    draws = [
        true_statistics(seed, level, over, size=12, count=2000)
        for seed in (0, 1)
        for level in (1, 2)
        for over in ("spatial", "local", "global")
    ]
    rows = np.stack([row for drawn in draws for row in (drawn.mean, drawn.deviation)])
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 5 / math.sqrt(2000)
