from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from srflow_apps.serving.service import PictureService
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import ServingOptions


@pytest.fixture(scope="session")
def options() -> ServingOptions:
    return ServingOptions(device="cpu", threads=1, max_pixels=4000, max_tile_pixels=2000, max_samples=4)


@pytest.fixture(scope="session")
def service(tiny_bundle: Path, options: ServingOptions) -> Iterator[PictureService]:
    opened = PictureService(Bundle.open(tiny_bundle), options)
    yield opened
    opened.close()
