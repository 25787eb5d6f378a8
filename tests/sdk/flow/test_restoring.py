"""Upscaler.restore and best_of."""

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from srflow_sdk import Upscaler
from srflow_sdk.drawing.inverting import reduced_image
from srflow_sdk.errors import ArgumentError, CancelledError
from srflow_sdk.flow.options import RESTORE_SCHEME, RestoreOptions
from srflow_sdk.flow.restoring import decide, limit_latents
from tests.sdk.latents.pictures import changed_by, normal_latents
from tests.sdk.pixels.icc_writer import ADOBE_RGB, gamma_curve, matrix_profile

from .conftest import noisy_waves

KINDS = {
    "uint16": lambda picture: picture.astype(np.uint16) * 257,
    "float64": lambda picture: picture / 255,
    "gray": lambda picture: picture[..., 0],
    "PIL": Image.fromarray,
    "RGBA": lambda picture: np.dstack([picture, picture[::-1, :, 0]]),
    "LA": lambda picture: picture[..., :2],
}


@pytest.fixture(scope="module")
def noisy():
    """A uint8 picture with noise and sides that are no multiple of anything, 71×58×3."""
    return noisy_waves(71, 58, noise=20)


def test_restoring_is_reducing_inverting_limiting_and_decoding(flow, noisy):
    encoding = flow.encode(reduced_image(noisy, flow.bundle.manifest))
    latents = encoding.invert(noisy)
    taus = dict.fromkeys(latents.levels, 0.4)
    wanted = encoding.decode(limit_latents(latents, taus, over="spatial"))
    restored = flow.restore(noisy, tau=0.4, over="spatial")
    np.testing.assert_array_equal(restored, wanted)
    assert np.abs(restored.astype(int) - noisy).max() > 10


def written(text, *, size, on, ink):
    page = on.copy()
    for top in range(4, page.height, round(1.5 * size)):
        ImageDraw.Draw(page).text((4, top), text, ink, ImageFont.load_default(size))
    return np.asarray(page)


