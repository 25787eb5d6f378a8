from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tritonclient.grpc", reason='pip install "tritonclient[grpc,http]"')

from srflow_export.triton import write_repository
from srflow_sdk.upscaler import Upscaler
from tests.tritonserver.conftest import ALONE, CPU
from tests.tritonserver.environment import ServerEnvironment
from tests.tritonserver.load import questions, served
from tests.tritonserver.server import running_server

pytestmark = pytest.mark.slow
MORE_BYTES = 32 << 20


def test_sixteen_clients_get_every_picture_right_and_memory_stays_flat(
    environment: ServerEnvironment, tiny_bundle: Path, tmp_path: Path
) -> None:
    write_repository(tiny_bundle, tmp_path / "models")
    with Upscaler(tiny_bundle, device="cpu") as upscaler:
        asked = questions(upscaler)
    with running_server(environment, tmp_path / "models", tmp_path, *ALONE, CPU) as server:
        # Enough for ONNX Runtime to have what it keeps. Then all answers together are more than what is allowed.
        warm = served(server, asked, answers=800, clients=16)
        load = served(server, asked, answers=800, clients=16)
    assert warm.wrong + load.wrong == []
    assert sum(question.answer.nbytes for question in asked) / len(asked) * len(load.seconds) > MORE_BYTES
    assert max(load.memory) < max(warm.memory) + MORE_BYTES, (warm.memory, load.memory)
