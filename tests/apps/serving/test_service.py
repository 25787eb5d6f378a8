"""What the service draws for a request, and what it refuses."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_apps.serving.service import PictureService
from srflow_sdk.backends import Backend, OnnxRuntimeBackend
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.errors import ArgumentError, OutOfMemoryError, SRFlowError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import ServingOptions
from srflow_sdk.pixels.in_memory import from_unit
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle


def one(value: float, dtype: Any) -> np.ndarray:
    return np.array([value], dtype)


def drawn(
    tau: float = 0.9, seed: int = 3, samples: int = 1, sample: int = 0
) -> dict[str, np.ndarray]:
    return {
        "tau": one(tau, np.float32),
        "seed": one(seed, np.int64),
        "samples": one(samples, np.int32),
        "sample": one(sample, np.int64),
    }


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_file_gives_what_upscaler_gives_as_rgb(
    service: PictureService, upscaler: Upscaler, photo: np.ndarray, mode: str
) -> None:
    content = io.BytesIO()
    Image.fromarray(photo).convert(mode).save(content, "PNG")
    found = service.answer({"image_bytes": np.array([content.getvalue()], np.object_), **drawn()})[
        "upscaled"
    ]
    wanted = upscaler.upscale(content.getvalue(), tau=0.9, seed=3).convert("RGB")
    assert np.array_equal(found, [np.asarray(wanted)])


@pytest.fixture
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures as the network gives them, as tiles are."""
    monkeypatch.setattr(ChromaBounds, "limit", lambda self, picture: picture)


@pytest.mark.usefixtures("unbounded")
def test_tiles_of_a_client_join_to_the_picture(
    service: PictureService, upscaler: Upscaler, photo: np.ndarray
) -> None:
    photo = photo[:44, :60]
    lr = photo.astype(np.float32) / np.float32(255)
    halo = 6
    whole = np.empty((2, 176, 240, 3), np.float32)
    for left, right in ((0, 24), (24, 60)):
        seen_left = max(left - halo, 0)
        seen_right = min(right + halo, 60)
        inputs = {
            "tile": lr[:, seen_left:seen_right],
            "origin": np.array([0, seen_left]),
            **drawn(samples=2),
        }
        tile = service.answer(inputs)["tile_upscaled"]
        whole[:, :, 4 * left : 4 * right] = tile[
            :, :, 4 * (left - seen_left) : 4 * (right - seen_left)
        ]
    wanted = upscaler.encode(photo).samples(2, tau=0.9, seed=3)
    assert np.array_equal(from_unit(whole, np.dtype(np.uint8)), wanted)


@pytest.mark.usefixtures("unbounded")
def test_a_tau_map_at_a_place_gives_what_the_whole_pictures_map_gives(
    service: PictureService, upscaler: Upscaler, photo: np.ndarray
) -> None:
    photo = photo[:44, :60]
    tau = np.linspace(0, 2, 44 * 60, dtype=np.float32).reshape(44, 60)
    lr = photo.astype(np.float32) / np.float32(255)
    inputs = {
        "tile": lr[20:],
        "origin": np.array([20, 0]),
        "tau_map": tau[20:],
        "seed": one(3, np.int64),
    }
    found = service.answer(inputs)["tile_upscaled"][0, 4 * 6 :]
    wanted = upscaler.upscale(photo, tau=tau, seed=3)
    assert np.array_equal(from_unit(found, np.dtype(np.uint8)), wanted[4 * 26 :])


def test_a_tile_needs_a_temperature_where_the_default_comes_from_the_picture(
    tmp_path: Path,
) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "auto.srflow", auto_tau=True))
    tile = {"tile": np.full((8, 8, 3), 0.5, np.float32)}
    service = PictureService(bundle, ServingOptions(device="cpu", threads=1))
    with pytest.raises(
        ArgumentError, match="tau: this model's default is made from the whole picture"
    ):
        service.answer(tile)
    assert service.answer({**tile, "tau": one(0.5, np.float32)})["tile_upscaled"].shape == (
        1,
        32,
        32,
        3,
    )
    service.close()


def test_an_error_after_a_tile_ends_the_work(service: PictureService, photo: np.ndarray) -> None:
    def gone() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        service.answer({"image": photo}, after_tile=gone)


class _OutOfMemoryOnce(OnnxRuntimeBackend):
    """Has no memory for windows of more than 1,000 pixels."""

    def encode_impl(self, lr: np.ndarray) -> Any:
        if lr.shape[2] * lr.shape[3] > 1000:
            raise OutOfMemoryError("out of memory")
        return super().encode_impl(lr)


def test_a_request_that_runs_out_of_memory_fails_alone(
    tiny_bundle: Path, upscaler: Upscaler, photo: np.ndarray
) -> None:
    bundle = Bundle.open(tiny_bundle)
    backend: Backend = _OutOfMemoryOnce(bundle, threads=1)
    backend.activate()
    service = PictureService(bundle, ServingOptions(device="cpu"), backend=backend)
    small = photo[:24, :24]
    with pytest.raises(OutOfMemoryError, match="send a smaller picture"):
        service.answer({"image": photo})
    assert np.array_equal(service.answer({"image": small})["upscaled"], [upscaler.upscale(small)])
    service.close()


