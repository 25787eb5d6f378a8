from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from srflow_export.triton import write_repository
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle
from tests.tritonserver.environment import ServerEnvironment, UnavailableError, server_environment
from tests.tritonserver.server import Server, running_server

CPU = "--model-config-name=cpu"
ALONE = ("--model-control-mode=explicit", "--load-model=srflow_upscale")


@pytest.fixture(scope="session")
def environment() -> ServerEnvironment:
    pytest.importorskip("tritonclient.grpc", reason='pip install "tritonclient[grpc]"')
    try:
        return server_environment()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.srflow")


@pytest.fixture(scope="session")
def upscaler(tiny_bundle: Path) -> Iterator[Upscaler]:
    with Upscaler(tiny_bundle, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def server(
    environment: ServerEnvironment, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """srflow_upscale alone, with nothing but the python backend; its own KIND_AUTO config, on a
    CPU."""
    folder = tmp_path_factory.mktemp("alone")
    write_repository(tiny_bundle, folder / "models")
    with running_server(environment, folder / "models", folder, *ALONE) as started:
        yield started
