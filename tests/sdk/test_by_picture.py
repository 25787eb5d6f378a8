"""`Upscaler()` is `Upscaler("auto")`: each picture is drawn by the embedded model that suits it, whatever the door."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import ArgumentError, AsyncUpscaler, BundleError, CancelledError, DeviceError, Upscaler, upscale_folder
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.model import model_choice as module
from srflow_sdk.model.bundle import Bundle

from .clean_and_noisy import noisy, smooth
from .flow_bundle import write_flow_bundle

CPU: dict[str, Any] = {"device": "cpu", "threads": 1}
PICTURES = {"x4-small": smooth(), "x4-photo": noisy(10)}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were opened."""
    names: list[str] = []
    real = Painter.__init__

    def remembered(self: Painter, bundle: Bundle, *others: Any) -> None:
        names.append(bundle.manifest.name)
        real(self, bundle, *others)

    monkeypatch.setattr(Painter, "__init__", remembered)
    return names


@pytest.mark.parametrize("named", [(), ("auto",), (None,)])
def test_each_picture_is_drawn_by_the_model_that_suits_it(two_models: Path, named: tuple[Any, ...]) -> None:
    with Upscaler(*named, **CPU) as up:
        for name, picture in PICTURES.items():
            with Upscaler(name, **CPU) as pinned:
                expected = pinned.upscale(picture, seed=2)
                assert np.array_equal(up.upscale(picture, seed=2), expected), "at the model's own temperature, too"
                assert np.array_equal(up.encode(picture).sample(seed=2), expected)


def test_the_second_model_is_opened_once_a_picture_needs_it(two_models: Path, opened: list[str]) -> None:
    with Upscaler(**CPU) as up:
        up.upscale(smooth())
        assert opened == ["x4-small"]
        for _ in range(2):
            up.upscale(noisy(10))
        assert opened == ["x4-small", "x4-photo"]


def _doors(path: Path) -> dict[str, Callable[[], Any]]:
    return {
        "path": lambda: path,
        "text": lambda: str(path),
        "bytes": path.read_bytes,
        "stream": lambda: io.BytesIO(path.read_bytes()),
        "PIL": lambda: Image.open(path),
    }


