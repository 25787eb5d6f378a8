from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason='pip install "tritonclient[grpc]"')

import tritonclient.grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from srflow_export.triton import write_repository
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.errors import UnavailableError
from srflow_sdk.pixels.in_memory import from_unit
from srflow_sdk.triton import RemoteUpscaler
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle
from tests.tritonserver.asking import ask, picture, tensors
from tests.tritonserver.conftest import ALONE, CPU
from tests.tritonserver.environment import ServerEnvironment
from tests.tritonserver.load import questions, served
from tests.tritonserver.server import Server, running_server

pytestmark = pytest.mark.slow
MORE_BYTES = 32 << 20


def test_a_picture_is_to_the_bit_what_upscaler_gives(server: Server, upscaler: Upscaler) -> None:
    answer = ask(server.grpc, image=picture(), tau=0.9, seed=5, samples=3, sample=2)
    assert list(answer) == ["upscaled"]
    wanted = upscaler.encode(picture()).samples(3, tau=0.9, seed=5, sample=2)
    assert np.array_equal(answer["upscaled"], wanted)


def test_a_files_bytes_and_a_tile_are_too(
    server: Server, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    Image.fromarray(picture(height=44, width=60)).save(content, "PNG")
    wanted = np.asarray(upscaler.upscale(content.getvalue(), tau=0.7, seed=1))
    assert np.array_equal(
        ask(server.grpc, image_bytes=content.getvalue(), tau=0.7, seed=1)["upscaled"], [wanted]
    )
    tile = picture(height=44, width=60).astype(np.float32) / np.float32(255)
    answer = ask(server.grpc, tile=tile, tau=0.7, seed=1, origin=[0, 0])
    assert list(answer) == ["tile_upscaled"]
    # the client's work, as is rounding
    monkeypatch.setattr(ChromaBounds, "limit", lambda self, picture: picture)
    plain = upscaler.upscale(picture(height=44, width=60), tau=0.7, seed=1)
    assert np.array_equal(from_unit(answer["tile_upscaled"][0], np.dtype(np.uint8)), plain)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "image, image_bytes, tile: send exactly one"),
        ({"image": picture(), "tau": float("nan")}, "ArgumentError: tau: it is nan"),
        ({"image": picture(), "samples": 0}, "ArgumentError: samples: it is 0"),
        ({"image": np.zeros((3000, 2000, 3))}, "ArgumentError: image: it has 2000×3000 pixels"),
        ({"image": picture()[..., :2]}, "unexpected shape for input 'image'"),
        ({"image": picture(), "tau": [0.5, 0.6]}, "unexpected shape for input 'tau'"),
        ({"image_bytes": b"no picture"}, "ImageError: image_bytes: this is not an image"),
        ({"tile": np.full((45, 60, 3), 0.5)}, "ArgumentError: tile: it is 60×45"),
    ],
)
def test_a_bad_request_is_an_error_that_names_the_field_and_the_server_stays_up(
    server: Server, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message) as raised:
        ask(server.grpc, **inputs)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert server.is_ready()


def test_a_wrong_dtype_is_an_error_that_names_the_field(server: Server) -> None:
    tensor = tritonclient.grpc.InferInput("image", [4, 4, 3], "FP32")
    tensor.set_data_from_numpy(np.zeros((4, 4, 3), np.float32))
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException, match="'image' data-type is 'FP32'"):
            client.infer("srflow_upscale", [tensor])
        config = client.get_model_config("srflow_upscale", as_json=True)["config"]
    described = json.loads(config["parameters"]["model"]["string_value"])
    assert (described["scale"], described["size_multiple"], described["halo"]) == (4, 2, 6)


def test_sixteen_clients_get_every_picture_right_and_memory_stays_flat(
    server: Server, upscaler: Upscaler
) -> None:
    asked = questions(upscaler)
    # Enough for ONNX Runtime to have what it keeps. Then all answers together are more than what is
    # allowed.
    warm = served(server, asked, answers=600, clients=16)
    load = served(server, asked, answers=800, clients=16)
    assert warm.wrong + load.wrong == []
    assert (
        sum(question.answer.nbytes for question in asked) / len(asked) * len(load.seconds)
        > MORE_BYTES
    )
    assert max(load.memory) < max(warm.memory) + MORE_BYTES, (warm.memory, load.memory)


