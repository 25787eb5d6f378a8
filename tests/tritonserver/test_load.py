from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tritonclient.grpc", reason='pip install "tritonclient[grpc,http]"')

from srflow_export.triton import write_repository
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.upscaler import Upscaler
from tests.tritonserver.conftest import ALONE, CPU
from tests.tritonserver.environment import ServerEnvironment
from tests.tritonserver.load import questions, served
from tests.tritonserver.server import running_server

pytestmark = pytest.mark.slow


def test_sixteen_clients_get_every_picture_right_and_memory_stays_flat(
    environment: ServerEnvironment, tmp_path: Path
) -> None:
    write_repository(Bundle.embedded().path, tmp_path / "models")
    with Upscaler(device="cpu") as upscaler:
        asked = questions(upscaler)
    with running_server(environment, tmp_path / "models", tmp_path, *ALONE, CPU) as server:
        # Long enough for ONNX Runtime to have what it keeps, also while other tests take half of the processor.
        warm = served(server, asked, seconds=40, clients=16)
        load = served(server, asked, seconds=20, clients=16)
    assert warm.wrong + load.wrong == []
    assert len(load.seconds) > 2 * 16
    assert max(load.memory) < max(warm.memory) + (64 << 20), (warm.memory, load.memory)