CAT = Image.open(Path(__file__).parents[3] / "examples" / "photos" / "cat.png").convert("RGB")
CLEAN = {
    "text": lambda: written(
        "sphinx of black quartz",
        size=14,
        on=Image.new("RGB", (160, 128), "white"),
        ink="black",
    ),
    "terminal": lambda: written(
        "judge my vow",
        size=11,
        on=Image.new("RGB", (160, 128), "#1e1e24"),
        ink="#dcdcdc",
    ),
    "caption": lambda: written(
        "sphinx of black quartz",
        size=11,
        on=CAT.crop((0, 0, 160, 128)),
        ink="white",
    ),
    "photograph": lambda: np.asarray(CAT.crop((0, 0, 160, 128))),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_pictures_come_back_as_they_were_text_and_captions_too(embedded, name):
    picture = CLEAN[name]()
    np.testing.assert_array_equal(embedded.restore(picture), picture)


def error(one, other):
    return float(np.mean((one.astype(float) - other) ** 2))


def test_noise_and_dots_become_less(embedded):
    photo = CLEAN["photograph"]()
    random = np.random.default_rng(0)
    noisy = np.clip(np.rint(photo + random.normal(0, 10, photo.shape)), 0, 255).astype(np.uint8)
    assert error(embedded.restore(noisy), photo) < 0.7 * error(noisy, photo)
    dotted = photo.copy()
    dotted[random.random(photo.shape[:2]) < 0.01] = 0
    dotted[random.random(photo.shape[:2]) < 0.01] = 255
    assert error(embedded.restore(dotted), photo) < 0.4 * error(dotted, photo)


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_has_the_kind_and_size_of_the_picture(flow, noisy, kind):
    image = KINDS[kind](noisy)
    restored = flow.restore(image, tau=0.5)
    assert type(restored) is type(image)
    before = np.asarray(image)
    after = np.asarray(restored)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert not np.array_equal(after, before)
    if kind in ("RGBA", "LA"):
        np.testing.assert_array_equal(after[..., -1], before[..., -1])


def test_it_does_not_depend_on_the_tiles(flow_bundle, flow, noisy):
    image = noisy / np.float32(255)
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as tiled:
        np.testing.assert_allclose(
            tiled.restore(image, tau=0.4),
            flow.restore(image, tau=0.4),
            atol=1e-3,
        )


def test_progress_counts_the_tiles_of_all_three_passes(flow_bundle, noisy):
    told = []
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as tiled:
        tiled.restore(noisy, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]  # two tiles, encoded, inverted and decoded


def test_it_can_be_cancelled_in_any_pass(flow_bundle, noisy):
    with Upscaler(flow_bundle, device="cpu", threads=1, tile=16) as tiled:
        for last in (1, 3, 5):
            cancel = threading.Event()

            def stop(done, total, last=last, cancel=cancel):
                assert done <= last
                if done == last:
                    cancel.set()

            with pytest.raises(CancelledError):
                tiled.restore(noisy, progress=stop, cancel=cancel)


def test_a_clean_picture_whose_call_is_cancelled_is_not_returned(flow):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        flow.restore(np.full((64, 64, 3), 128, np.uint8), cancel=cancel)


def test_levels_that_the_model_does_not_have_are_refused(flow, noisy):
    with pytest.raises(ArgumentError, match="level 7"):
        flow.restore(noisy, tau={7: 0.5})


def test_best_of_is_the_sample_with_the_highest_score(flow, noisy):
    small = noisy[:20, :24]
    samples = flow.encode(small).samples(5, tau=1.5, sample=3)
    wanted = max(samples, key=lambda picture: picture.std())
    np.testing.assert_array_equal(
        flow.best_of(small, lambda picture: picture.std(), 5, tau=1.5, sample=3),
        wanted,
    )
    told = []
    first = flow.best_of(
        small,
        lambda _: -np.inf,
        3,
        tau=1,
        progress=lambda *step: told.append(step),
    )
    np.testing.assert_array_equal(first, flow.upscale(small, tau=1), "of equal scores")
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("value", [float("nan"), "high", None, 10**400, 10**5000], ids=lambda _: "")
def test_scores_that_are_no_numbers_are_refused(flow, noisy, value):
    scores = itertools.chain([1.0], itertools.repeat(value))
    with pytest.raises(ArgumentError, match=r"score returned .* for sample 1"):
        flow.best_of(noisy[:20, :24], lambda _: next(scores), 3)


@pytest.fixture(scope="module")
def face():
    """A clean photograph, 112×112×3."""
    photo = Path(__file__).parents[3] / "export/srflow_export/photos/face.png"
    return np.asarray(Image.open(photo).convert("RGB"))


def cut_out(photo, hidden):
    """The photo with alpha, a circle with other colours around it, and whether pixels are inside
    the circle."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    inside = (y - photo.shape[0] / 2) ** 2 + (x - photo.shape[1] / 2) ** 2 < (
        0.4 * photo.shape[0]
    ) ** 2
    colours = photo if hidden is None else np.where(inside[..., None], photo, np.uint8(hidden))
    return np.dstack([colours, np.where(inside, 255, 0).astype(np.uint8)]), inside


@pytest.mark.parametrize("hidden", [0, None])
def test_a_clean_cut_out_comes_back_without_halos(embedded, face, hidden):
    image, inside = cut_out(face, hidden)
    restored = embedded.restore(image)
    assert np.abs(restored.astype(int) - image)[inside].max() <= 1
    np.testing.assert_array_equal(restored[~inside], image[~inside])


def test_a_cut_out_is_about_as_likely_as_its_photo(embedded, face):
    image, _ = cut_out(face, 255)
    assert embedded.log_likelihood(image) == pytest.approx(embedded.log_likelihood(face), rel=0.05)


def test_a_file_with_a_profile_is_restored_as_its_picture_is(flow, noisy, tmp_path):
    Image.fromarray(noisy).save(
        tmp_path / "wide.png",
        icc_profile=matrix_profile(ADOBE_RGB, gamma_curve(563 / 256)),
    )
    with Image.open(tmp_path / "wide.png") as picture:
        wanted = flow.restore(picture.copy(), tau=0.4, over="spatial")
    flow.restore_file(tmp_path / "wide.png", tmp_path / "clean.png", tau=0.4, over="spatial")
    with Image.open(tmp_path / "clean.png") as restored:
        np.testing.assert_array_equal(np.asarray(restored), np.asarray(wanted))


# Latents that are too large become as large as true ones, and others stay to the bit.


TAUS = {1: 0.9, 2: 0.9, 3: 0.9}


@pytest.mark.parametrize(
    ("over", "axes"),
    [("spatial", (1, 2)), ("local", 0), ("global", (0, 1, 2))],
)
def test_collections_that_are_too_large_get_the_size_asked_for_and_others_stay_to_the_bit(
    over, axes
):
    def changed(level, array):
        array *= {1: 0.7, 2: 0.3, 3: 3}[level] * np.linspace(0.2, 2, len(array))[
            :, None, None
        ].astype(np.float32)
        array[:, 3, 5] = 40
        # padding, which does not count
        array[:, -(-90 >> level) :] = array[:, :, -(-70 >> level) :] = 1e6
        return array

    latents = changed_by(normal_latents(), changed)
    found = limit_latents(latents, {1: 0.9, 2: 0.9}, over=over)
    for level in (1, 2):
        whole = (slice(None), slice(-(-90 >> level)), slice(-(-70 >> level)))
        before = latents.levels[level][whole]
        after = found.levels[level][whole]
        size = np.sqrt(np.square(before.astype(np.float64)).mean(axis=axes, keepdims=True))
        np.testing.assert_allclose(after, before * np.minimum(1, 0.9 / size), rtol=1e-5)
        small = np.broadcast_to(size <= 0.9, before.shape)
        np.testing.assert_array_equal(after[small], before[small])
    np.testing.assert_array_equal(found.levels[3], latents.levels[3])  # without a temperature


LEVELS = (1, 2, 3)
SMOOTH = np.asarray(
    Image.fromarray(np.uint8([[[80, 90, 70], [160, 150, 140]]])).resize((160, 160), Image.BICUBIC),
)


def smooth_with_noise(deviation, shape=SMOOTH.shape):
    noise = np.random.default_rng(0).normal(0, deviation, shape)
    return np.clip(np.rint(SMOOTH + noise), 0, 255).astype(np.uint8)


def test_noise_is_found_in_colour_in_gray_and_shared_by_the_channels():
    shared = smooth_with_noise(20, (160, 160, 1))
    for picture in (
        smooth_with_noise(20),
        shared,
        np.repeat(shared[..., :1], 3, axis=2),
        shared[..., :1],
    ):
        decision = decide(picture, RestoreOptions(), LEVELS)
        assert decision.over == "spatial"
        assert decision.taus[1] == 0.8
        assert 0.7 <= decision.taus[3] == decision.taus[2] <= 0.95
    assert decision.why == "noise of 17/255: spatial, τ 0.8"


def test_the_coarse_levels_shrink_with_noise_and_keep_texture():
    def tau(deviation, texture):
        waves = texture * np.sin(np.arange(160) / 5)
        picture = np.clip(np.rint(smooth_with_noise(deviation) + waves[:, None]), 0, 255).astype(
            np.uint8
        )
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
        dict.fromkeys(LEVELS, 0.9),
        "black and white dots: local, τ 0.9",
    )


@pytest.mark.parametrize("picture", [SMOOTH, smooth_with_noise(2)])
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
    forged = recorded.replace('"tau": 1.0', f'"tau": {"[" * 100_000}')
    long = recorded.replace('"auto"', f'"{"a" * 10_000}"')
    for damaged in ("", "[]", long, forged):
        with pytest.raises(ArgumentError) as caught:
            RestoreOptions.from_record(damaged)
        assert len(str(caught.value)) < 150
