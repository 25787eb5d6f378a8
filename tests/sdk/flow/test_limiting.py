"""Limiting: latents that are too large become as large as true ones, and others stay to the bit."""

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ArgumentError, NonFiniteError
from srflow_sdk.flow.options import RESTORE_SCHEME, RestoreOptions
from srflow_sdk.flow.restoring import decide, limited
from srflow_sdk.latents import arrays
from srflow_sdk.latents.picture_latents import Latents

from ..latents.pictures import changed_by, normal_latents

TAUS = {1: 0.9, 2: 0.9, 3: 0.9}
ROWS, COLUMNS = 45, 35  # of level 1 that hold pixels of 90×70; padding has one more of each


def root_mean_square(values, axis):
    return np.sqrt(np.square(values.astype(np.float64)).mean(axis=axis))


@pytest.mark.parametrize("over", ["spatial", "local", "global"])
def test_latents_that_are_small_enough_stay_to_the_bit(over):
    latents = changed_by(normal_latents(), lambda _, array: array.clip(-0.8, 0.8) + 0.05)
    kept = limited(latents, TAUS, over=over)
    assert all(np.array_equal(kept.levels[level], latents.levels[level]) for level in TAUS)


def test_a_channel_that_is_too_large_gets_the_size_asked_for_and_the_others_stay():
    def loud(level, array):
        array *= 0.5
        array[2] = array[2] * 6 + 1
        return array

    latents = changed_by(normal_latents(), loud)
    found = limited(latents, TAUS, over="spatial").levels[1]
    assert root_mean_square(found[2, :ROWS, :COLUMNS], (0, 1)) == pytest.approx(0.9, rel=1e-6)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[others], latents.levels[1][others])


def test_padding_does_not_count():
    def padded_with_millions(level, array):
        array *= 0.5
        array[:, -(-90 >> level) :] = 1e6
        array[:, :, -(-70 >> level) :] = 1e6
        return array

    latents = changed_by(normal_latents(), padded_with_millions)
    found = limited(latents, TAUS, over="spatial").levels[1]
    np.testing.assert_array_equal(found[:, :ROWS, :COLUMNS], latents.levels[1][:, :ROWS, :COLUMNS])


def test_a_position_that_is_too_large_gets_the_size_asked_for_and_its_neighbours_stay():
    def dotted(level, array):
        array = array.clip(-0.8, 0.8)
        array[:, 3, 5] = 40
        return array

    latents = changed_by(normal_latents(), dotted)
    found = limited(latents, TAUS, over="local").levels[1]
    assert root_mean_square(found[:, 3, 5], 0) == pytest.approx(0.9, rel=1e-6)
    np.testing.assert_array_equal(found[:, :3], latents.levels[1][:, :3])


def test_a_level_shrinks_as_a_whole_over_global():
    latents = changed_by(normal_latents(), lambda level, array: array * np.float32({3: 0}.get(level, 3)))
    precise = Latents(dict(latents.levels), height=90, width=70, model_sha256="0" * 64, precision="int8")
    limited_too = limited(precise, {1: 0.9, 3: 0.9}, over="global")
    assert limited_too.precision == "int8"
    np.testing.assert_array_equal(limited_too.levels[2], latents.levels[2])  # without a temperature
    assert not limited_too.levels[3].any(), "zeros stay zeros"
    found = limited_too.levels[1]
    assert root_mean_square(found[:, :ROWS, :COLUMNS], (0, 1, 2)) == pytest.approx(0.9, rel=1e-6)
    ratio = found / latents.levels[1]
    assert np.ptp(ratio) < 1e-6


@pytest.mark.parametrize("over", ["spatial", "local"])
def test_the_answer_does_not_depend_on_the_chunks(monkeypatch, over):
    latents = changed_by(normal_latents(), lambda _, array: array * np.float32(3))
    whole = limited(latents, TAUS, over=over)
    monkeypatch.setattr(arrays, "_CHUNK", 700)
    parts = limited(latents, TAUS, over=over)
    assert all(np.array_equal(parts.levels[level], whole.levels[level]) for level in TAUS)


def test_infinite_latents_are_an_error_that_names_the_level():
    latents = changed_by(normal_latents(), lambda level, array: array * np.float32(np.inf if level == 2 else 1))
    with pytest.raises(NonFiniteError, match="level 2"):
        limited(latents, TAUS, over="spatial")


