from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_apps.serving.service import PictureService
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.serving_config import ServingOptions
from srflow_sdk.triton import RemoteUpscaler
from tests.sdk.tiny_bundle import write_tiny_bundle

from .inference_server import InferenceServer


@pytest.fixture(scope="session")
def options() -> ServingOptions:
    return ServingOptions(
        device="cpu", threads=1, max_pixels=4000, max_tile_pixels=2000, max_samples=4
    )


@pytest.fixture(scope="session")
def service(tiny_bundle: Path, options: ServingOptions) -> Iterator[PictureService]:
    opened = PictureService(Bundle.open(tiny_bundle), options)
    yield opened
    opened.close()


@pytest.fixture
def server(tiny_bundle: Path) -> Iterator[InferenceServer]:
    started = InferenceServer(tiny_bundle)
    yield started
    started.stop()


@pytest.fixture
def remote(server: InferenceServer) -> Iterator[RemoteUpscaler]:
    with RemoteUpscaler(server.url, retry_for=0) as opened:
        yield opened


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(
        tmp_path_factory.mktemp("bundles") / "other.srflow", name="other", gain=0.5
    )


def largest_difference(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.abs(first.astype(float) - second.astype(float)).max())
