"""Answers that are none: one RemoteError, one line, with the server's name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
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

ODD_VALUES = [math.nan, -math.inf, 1e30]


def head(**changes: Any) -> Spoil:
    """An answer whose JSON has other fields; None takes one away."""

    def spoiled(answer: Answer) -> bytes:
        answer.head = {name: value for name, value in {**answer.head, **changes}.items() if value is not None}
        return answer.raw()

    return spoiled


def output(**changes: Any) -> Spoil:
    """An answer whose tensor is described otherwise."""

    def spoiled(answer: Answer) -> bytes:
        answer.head["outputs"][0].update(changes)
        return answer.raw()

    return spoiled


def header(name: str, value: str) -> Spoil:
    def spoiled(answer: Answer) -> bytes:
        answer.headers[name] = value
        return answer.raw()

    return spoiled


def body(content: bytes) -> Spoil:
    return lambda answer: answer.raw(content)


def status(number: int, content: bytes = b"<html><body>no</body></html>") -> Spoil:
    def spoiled(answer: Answer) -> bytes:
        answer.status = number
        return answer.raw(content)

    return spoiled


CONFIGS: dict[str, Spoil] = {
    "a page": body(b"<html><body>welcome</body></html>"),
    "nothing": body(b""),
    "cut JSON": body(b'{"parameters": {"model"'),
    "a list": body(b"[1, 2]"),
    "deep JSON": body(b"[" * 100_000),
    "parameters that are a list": head(parameters=["model"]),
    "a parameter that is a number": head(parameters={"model": 5}),
    "status 204": status(204, b""),
    "status 500": status(500),
    "status 103": status(103, b""),
    "an error that is a number": status(500, b'{"error": 5}'),
    "HTTP/3": lambda answer: answer.raw().replace(b"HTTP/1.1", b"HTTP/3.0", 1),
    "endless headers": lambda answer: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
}
INFERENCES: dict[str, Spoil] = {
    **{name: CONFIGS[name] for name in ("a page", "nothing", "status 500", "endless headers")},
    "outputs that are null": head(outputs=None),
    "no outputs": head(outputs=[]),
    "another name": output(name="upscaled"),
    "another type": output(datatype="FP16"),
    "a negative shape": output(shape=[1, -180, -244, 3]),
    "another order of the same numbers": output(shape=[1, 244, 180, 3]),
    "no size": output(parameters={}),
    "a negative size": output(parameters={"binary_data_size": -4}),
    "a size beyond the end": output(parameters={"binary_data_size": 1 << 60}),
    "a size that is true": output(parameters={"binary_data_size": True}),
    "no length of the JSON": lambda answer: answer.raw().replace(b"Inference-Header", b"Another-Header", 1),
    "a length of the JSON beyond the end": header("Inference-Header-Content-Length", "999999999"),
    "half the tensor": lambda answer: answer.raw(json.dumps(answer.head).encode() + answer.tensors[:1000]),
    "more than the tensor": lambda answer: answer.raw(json.dumps(answer.head).encode() + answer.tensors + b"more"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_one_line(name: str, server: InferenceServer) -> None:
    server.spoil = lambda answer: [CONFIGS[name](answer)]
    with pytest.raises(RemoteError) as caught:
        RemoteUpscaler(server.url)
    assert server.url in str(caught.value)


@pytest.mark.parametrize("name", INFERENCES)
def test_an_answer_that_is_none_is_one_line(
    name: str, server: InferenceServer, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    def spoiled(answer: Answer) -> Iterable[bytes]:
        yield INFERENCES[name](answer) if answer.kind == "infer" else answer.raw()

    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.spoil = spoiled
        with pytest.raises(RemoteError) as caught:
            remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png")
    assert server.url in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert len(server.requests) == 1  # it is no reason to ask again


@pytest.mark.parametrize("value", ODD_VALUES)
def test_values_that_no_picture_has_are_an_error_with_the_servers_name(
    value: float, server: InferenceServer, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    def spoiled(answer: Answer) -> Iterable[bytes]:
        if answer.kind == "infer":
            values = np.frombuffer(answer.tensors, np.float32).copy()
            values[len(values) // 2] = value
            answer.tensors = values.tobytes()
        yield answer.raw()

    server.spoil = spoiled
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url) as remote:
        line = f"^the server {server.url} gave NaN or infinite values, .* at tau 0.7, seed 3, sample 0, in rows 0 to 45"
        with pytest.raises(NonFiniteError, match=line):
            remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png", tau=0.7, seed=3)
        with pytest.raises(NonFiniteError):
            remote.encode(photo).std(2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