def test_as_many_tiles_are_computed_at_a_time_as_the_options_say(
    tiny_bundle: Path, photo: np.ndarray
) -> None:
    go = threading.Event()
    begun = threading.Semaphore(0)

    class Held(OnnxRuntimeBackend):
        def encode_impl(self, lr: np.ndarray) -> Any:
            begun.release()
            assert go.wait(30)
            return super().encode_impl(lr)

    bundle = Bundle.open(tiny_bundle)
    backend = Held(bundle, threads=1)
    backend.activate()
    service = PictureService(bundle, ServingOptions(device="cpu", sessions=2), backend=backend)
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(service.answer, {"image": photo[:8, :8]}) for _ in range(3)]
        assert all(begun.acquire(timeout=30) for _ in range(2))
        assert not begun.acquire(timeout=0.1)
        go.set()
        assert len({answer.result(30)["upscaled"].tobytes() for answer in answers}) == 1
    service.close()


def test_a_server_draws_in_the_precision_of_its_parameters(
    tmp_path: Path, photo: np.ndarray
) -> None:
    path = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    options = ServingOptions.of_parameters({"device": "cpu", "threads": "1", "precision": "int8"})
    assert options.parameters()["precision"] == "int8"
    service = PictureService(Bundle.open(path), options)
    assert service.backend.precision == "int8"
    with Upscaler(path, device="cpu", threads=1, precision="int8") as upscaler:
        assert np.array_equal(
            service.answer({"image": photo})["upscaled"], [upscaler.upscale(photo)]
        )
    service.close()


PICTURE = np.full((10, 12, 3), 100, np.uint8)
TILE = np.full((10, 12, 3), 0.5, np.float32)
MAP = np.full((10, 12), 0.5, np.float32)


def png(
    mode: str, colour: Any = 0, *, size: tuple[int, int] = (12, 10), more: int = 0
) -> np.ndarray:
    content = io.BytesIO()
    Image.new(mode, size, colour).save(content, "PNG")
    return np.array([content.getvalue() + bytes(more)], np.object_)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "image, image_bytes, tile: send exactly one"),
        ({"image": PICTURE, "colour": PICTURE}, "colour: there is no such input"),
        ({"image": PICTURE.astype(np.float32)}, "image: its dtype is float32; it must be uint8"),
        ({"image": PICTURE[0]}, r"image: its shape is \[12, 3\]; it must be \[height, width, 3\]"),
        ({"image": PICTURE[:0]}, "image: it is empty"),
        (
            {"image": np.zeros((100, 41, 3), np.uint8)},
            "image: it has 41×100 pixels; this server takes at most 4,000",
        ),
        (
            {"image": PICTURE, "tau": one(float("nan"), np.float32)},
            "tau: it is nan; it must be a finite number",
        ),
        (
            {"image": PICTURE, "tau": np.zeros(2, np.float32)},
            r"tau: its shape is \[2\]; it must be \[1\]",
        ),
        (
            {"image": PICTURE, "samples": one(0, np.int32)},
            "samples: it is 0; this server draws 1 to 4",
        ),
        (
            {"image": PICTURE, "seed": one(-1, np.int64)},
            "seed: it is -1; it must be a whole number from 0",
        ),
        ({"image": PICTURE, "origin": np.zeros(2, np.int64)}, "origin: only a tile has one"),
        (
            {"image_bytes": np.array([b"no picture"], np.object_)},
            "^image_bytes: this is not an image",
        ),
        (
            {"image_bytes": png("RGBA", (9, 9, 9, 100))},
            "image_bytes: the picture has transparent pixels",
        ),
        (
            {"image_bytes": png("I;16", 500)},
            "^image_bytes: the file holds uint16; send one with 8 bits per channel$",
        ),
        (
            {"image_bytes": png("RGB", size=(100, 41))},
            "^image_bytes: 100×41 pixels exceed the limit of 4,000; send a sma",
        ),
        (
            {"image_bytes": png("RGB", more=70_000_000)},
            r"^image_bytes: over [\d,]+ bytes; send a smaller one$",
        ),
        ({"tile": TILE[:9]}, "tile: it is 12×9; both sides must be multiples of 2"),
        (
            {"tile": TILE * 3},
            "tile: its values run from 1.5 to 1.5; they must be numbers from 0 to 1",
        ),
        (
            {"tile": np.zeros((50, 42, 3), np.float32)},
            "tile: it has 42×50 pixels; this server takes at most 2,000",
        ),
        (
            {"tile": TILE, "origin": np.array([1, 0])},
            "origin: it is row 1, column 0; both must be multiples of 2",
        ),
        (
            {"tile": TILE, "tau_map": MAP[:5]},
            r"tau_map: the tau map is float32 of shape \(5, 12\); .*, 10×12",
        ),
        (
            {"tile": TILE, "tau_map": MAP, "tau": one(1, np.float32)},
            "tau_map: it stands instead of tau",
        ),
    ],
)
def test_an_error_names_the_field_and_what_it_may_be(
    service: PictureService, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(SRFlowError, match=message):
        service.answer(inputs)


def test_an_answer_larger_than_the_limit_is_refused_before_it_is_drawn(
    service: PictureService,
) -> None:
    small = PictureService.__new__(PictureService)
    small.__dict__.update(service.__dict__)
    small.options = type(service.options)(max_answer_bytes=10 * 12 * 16 * 3 * 2)
    small.answer({"image": PICTURE, "samples": one(2, np.int32)})
    with pytest.raises(ArgumentError, match="samples: the answer would have 17,280 bytes"):
        small.answer({"image": PICTURE, "samples": one(3, np.int32)})
