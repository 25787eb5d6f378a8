"""`Upscaler()` is `Upscaler("auto")`: each picture is drawn by the embedded model that suits it,
whatever the door."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import (
    ArgumentError,
    AsyncUpscaler,
    BundleError,
    CancelledError,
    DeviceError,
    OutputSize,
    Upscaler,
    choose_model,
)
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.model_choice import KINDS, ModelChoice

from .clean_and_noisy import noisy, smooth
from .flow_bundle import write_flow_bundle
from .tiny_bundle import write_tiny_bundle

CPU = {"device": "cpu", "threads": 1}
PICTURES = {"x4-small": smooth(), "x4-photo": noisy(10)}


@pytest.fixture
def opened(monkeypatch):
    """The names of the models that were opened."""
    names = []
    real = Painter.__init__

    def remembered(self, bundle, *others):
        names.append(bundle.manifest.name)
        real(self, bundle, *others)

    monkeypatch.setattr(Painter, "__init__", remembered)
    return names


def test_each_picture_is_drawn_by_the_model_that_suits_it_which_is_opened_once(two_models, opened):
    expected = []
    for name, picture in PICTURES.items():
        with Upscaler(name, **CPU) as pinned:
            expected.append(pinned.upscale(picture, seed=2))
    opened.clear()
    with Upscaler(**CPU) as up:
        assert np.array_equal(up.upscale(smooth(), seed=2), expected[0])
        assert opened == ["x4-small"]
        with ThreadPoolExecutor(4) as pool:
            drawn = list(pool.map(lambda _: up.upscale(noisy(10), seed=2), range(4)))
        assert all(np.array_equal(one, expected[1]) for one in drawn), (
            "at the model's own temperature, too"
        )
        assert opened == ["x4-small", "x4-photo"]
        assert np.array_equal(up.encode(noisy(10)).sample(seed=2), expected[1])
        assert all(map(np.array_equal, up.upscale_many([smooth(), noisy(10)], seed=2), expected))
    for named in ("auto", None):
        with Upscaler(named, **CPU) as up:
            assert np.array_equal(up.upscale(noisy(10), seed=2), expected[1])


def _doors(path):
    return {
        "path": lambda: path,
        "text": lambda: str(path),
        "bytes": path.read_bytes,
        "stream": lambda: io.BytesIO(path.read_bytes()),
        "PIL": lambda: Image.open(path),
    }


def test_the_same_file_gets_the_same_model_through_every_door(two_models, tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(smooth(48)).save(path, quality=80)
    with Upscaler("x4-photo", **CPU) as photo, Upscaler(**CPU) as up:
        for door, image in _doors(path).items():
            drawn = np.asarray(photo.upscale(image()))
            assert np.array_equal(np.asarray(up.upscale(image())), drawn), door
            assert np.array_equal(np.asarray(up.encode(image()).sample()), drawn), door
        up.upscale_file(path, tmp_path / "one.png")
        assert read_provenance(tmp_path / "one.png").model == "x4-photo"
        assert (
            photo.upscale(path, layout="chw").tobytes() == up.upscale(path, layout="chw").tobytes()
        )

        async def awaited():
            async with AsyncUpscaler(**CPU) as waiting:
                assert (
                    (await waiting.upscale_file(path, tmp_path / "async.png"))
                    .outputs[0]
                    .provenance.model
                )
                return await waiting.upscale(str(path))

        assert np.array_equal(np.asarray(asyncio.run(awaited())), np.asarray(photo.upscale(path)))
    assert np.array_equal(
        read_image(tmp_path / "async.png").pixels, read_image(tmp_path / "one.png").pixels
    )


def test_there_is_no_one_bundle_and_the_error_names_them(two_models):
    with Upscaler(**CPU) as up:
        with pytest.raises(ArgumentError, match="name 'x4-small' or 'x4-photo'"):
            up.bundle  # noqa: B018
        assert (up.scale, up.device, up.precision) == (4, "cpu", "bundle")


def test_what_is_open_closes(two_models):
    up = Upscaler(**CPU)
    encodings = [up.encode(picture) for picture in PICTURES.values()]
    up.close()
    late = Upscaler(**CPU)
    late.close()
    drawing = [lambda p=p: up.upscale(p) for p in PICTURES.values()]
    for call in (
        *(encoding.sample for encoding in encodings),
        *drawing,
        lambda: late.upscale(noisy(10)),
    ):
        with pytest.raises(DeviceError, match="was closed"):
            call()


def test_looking_at_the_picture_is_cancelled(two_models, tmp_path, opened):
    write_image(tmp_path / "noisy.png", noisy(10))
    cancel = threading.Event()
    cancel.set()
    with Upscaler(**CPU) as up:
        with pytest.raises(CancelledError):
            up.upscale(noisy(10), cancel=cancel)
        with pytest.raises(CancelledError):
            up.encode(noisy(10), cancel=cancel)
        with pytest.raises(CancelledError):
            up.upscale_file(tmp_path / "noisy.png", tmp_path / "large.png", cancel=cancel)
        assert opened == ["x4-small"]


def test_one_model_left_is_the_only_one(two_models):
    (two_models / "x4-photo.srflow").rename(two_models / "gone")
    for model in (None, "auto"):
        with Upscaler(model, **CPU) as up:
            assert up.bundle.manifest.name == "x4-small"
    (two_models / "x4-small.srflow").rename(two_models / "gone-too")
    with pytest.raises(BundleError, match="no model 'x4-small'"):
        Upscaler(**CPU)


def test_files_are_verified_once_their_model_is_needed(two_models):
    sampler = two_models / "x4-photo.srflow" / "sampler.onnx"
    sampler.write_bytes(sampler.read_bytes()[::-1])
    with Upscaler(**CPU) as up:
        up.upscale(smooth())
        with pytest.raises(BundleError, match=r"x4-photo\.srflow: sampler\.onnx differs"):
            up.upscale(noisy(10))


def test_own_bundles_are_chosen_from_too(two_models):
    own = [Bundle.open(two_models / f"{name}.srflow") for name in PICTURES]
    with Upscaler(own, **CPU) as given, Upscaler(**CPU) as up:
        assert np.array_equal(given.upscale(noisy(10)), up.upscale(noisy(10)))
    for wrong in ([], [two_models], 7, ""):
        with pytest.raises(ArgumentError, match='must be "auto", the path of a bundle'):
            Upscaler(wrong, **CPU)


@pytest.fixture
def two_flows(tmp_path, monkeypatch):
    for name, tau in (("x4-small", 0.8), ("x4-photo", 0.5)):
        write_flow_bundle(
            tmp_path / f"{name}.srflow",
            name=name,
            default_tau=tau,
            removes_damage=name == "x4-photo",
        )
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", tmp_path)


def test_what_a_flow_does_besides_takes_the_model_for_clean_pictures(two_flows, opened):
    small = noisy(10)[:16, :16]
    large = noisy(10)[:64, :64]
    with (
        Upscaler("x4-small", **CPU) as clean,
        Upscaler("x4-photo", **CPU) as photo,
        Upscaler(**CPU) as up,
    ):
        assert np.array_equal(up.restore(large), clean.restore(large))
        assert up.log_likelihood(large) == clean.log_likelihood(large)
        mask = np.zeros((64, 64), bool)
        mask[20:40, 20:40] = True
        assert np.array_equal(
            up.transfer(large, large[::-1], mask), clean.transfer(large, large[::-1], mask)
        )

        def score(picture):
            return float(np.std(picture))

        assert np.array_equal(up.best_of(noisy(10), score, 2), clean.best_of(noisy(10), score, 2))
        del opened[:]
        encoding = up.encode(noisy(10)[:64, :64])
        assert opened == ["x4-photo"]
        hr = np.tile(large, (4, 4, 1))
        latents = encoding.invert(hr)
        assert latents.model_sha256 == clean.bundle.model_sha256
        mine = encoding.decode(latents)
        assert np.array_equal(mine, clean.encode(noisy(10)[:64, :64]).decode(latents))
        other = photo.encode(noisy(10)[:64, :64]).invert(hr)
        assert np.array_equal(
            encoding.decode(other), photo.encode(noisy(10)[:64, :64]).decode(other)
        )
        with pytest.raises(ArgumentError, match="it must be Latents"):
            encoding.decode(small)


# With "auto", the scale chooses the model, too: the smallest that enlarges so much, by what the
# manifests say.

CHOSEN = [
    (None, "x4-small", "x4-photo"),
    (1, "x2-small", "x4-photo"),
    (2, "x2-small", "x4-photo"),
    (2.01, "x4-small", "x4-photo"),
    (8, "x8-small", "x8-small"),
    (9, "x16-small", "x16-small"),
    (OutputSize(width=96), "x2-small", "x4-photo"),  # of a picture of 96×96
    (OutputSize(height=300), "x4-small", "x4-photo"),
    (OutputSize(width=500, height=1000), "x8-small", "x8-small"),
    (OutputSize(max_side=150), "x2-small", "x4-photo"),
    (OutputSize(max_side=5000), "x4-small", "x4-photo"),  # which asks for no more than it is
    (OutputSize(width=5000), "x16-small", "x16-small"),  # which cannot be
]


def test_the_smallest_model_that_enlarges_so_much(five_models):
    for scale, clean, damaged in CHOSEN:
        choice = choose_model(noisy(10), scale=scale)
        assert (choose_model(smooth(), scale=scale).name, choice.name) == (clean, damaged), scale
        assert choice.why.startswith("noise of ") or (
            damaged == clean and not isinstance(scale, OutputSize)
        )


def test_manifests_decide_not_names(tmp_path, monkeypatch):
    for name, fields in {
        "a": {"scale": 8},
        "b": {"scale": 2, "removes_damage": True},
        "c": {"scale": 2},
    }.items():
        write_tiny_bundle(tmp_path / f"{name}.srflow", name=name, **fields)
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", tmp_path)
    assert [choose_model(picture, scale=2).name for picture in (smooth(), noisy(10))] == ["c", "b"]
    assert choose_model(noisy(10), scale=3).name == "a"


def test_a_model_for_a_new_kind_of_pictures_is_a_bundle_and_a_row(two_models, monkeypatch):
    write_tiny_bundle(two_models / "x4-text.srflow", name="x4-text", made_for="text")
    pictures = smooth(), noisy(10), smooth()[:48]
    before = [choose_model(picture).name for picture in pictures]
    assert before == ["x4-small", "x4-photo", "x4-small"]  # nothing shows to be text yet
    monkeypatch.setitem(KINDS, "text", lambda seen: "letters" if seen.height == 48 else "")
    assert [choose_model(picture).name for picture in pictures[:2]] == before[:2]
    assert choose_model(pictures[2]) == ModelChoice(name="x4-text", why="letters")


def test_a_damaged_picture_is_cleaned_before_a_model_for_clean_ones_enlarges_it(
    five_models, tmp_path
):
    damaged = noisy(10)[:48, :48]
    drawn = {"scale": 8, "seed": 3}
    alpha = np.linspace(0, 255, 48).astype(np.uint8)[:, None].repeat(48, 1)
    source = tmp_path / "noisy.png"
    target = tmp_path / "large.png"
    write_image(source, damaged)
    with (
        Upscaler(**CPU) as up,
        Upscaler("x4-photo", **CPU) as photo,
        Upscaler("x8-small", **CPU) as large,
    ):
        expected = large.upscale(photo.upscale(damaged, tau=0, scale=1), **drawn)
        assert not np.array_equal(expected, large.upscale(damaged, **drawn))
        assert np.array_equal(up.upscale(damaged, **drawn), expected)
        assert np.array_equal(up.upscale(damaged, seed=3, scale=OutputSize(width=384)), expected)
        see_through = np.dstack([damaged, alpha])
        assert np.array_equal(
            up.upscale(see_through, **drawn)[..., 3], large.upscale(see_through, **drawn)[..., 3]
        )
        up.upscale_file(source, target, **drawn)
        assert np.array_equal(read_image(target).pixels, expected)
        assert read_provenance(target).cleaned_by == f"x4-photo {photo.bundle.model_sha256}"
        up.upscale_file(source, target, scale=4)
        assert read_provenance(target).cleaned_by is None


def test_a_scale_above_all_is_refused_with_those_that_there_are(five_models, two_models):
    fix = "ask for at most 16, upscale an output again, or name a bundle of your own"
    with Upscaler(**CPU) as up:
        with pytest.raises(
            ArgumentError,
            match=f"scale is 17, but the models here enlarge 2, 4, 8, 16 times: {fix}",
        ):
            up.upscale(smooth(), scale=17)
        with pytest.raises(
            ArgumentError, match="x4-small enlarges 4 times; ask for at most 4, name a model that"
        ):
            up.encode(smooth()).sample(scale=8)
    with pytest.raises(ArgumentError, match="it must be a number above 0"):
        choose_model(smooth(), scale=0)