LEVELS = (1, 2, 3)
SMOOTH = np.asarray(Image.fromarray(np.uint8([[[80, 90, 70], [160, 150, 140]]])).resize((160, 160), Image.BICUBIC))


def noisy(deviation, shape=SMOOTH.shape):
    noise = np.random.default_rng(0).normal(0, deviation, shape)
    return np.clip(np.rint(SMOOTH + noise), 0, 255).astype(np.uint8)


def test_noise_is_found_in_colour_in_gray_and_shared_by_the_channels():
    shared = noisy(20, (160, 160, 1))
    for picture in (noisy(20), shared, np.repeat(shared[..., :1], 3, axis=2), shared[..., :1]):
        decision = decide(picture, RestoreOptions(), LEVELS)
        assert decision.over == "spatial"
        assert decision.taus[1] == 0.8
        assert 0.7 <= decision.taus[3] == decision.taus[2] <= 0.95
    assert decision.why == "noise of 17/255: spatial, τ 0.8"


def test_the_coarse_levels_shrink_with_noise_and_keep_texture():
    def tau(deviation, texture):
        waves = texture * np.sin(np.arange(160) / 5)
        picture = np.clip(np.rint(noisy(deviation) + waves[:, None]), 0, 255).astype(np.uint8)
        return decide(picture, RestoreOptions(), LEVELS).taus[3]

    by_noise = [tau(deviation, 30) for deviation in (5, 10, 20, 40, 80)]
    assert by_noise == sorted(by_noise, reverse=True)
    assert tau(5, 60) == 1.15
    assert tau(80, 5) < 0.6 + 0.1
    assert tau(20, 10) < tau(20, 30) < tau(20, 60)


def test_dots_are_limited_where_they_are():
    random = np.random.default_rng(0).random(SMOOTH.shape[:2])
    dotted = SMOOTH.copy()
    dotted[random < 0.01] = 0
    dotted[random > 0.99] = 255
    decision = decide(dotted, RestoreOptions(), LEVELS)
    assert (decision.over, decision.taus, decision.why) == (
        "local",
        dict.fromkeys(LEVELS, 1.0),
        "black and white dots: local, τ 1",
    )


@pytest.mark.parametrize("picture", [SMOOTH, noisy(2)])
def test_what_has_hardly_any_damage_is_left_alone_unless_the_options_say_so(picture):
    decision = decide(picture, RestoreOptions(), LEVELS)
    assert (decision.over, decision.why) == (None, "no damage found: copied unchanged")
    assert decide(picture, RestoreOptions(over="local"), LEVELS).over == "local"
    assert decide(picture, RestoreOptions(tau=0.5), LEVELS).taus == dict.fromkeys(LEVELS, 0.5)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"tau": 3}, "tau is 3"),
        ({"tau": float("nan")}, "tau is nan"),
        ({"tau": "auto"}, "tau is 'auto'"),
        ({"over": "everything"}, "over is 'everything'"),
    ],
)
def test_wrong_options_are_named(options, wrong):
    with pytest.raises(ArgumentError, match=wrong):
        RestoreOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        RestoreOptions(),
        RestoreOptions(tau=0.3, over="local"),
        RestoreOptions(tau={1: 0.1, 3: 0.2}, over="global"),
    ],
)
def test_what_is_recorded_gives_the_same_options(options):
    assert RestoreOptions.from_record(options.recorded()) == options


def test_records_of_another_version_and_damaged_ones_are_refused():
    newer = RestoreOptions().recorded().replace(f'"scheme": {RESTORE_SCHEME}', '"scheme": 99')
    with pytest.raises(ArgumentError, match="version 99"):
        RestoreOptions.from_record(newer)
    recorded = RestoreOptions(tau=1.0).recorded()
    forged = [recorded.replace('"tau": 1.0', f'"tau": {tau}') for tau in ("1" + "0" * 400, "[" * 100_000, '{"x": 1}')]
    long = recorded.replace('"auto"', f'"{"a" * 10_000}"')
    for damaged in ("", "[]", "{}", "null", long, *forged):
        with pytest.raises(ArgumentError) as caught:
            RestoreOptions.from_record(damaged)
        assert len(str(caught.value)) < 150