def test_cancelled_work_ends_and_sigterm_lets_requests_finish_and_leaves_no_shared_memory(
    environment: ServerEnvironment, tmp_path: Path
) -> None:
    images = [picture(number, 128, 128) for number in range(6)]
    with Upscaler("x4-small", device="cpu") as embedded:
        write_repository(embedded.bundle.path, tmp_path / "models")
        with (
            running_server(environment, tmp_path / "models", tmp_path, *ALONE, CPU) as server,
            tritonclient.grpc.InferenceServerClient(server.grpc) as client,
            ThreadPoolExecutor(len(images)) as clients,
        ):
            inputs = tensors({"image": picture(0, 64, 64), "samples": 16})
            call = client.async_infer("srflow_upscale", inputs, lambda result, error: None)
            server.wait_until(lambda: begun(server) == 1, "the request begun")
            call.cancel()
            ended = "the client cancelled the request; its work ended"
            server.wait_until(lambda: ended in server.text(), "the cancelled work ended")
            answers = [clients.submit(ask, server.grpc, image=image, samples=8) for image in images]
            server.wait_until(lambda: begun(server) == 1 + len(images), "all requests accepted")
            assert not any(answer.done() for answer in answers)
            shared = server.segments()
            assert server.end() == 0
            for image, answer in zip(images, answers, strict=True):
                assert np.array_equal(
                    answer.result()["upscaled"], embedded.encode(image).samples(8)
                )
    assert shared
    assert not any(segment.exists() for segment in shared)


def begun(server: Server) -> int:
    """How many requests srflow_upscale has begun to work on."""
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        model = client.get_inference_statistics("srflow_upscale", as_json=True)["model_stats"][0]
    return int(model.get("execution_count", 0))


def test_a_polling_server_takes_new_versions_and_never_sees_half_of_one(
    environment: ServerEnvironment, tiny_bundle: Path, tmp_path: Path
) -> None:
    write_repository(tiny_bundle, tmp_path / "models")
    other = write_tiny_bundle(tmp_path / "other.srflow", name="other", default_tau=0.1)
    polling = ("--model-control-mode=poll", "--repository-poll-secs=1")
    with (
        Upscaler(tiny_bundle, device="cpu") as first,
        Upscaler(other, device="cpu") as second,
        running_server(environment, tmp_path / "models", tmp_path, CPU, *polling) as server,
    ):
        known = [first.upscale(picture()), second.upscale(picture())]
        assert not np.array_equal(*known)
        ended = threading.Event()
        failed = list[str]()

        def keep_asking() -> None:
            while not ended.is_set():
                try:
                    (answer,) = ask(server.grpc, image=picture())["upscaled"]
                    if not any(np.array_equal(answer, one) for one in known):
                        failed.append("another picture")
                except InferenceServerException as error:
                    failed.append(str(error))

        with ThreadPoolExecutor(1) as client:
            client.submit(keep_asking)
            for version in (2, 3):
                write_repository(other if version % 2 == 0 else tiny_bundle, tmp_path / "models")
                server.wait_until(
                    lambda version=version: server.has_ready("srflow_upscale", version),
                    f"version {version}",
                )
                wanted = known[1 if version % 2 == 0 else 0]
                assert np.array_equal(ask(server.grpc, image=picture())["upscaled"], [wanted])
            ended.set()
        assert failed == []

        def replace(done: int, total: int) -> None:
            if done == 2:
                write_repository(other, tmp_path / "models")
                server.wait_until(lambda: server.has_ready("srflow_upscale", 4), "version 4")

        with (
            RemoteUpscaler(server.http, tile=16) as remote,
            pytest.raises(
                UnavailableError, match=r"now serves another model .* other \(sha256 .* of tiny"
            ),
        ):
            remote.upscale(picture(), progress=replace)
        for version in (1, 2, 3, 4):
            assert f"loading: srflow_upscale:{version}" in server.text()
        assert "UNAVAILABLE" not in server.text()
        assert "failed to poll" not in server.text().lower()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "1/model.py",
            b"srflow_apps.",
            b"srflow_apps_of_nobody.",
            "srflow_upscale needs srflow-sdk in the server's Python environment",
        ),
        (
            "1/model.srflow/sampler.onnx",
            b"w_features",
            b"w_featurez",
            "BundleError: .*sampler.onnx differs from what was",
        ),
    ],
)
def test_what_keeps_the_model_from_loading_is_said_in_the_servers_log(
    environment: ServerEnvironment,
    tiny_bundle: Path,
    tmp_path: Path,
    file: str,
    old: bytes,
    new: bytes,
    message: str,
) -> None:
    write_repository(tiny_bundle, tmp_path / "models")
    path = tmp_path / "models" / "srflow_upscale" / file
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with (
        pytest.raises(AssertionError, match=message),
        running_server(environment, tmp_path / "models", tmp_path, *ALONE),
    ):
        pass