def test_the_same_file_gets_the_same_model_through_every_door(two_models: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(smooth()).save(path, quality=80)  # as an array it is clean
    with Upscaler("x4-photo", **CPU) as photo, Upscaler(**CPU) as up:
        for door, image in _doors(path).items():
            assert np.array_equal(np.asarray(up.upscale(image())), np.asarray(photo.upscale(image()))), door
            assert np.array_equal(np.asarray(up.encode(image()).sample()), np.asarray(photo.upscale(image()))), door
        up.upscale_file(path, tmp_path / "one.png")
        upscale_folder(path, tmp_path / "default")
        upscale_folder(path, tmp_path / "given", upscaler=up)
        written = [tmp_path / "one.png", *(tmp_path / folder / "photo.png" for folder in ("default", "given"))]
        assert [read_provenance(file).model for file in written] == ["x4-photo"] * 3  # type: ignore[union-attr]

        async def drawn() -> Any:
            async with AsyncUpscaler(**CPU) as waiting:
                assert (await waiting.upscale_file(path, tmp_path / "async.png")).outputs[0].provenance.model
                return await waiting.upscale(str(path))

        assert np.array_equal(np.asarray(asyncio.run(drawn())), np.asarray(photo.upscale(path)))
    assert np.array_equal(read_image(tmp_path / "async.png").pixels, read_image(tmp_path / "one.png").pixels)


def test_a_folder_says_which_models_drew(two_models: Path, tmp_path: Path) -> None:
    for name, picture in PICTURES.items():
        write_image(tmp_path / f"{name}.png", picture)
    with Upscaler(**CPU) as up:
        result = upscale_folder(tmp_path, tmp_path / "out", upscaler=up)
    assert {file.source.stem: file.model for file in result.files} == {name: name for name in PICTURES}
    assert all(file.why for file in result.files)


def test_there_is_no_one_bundle_and_the_error_names_them(two_models: Path) -> None:
    with Upscaler(**CPU) as up:
        with pytest.raises(ArgumentError, match="name 'x4-small' or 'x4-photo'"):
            up.bundle  # noqa: B018
        assert (up.scale, up.device, up.precision) == (4, "cpu", "bundle")


def test_a_name_or_a_path_pins_one_model(two_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("x4-photo", two_models / "x4-photo.srflow", Bundle.embedded("x4-photo")):
        with Upscaler(model, **CPU) as up:
            assert up.bundle.manifest.name == "x4-photo"
            with monkeypatch.context() as patch:
                patch.setattr(module, "measure_damage", None)
                up.upscale(smooth())


def test_what_is_open_closes(two_models: Path) -> None:
    up = Upscaler(**CPU)
    encodings = [up.encode(picture) for picture in PICTURES.values()]
    up.close()
    for call in (*(encoding.sample for encoding in encodings), *(lambda p=p: up.upscale(p) for p in PICTURES.values())):
        with pytest.raises(DeviceError, match="was closed"):
            call()
    late = Upscaler(**CPU)
    late.close()
    with pytest.raises(DeviceError, match="was closed"):
        late.upscale(noisy(10))


def test_looking_at_the_picture_is_cancelled(two_models: Path, tmp_path: Path, opened: list[str]) -> None:
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


def test_threads_open_the_second_model_once(two_models: Path, opened: list[str]) -> None:
    with Upscaler(**CPU) as up:
        threads = [threading.Thread(target=up.upscale, args=(noisy(10),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert opened == ["x4-small", "x4-photo"]


def test_one_model_left_is_the_only_one(two_models: Path) -> None:
    (two_models / "x4-photo.srflow").rename(two_models / "gone")
    for model in (None, "auto"):
        with Upscaler(model, **CPU) as up:
            assert up.bundle.manifest.name == "x4-small"
    (two_models / "x4-small.srflow").rename(two_models / "gone-too")
    with pytest.raises(BundleError, match="no model 'x4-small'"):
        Upscaler(**CPU)


def test_files_are_verified_once_their_model_is_needed(two_models: Path) -> None:
    sampler = two_models / "x4-photo.srflow" / "sampler.onnx"
    sampler.write_bytes(sampler.read_bytes()[::-1])
    with Upscaler(**CPU) as up:
        up.upscale(smooth())
        with pytest.raises(BundleError, match=r"x4-photo\.srflow: sampler\.onnx differs"):
            up.upscale(noisy(10))


def test_own_bundles_are_chosen_from_too(two_models: Path) -> None:
    own = [Bundle.open(two_models / f"{name}.srflow") for name in PICTURES]
    with Upscaler(own, **CPU) as given, Upscaler(**CPU) as up:
        assert np.array_equal(given.upscale(noisy(10)), up.upscale(noisy(10)))
    for wrong in ([], [two_models], 7, ""):
        with pytest.raises(ArgumentError, match='must be "auto", the path of a bundle'):
            Upscaler(wrong, **CPU)  # type: ignore[arg-type]


@pytest.fixture
def two_flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, tau in (("x4-small", 0.8), ("x4-photo", 0.5)):
        write_flow_bundle(tmp_path / f"{name}.srflow", name=name, default_tau=tau, removes_damage=name == "x4-photo")
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", tmp_path)


def test_what_a_flow_does_besides_takes_the_model_for_clean_pictures(two_flows: None, opened: list[str]) -> None:
    small, large = noisy(10)[:16, :16], noisy(10)[:64, :64]
    with Upscaler("x4-small", **CPU) as clean, Upscaler("x4-photo", **CPU) as photo, Upscaler(**CPU) as up:
        assert np.array_equal(up.restore(large), clean.restore(large))
        assert up.log_likelihood(large) == clean.log_likelihood(large)
        mask = np.zeros((64, 64), bool)
        mask[20:40, 20:40] = True
        assert np.array_equal(up.transfer(large, large[::-1], mask), clean.transfer(large, large[::-1], mask))

        def score(picture: Any) -> float:
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
        assert np.array_equal(encoding.decode(other), photo.encode(noisy(10)[:64, :64]).decode(other))
        with pytest.raises(ArgumentError, match="it must be Latents"):
            encoding.decode(small)
