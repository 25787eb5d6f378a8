"""examples/service.py, started as its users start it, with real requests through real sockets."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler

for needed in ("fastapi", "uvicorn"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO = (EXAMPLES / "photos" / "cat.png").read_bytes()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(EXAMPLES),
        "service:app",
        "--port",
        "0",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        yield next(
            int(found[1])
            for line in process.stderr
            if (found := re.search(r"running on \S+:(\d+)", line))
        )
        process.kill()


def answered(port: int, query: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", f"/upscale?{query}", body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_photo_comes_back_as_the_upscaler_enlarges_it(port: int) -> None:
    file = io.BytesIO()
    small = Image.open(io.BytesIO(PHOTO)).convert("RGB").resize((40, 30))
    small.save(file, "PNG")
    status, content = answered(port, "tau=0.5&seed=3", file.getvalue())
    assert status == 200
    with Upscaler() as upscaler:
        assert np.array_equal(
            Image.open(io.BytesIO(content)), upscaler.upscale(small, tau=0.5, seed=3)
        )


@pytest.mark.parametrize(
    ("query", "body"), [("", b"no picture"), ("tau=9", PHOTO), ("tau=x", PHOTO)]
)
def test_what_cannot_be_done_is_a_422_that_says_why(port: int, query: str, body: bytes) -> None:
    status, content = answered(port, query, body)
    assert status == 422
    assert json.loads(content)["detail"]
