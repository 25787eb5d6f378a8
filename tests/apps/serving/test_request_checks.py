from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_apps.serving.service import PictureService
from srflow_sdk.errors import ArgumentError, SRFlowError

PICTURE = np.full((10, 12, 3), 100, np.uint8)
TILE = np.full((10, 12, 3), 0.5, np.float32)
MAP = np.full((10, 12), 0.5, np.float32)


def png(mode: str, colour: Any = 0, *, size: tuple[int, int] = (12, 10), more: int = 0) -> np.ndarray:
    content = io.BytesIO()
    Image.new(mode, size, colour).save(content, "PNG")
    return np.array([content.getvalue() + bytes(more)], np.object_)


def one(value: float, dtype: Any) -> np.ndarray:
    return np.array([value], dtype)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "image, image_bytes, tile: send exactly one"),
        ({"image": PICTURE, "tile": TILE}, "the request has image and tile"),
        ({"image": PICTURE, "colour": PICTURE}, "colour: there is no such input"),
        ({"image": PICTURE.astype(np.float32)}, "image: its dtype is float32; it must be uint8"),
        ({"image": PICTURE[0]}, r"image: its shape is \[12, 3\]; it must be \[height, width, 3\]"),
        ({"image": PICTURE[..., :2]}, r"image: its shape is \[10, 12, 2\]"),
        ({"image": PICTURE[:0]}, "image: it is empty"),
        ({"image": np.zeros((100, 41, 3), np.uint8)}, "image: it has 41×100 pixels; this server takes at most 4,000"),
        ({"image": PICTURE, "tau": one(float("nan"), np.float32)}, "tau: it is nan; it must be a finite number"),
        ({"image": PICTURE, "tau": one(2.5, np.float32)}, "tau: it is 2.5"),
        ({"image": PICTURE, "tau": one(-1, np.float32)}, "tau: it is -1"),
        ({"image": PICTURE, "tau": np.zeros(2, np.float32)}, r"tau: its shape is \[2\]; it must be \[1\]"),
        ({"image": PICTURE, "samples": one(0, np.int32)}, "samples: it is 0; this server draws 1 to 4"),
        ({"image": PICTURE, "samples": one(5, np.int32)}, "samples: it is 5; this server draws 1 to 4"),
        ({"image": PICTURE, "samples": one(2, np.int64)}, "samples: its dtype is int64; it must be int32"),
        ({"image": PICTURE, "seed": one(-1, np.int64)}, "seed: it is -1; it must be a whole number from 0"),
        ({"image": PICTURE, "sample": one(-1, np.int64)}, "sample: it is -1; it must be a whole number from 0"),
        ({"image": PICTURE, "origin": np.zeros(2, np.int64)}, "origin: only a tile has one"),
        ({"image": PICTURE, "tau_map": MAP}, "tau_map: only a tile has one"),
        ({"image_bytes": np.array([b"no picture"], np.object_)}, "^image_bytes: this is not an image"),
        ({"image_bytes": np.array([b""], np.object_)}, "^image_bytes: the file is empty"),
        ({"image_bytes": np.array(["text"], np.object_)}, "image_bytes: it must be the bytes"),
        ({"image_bytes": png("RGBA", (9, 9, 9, 100))}, "image_bytes: the picture has transparent pixels"),
        ({"image_bytes": png("I;16", 500)}, "^image_bytes: the file holds uint16; send one with 8 bits per channel$"),
        (
            {"image_bytes": png("RGB", size=(100, 41))},
            "^image_bytes: 100×41 pixels exceed the limit of 4,000; send a sma",
        ),
        ({"image_bytes": png("RGB", more=70_000_000)}, r"^image_bytes: over [\d,]+ bytes; send a smaller one$"),
        ({"tile": TILE[:9]}, "tile: it is 12×9; both sides must be multiples of 2"),
        ({"tile": TILE * 3}, "tile: its values run from 1.5 to 1.5; they must be numbers from 0 to 1"),
        ({"tile": TILE * np.float32("nan")}, "tile: its values run from nan to nan"),
        ({"tile": np.zeros((50, 42, 3), np.float32)}, "tile: it has 42×50 pixels; this server takes at most 2,000"),
        ({"tile": TILE, "origin": np.array([1, 0])}, "origin: it is row 1, column 0; both must be multiples of 2"),
        ({"tile": TILE, "origin": np.array([0, 1 << 32])}, "origin: .* at most 2147483648 from 0"),
        ({"tile": TILE, "tau_map": MAP[:5]}, r"tau_map: its shape is \[5, 12\]; it must be the tile's \[10, 12\]"),
        ({"tile": TILE, "tau_map": MAP * 5}, "tau_map: its values run from 2.5 to 2.5"),
        ({"tile": TILE, "tau_map": MAP, "tau": one(1, np.float32)}, "tau_map: it stands instead of tau"),
    ],
)
def test_an_error_names_the_field_and_what_it_may_be(
    service: PictureService, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(SRFlowError, match=message):
        service.answer(inputs)


def test_an_answer_larger_than_the_limit_is_refused_before_it_is_drawn(service: PictureService) -> None:
    small = PictureService.__new__(PictureService)
    small.__dict__.update(service.__dict__)
    small.options = type(service.options)(max_answer_bytes=10 * 12 * 16 * 3 * 2)
    small.answer({"image": PICTURE, "samples": one(2, np.int32)})
    with pytest.raises(ArgumentError, match="samples: the answer would have 17,280 bytes"):
        small.answer({"image": PICTURE, "samples": one(3, np.int32)})
