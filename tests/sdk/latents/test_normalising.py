import numpy as np
import pytest

from srflow_sdk import ArgumentError, Latents, NonFiniteError
from srflow_sdk.latents import arrays
from srflow_sdk.latents.arrays import mask_positions
from srflow_sdk.latents.normalising import STATISTICS_SCHEME, true_statistics
from tests.sdk.latents.pictures import LEVELS, MODEL, changed_by, normal_latents

HEIGHT = 90
WIDTH = 70
OVER = ["spatial", "local", "global"]


def real(latents, level):
    """A level without its padding, in float64."""
    step = 1 << level
    return latents.levels[level][:, : -(-HEIGHT // step), : -(-WIDTH // step)].astype(np.float64)


def unlikely():
    """Latents with another mean and deviation in every channel, and large ones in the padding."""
    rng = np.random.default_rng(5)

    def change(level, array):
        channels = len(array)
        array *= rng.uniform(0.2, 4, (channels, 1, 1))
        array += rng.uniform(-2, 2, (channels, 1, 1))
        array[:, -(-HEIGHT >> level) :] = 1000
        return array

    return changed_by(normal_latents(height=HEIGHT, width=WIDTH), change)


@pytest.mark.parametrize(
    ("over", "tau"), [("spatial", 0), ("spatial", 2.0), ("local", 0.8), ("global", 0.8)]
)
def test_a_collection_gets_the_drawn_mean_and_deviation(over, tau):
    result = unlikely().normalised(tau, over=over, seed=9)
    for entry in LEVELS:
        values = real(result, entry.level).reshape(entry.channels, -1)
        values = {"spatial": values, "local": values.T, "global": values.reshape(1, -1)}[over]
        drawn = true_statistics(9, entry.level, over, size=values.shape[1], count=len(values))
        np.testing.assert_allclose(values.mean(axis=1), tau * drawn.mean, atol=1e-6)
        np.testing.assert_allclose(values.std(axis=1, ddof=1), tau * drawn.deviation, rtol=1e-4)


@pytest.mark.parametrize(
    ("over", "axes"), [("spatial", (1, 2)), ("local", 0), ("global", (0, 1, 2))]
)
def test_only_the_mean_and_the_scale_of_a_collection_change_and_padding_neither_counts_nor_changes(
    over, axes
):
    latents = unlikely()
    other = changed_by(latents, lambda level, array: np.where(array == 1000, -7, array))
    one, two = (each.normalised({1: 0.9, 2: 0.9}, over=over) for each in (latents, other))

    def standard(values):
        return (values - values.mean(axis=axes, keepdims=True)) / values.std(
            axis=axes, keepdims=True
        )

    for level in (1, 2):
        np.testing.assert_allclose(
            standard(real(one, level)), standard(real(latents, level)), atol=2e-5
        )
        np.testing.assert_array_equal(real(one, level), real(two, level))
        rows = -(-HEIGHT >> level)
        np.testing.assert_array_equal(one.levels[level][:, rows:], latents.levels[level][:, rows:])
    np.testing.assert_array_equal(one.levels[3], latents.levels[3])  # without a temperature


@pytest.mark.parametrize("over", OVER)
def test_only_what_is_inside_where_counts_and_changes(over):
    where = np.zeros((HEIGHT, WIDTH), bool)
    where[21:60, 13:14] = where[70:, 30:] = True
    latents = unlikely()

    def outside_moved(level, array):
        inside = mask_positions(where, level)
        array[:, : inside.shape[0], : inside.shape[1]][:, ~inside] += 50
        return array

    one = latents.normalised(0.7, over=over, where=where)
    two = changed_by(latents, outside_moved).normalised(0.7, over=over, where=where)
    for level in latents.levels:
        inside = mask_positions(where, level)
        before = real(latents, level)
        after = real(one, level)
        if over == "global":  # what is drawn is for the positions inside
            drawn = true_statistics(0, level, "global", size=len(after) * int(inside.sum()))
            assert after[:, inside].std(ddof=1) == pytest.approx(0.7 * drawn.deviation[0], rel=1e-5)
        np.testing.assert_array_equal(after[:, ~inside], before[:, ~inside])
        assert (after[:, inside] != before[:, inside]).mean() > 0.99
        np.testing.assert_array_equal(after[:, inside], real(two, level)[:, inside])


@pytest.mark.parametrize("over", OVER)
def test_result_does_not_depend_on_how_rows_are_cut(over, monkeypatch):
    where = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.05
    expected = unlikely().normalised(0.9, over=over, where=where)
    for chunk in (1, 3000):
        monkeypatch.setattr(arrays, "_CHUNK", chunk)
        result = unlikely().normalised(0.9, over=over, where=where)
        for level, array in expected.levels.items():
            np.testing.assert_array_equal(result.levels[level], array)


def test_a_single_latent_stays_as_it_is():
    latents = Latents({1: np.full((1, 1, 1), 7, np.float32)}, height=2, width=2, model_sha256=MODEL)
    for over in ("spatial", "local", "global"):
        assert latents.normalised(0.5, over=over).levels[1].item() == 7
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    for over in ("spatial", "local", "global"):
        result = unlikely().normalised(0.5, over=over, where=nothing)
        np.testing.assert_array_equal(result.levels[2], unlikely().levels[2])


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("values", [(np.nan, 0), (np.inf, 0), (np.inf, -np.inf)])
@pytest.mark.filterwarnings("error")
def test_latents_that_are_not_finite_are_refused_if_they_count(over, values):
    def damaged(level, array):
        if level == 2:
            array[0:2, 5, 6] = values
        return array

    latents = changed_by(normal_latents(height=HEIGHT, width=WIDTH), damaged)
    with pytest.raises(
        NonFiniteError, match=r"^the latents of level 2 hold NaN or infinite values"
    ):
        latents.normalised(0.9, over=over)
    where = np.zeros((HEIGHT, WIDTH), bool)
    where[40:] = True
    assert np.isfinite(latents.normalised(0.9, over=over, where=where).levels[2][:, 10:]).all()
    latents.normalised({1: 0.9, 3: 0.9}, over=over)


def test_odd_arguments_are_refused_in_one_line():
    latents = normal_latents(height=HEIGHT, width=WIDTH)
    cases = [
        ({"tau": 2.1}, r"^tau is 2\.1; it must be a finite number from 0 to 2$"),
        ({"tau": {1: -1}}, r"^tau of level 1 is -1"),
        ({"tau": {4: 1}}, r"^tau names level 4; these latents have 1, 2, 3$"),
        (
            {"tau": 1, "over": "channel"},
            r"^over is 'channel'; it must be one of spatial, local, global$",
        ),
        (
            {"tau": 1, "where": np.ones((70, 90), bool)},
            r"^where is of bool and shape \(70, 90\); it must .* 90×70$",
        ),
    ]
    for arguments, message in cases:
        with pytest.raises(ArgumentError, match=message):
            latents.normalised(**arguments)


# The statistics that are drawn.


GOLDEN = {  # means and deviations of two collections
    (
        0,
        1,
        "spatial",
        1000,
        0,
    ): "0x1.cd7433d8dbdbep-5 0x1.ad34dcfd6fde0p-6 0x1.0716a0d1d41fdp+0 0x1.f73378b878ebdp-1",
    (2**63 + 7, 3, "local", 48, 123456): (
        "-0x1.4133888cb7df7p-4 -0x1.763b9e46471c0p-2 0x1.12ef8d51c4603p+0 0x1.0135d5ca6b3a3p+0"
    ),
    (
        5,
        2,
        "local",
        2,
        9,
    ): "0x1.821c120972f49p-1 0x1.6bf40beb293d2p-1 0x1.e65636d331a12p+0 0x1.1b9023408919dp-2",
    (0, 2, "global", 5_000_000, 0): (
        "-0x1.1458a3d495dbcp-11 -0x1.bf9fbaa871195p-13 0x1.ffc5014ef1871p-1 0x1.ffe147feb5a16p-1"
    ),
}


def test_golden_values_of_statistics_1():
    """Never change these: other statistics are a new STATISTICS_SCHEME."""
    assert STATISTICS_SCHEME == 1
    for (seed, level, over, size, first), expected in GOLDEN.items():
        drawn = true_statistics(seed, level, over, size=size, first=first, count=2)
        assert (
            " ".join(value.hex() for value in (*drawn.mean.tolist(), *drawn.deviation.tolist()))
            == expected
        )


def test_draws_do_not_depend_on_how_collections_are_grouped():
    # enough for a few that need a second block
    whole = true_statistics(3, 2, "local", size=3, count=40_000)
    for first, count in ((0, 1), (39_999, 1), (11_111, 20_000)):
        part = true_statistics(3, 2, "local", size=3, first=first, count=count)
        np.testing.assert_array_equal(part.mean, whole.mean[first : first + count])
        np.testing.assert_array_equal(part.deviation, whole.deviation[first : first + count])
