"""Answers that are none: one RemoteError, one line, with the server's name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_sdk.errors import NonFiniteError, RemoteError
from srflow_sdk.files import write_image
from srflow_sdk.triton import RemoteUpscaler

from .inference_server import Answer, InferenceServer

Spoil = Callable[[Answer], bytes]


def head(**changes: Any) -> Spoil:
    """An answer whose JSON has other fields."""

    def spoiled(answer: Answer) -> bytes:
        answer.head |= changes
        return answer.raw()

    return spoiled


def output(**changes: Any) -> Spoil:
    """An answer whose tensor is described otherwise."""

    def spoiled(answer: Answer) -> bytes:
        answer.head["outputs"][0].update(changes)
        return answer.raw()

    return spoiled


def body(content: bytes, status: int = 200) -> Spoil:
    def spoiled(answer: Answer) -> bytes:
        answer.status = status
        return answer.raw(content)

    return spoiled


def replaced(old: bytes, new: bytes) -> Spoil:
    return lambda answer: answer.raw().replace(old, new, 1)


CONFIGS: dict[str, Spoil] = {
    "a page": body(b"<html><body>welcome</body></html>"),
    "a list": body(b"[1, 2]"),
    "deep JSON": body(b"[" * 100_000),
    "parameters that are a list": head(parameters=["model"]),
    "a parameter that is a number": head(parameters={"model": {"string_value": 5}}),
    "status 204": body(b"", 204),
    "status 103": body(b"", 103),
    "an error that is a number": body(b'{"error": 5}', 500),
    "HTTP/3": replaced(b"HTTP/1.1", b"HTTP/3.0"),
}
INFERENCES: dict[str, Spoil] = {
    "nothing": body(b""),
    "a page of status 500": body(b"<html><body>no</body></html>", 500),
    "endless headers": lambda answer: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
    "outputs that are null": head(outputs=None),
    "no outputs": head(outputs=[]),
    "another name": output(name="upscaled"),
    "another type": output(datatype="FP16"),
    "another order of the same numbers": output(shape=[1, 244, 180, 3]),
    "no size": output(parameters={}),
    "a negative size": output(parameters={"binary_data_size": -4}),
    "a size beyond the end": output(parameters={"binary_data_size": 1 << 60}),
    "a size that is true": output(parameters={"binary_data_size": True}),
    "no length of the JSON": replaced(b"Inference-Header", b"Another-Header"),
    "a length of the JSON beyond the end": replaced(b"Content-Length: ", b"Content-Length: 9999999"),
    "half the tensor": lambda answer: answer.raw(json.dumps(answer.head).encode() + answer.tensors[:1000]),
    "more than the tensor": lambda answer: answer.raw(json.dumps(answer.head).encode() + answer.tensors + b"more"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_one_line(name: str, server: InferenceServer) -> None:
    server.spoil = lambda answer: [CONFIGS[name](answer)]
    with pytest.raises(RemoteError, match=f"^.*{server.url}.*$"):
        RemoteUpscaler(server.url)


@pytest.mark.parametrize("name", INFERENCES)
def test_an_answer_that_is_none_is_one_line(
    name: str, server: InferenceServer, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.spoil = lambda answer: [INFERENCES[name](answer) if answer.kind == "infer" else answer.raw()]
        with pytest.raises(RemoteError, match=f"^.*{server.url}.*$"):
            remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert len(server.requests) == 1  # it is no reason to ask again


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e30])
def test_values_that_no_picture_has_are_an_error_with_the_servers_name(
    value: float, server: InferenceServer, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    def spoiled(answer: Answer) -> list[bytes]:
        if answer.kind == "infer":
            values = np.frombuffer(answer.tensors, np.float32).copy()
            values[len(values) // 2] = value
            answer.tensors = values.tobytes()
        return [answer.raw()]

    server.spoil = spoiled
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url) as remote:
        line = f"^the server {server.url} gave NaN or infinite values, .* at tau 0.7, seed 3, sample 0, in rows 0 to 45"
        with pytest.raises(NonFiniteError, match=line):
            remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png", tau=0.7, seed=3)
        with pytest.raises(NonFiniteError):
            remote.encode(photo).std(2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
