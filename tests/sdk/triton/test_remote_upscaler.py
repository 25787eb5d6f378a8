from __future__ import annotations

import dataclasses
import pickle
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk._files import read_image, write_image
from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    DeviceError,
    MissingExtraError,
    NonFiniteError,
    OutOfMemoryError,
    RemoteError,
    UnavailableError,
)
from srflow_sdk.triton import RemoteUpscaler
from srflow_sdk.triton._remote_upscaler import LONGEST_S
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import write_tiny_bundle
from .inference_server import NAME, OPTIONS, InferenceServer

SMALL_MESSAGES = 230_000


def largest_difference(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.abs(first.astype(float) - second.astype(float)).max())


def kinds(photo: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    return {
        "rgb": photo,
        "gray": photo[..., 1],
        "alpha": np.dstack([photo, photo[..., 0]]),
        "uint16": photo.astype(np.uint16) * 257,
        "float32": photo.astype(np.float32) / 255,
    }


@pytest.mark.parametrize("kind", ["rgb", "gray", "alpha", "uint16", "float32"])
@pytest.mark.parametrize("tile", [None, 16, "auto"])
def test_picture_is_the_local_one_to_the_bit_with_equal_tiles(
    kind: str, tile: Any, photo: NDArray[np.uint8], server: InferenceServer, tiny_bundle: Path
) -> None:
    image = kinds(photo)[kind]
    with RemoteUpscaler(server.url, tile=tile) as remote, Upscaler(tiny_bundle, device="cpu", tile=tile) as local:
        for options in (
            {"tau": 0.8, "seed": 3, "sample": 7},
            {"tau": "auto"},
            {"tau": np.linspace(0, 1.5, photo[..., 0].size).reshape(photo.shape[:2])},
            {"consistent": True},
            {"scale": 1.5, "reduction": "lanczos"},
            {},
        ):
            assert np.array_equal(remote.upscale(image, **options), local.upscale(image, **options)), options


def test_pictures_of_pil_keep_mode_and_profile(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, upscaler: Upscaler
) -> None:
    image = Image.fromarray(photo).convert("LA")
    large = remote.upscale(image)
    assert large.mode == "LA"
    assert large.tobytes() == upscaler.upscale(image).tobytes()


def test_small_messages_change_the_picture_by_no_more_than_rounding(
    photo: NDArray[np.uint8], server: InferenceServer, upscaler: Upscaler
) -> None:
    with RemoteUpscaler(server.url, max_message_bytes=SMALL_MESSAGES) as remote:
        encoding = remote.encode(photo)
        assert encoding.tiles > 1 == upscaler.encode(photo).tiles
        assert largest_difference(encoding.sample(seed=5), upscaler.upscale(photo, seed=5)) <= 1


def test_no_message_is_larger_than_the_limit(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    with RemoteUpscaler(server.url, max_message_bytes=SMALL_MESSAGES) as remote:
        remote.encode(photo).samples(3, tau="auto")
    assert SMALL_MESSAGES / 2 < max(server.message_sizes) <= SMALL_MESSAGES


def test_samples_share_a_request_as_far_as_they_fit_and_are_what_each_is_alone(
    photo: NDArray[np.uint8], server: InferenceServer, remote: RemoteUpscaler, upscaler: Upscaler
) -> None:
    encoding = remote.encode(photo)
    drawn = encoding.samples(5, sample=2)
    assert [int(request["samples"][0]) for request in server.requests] == [5]
    for number, picture in enumerate(drawn, start=2):
        assert np.array_equal(picture, upscaler.upscale(photo, sample=number))
    server.requests.clear()
    with RemoteUpscaler(server.url, max_message_bytes=1_500_000) as narrow:
        narrow.encode(photo).samples(5)
    assert [int(request["samples"][0]) for request in server.requests] == [2, 2, 1]


def test_mean_deviation_and_best_are_the_local_ones(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, upscaler: Upscaler
) -> None:
    there, here = remote.encode(photo), upscaler.encode(photo)
    assert np.array_equal(there.mean(3), here.mean(3))
    assert np.array_equal(there.std(3), here.std(3))
    best = [one.best_of(photo, lambda picture: float(picture.std()), 4) for one in (remote, upscaler)]
    assert np.array_equal(*best)


def test_file_is_the_local_one_and_names_the_servers_model(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, upscaler: Upscaler, tmp_path: Path
) -> None:
    source = tmp_path / "a.tif"
    write_image(source, photo.astype(np.uint16) * 257)
    (there,) = remote.upscale_file(source, tmp_path / "there.tif", report=True, consistent=True).outputs
    (here,) = upscaler.upscale_file(source, tmp_path / "here.tif", report=True, consistent=True).outputs
    assert np.array_equal(read_image(there.path).pixels, read_image(here.path).pixels)
    assert there.provenance == here.provenance
    assert there.lr_psnr == here.lr_psnr
    assert there.provenance.model_sha256 == upscaler.bundle.model_sha256


def test_facts_of_the_model_are_the_servers(
    remote: RemoteUpscaler, upscaler: Upscaler, server: InferenceServer
) -> None:
    assert remote.scale == upscaler.scale
    assert remote.bundle.model_sha256 == upscaler.bundle.model_sha256
    assert remote.bundle.manifest.halo == upscaler.bundle.manifest.halo
    assert remote.device == server.url
    with pytest.raises(ArgumentError, match=r"no file 'encoder\.onnx'; it has none on this machine"):
        remote.bundle.file("encoder.onnx")


def test_progress_counts_tiles_of_samples(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    with RemoteUpscaler(server.url, tile=32) as remote:
        told: list[tuple[int, int]] = []
        remote.encode(photo).samples(2, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize(("tile", "asked"), [(None, "whole pictures of this size"), (44, "tiles of 44 pixels")])
def test_tile_that_does_not_fit_a_message_becomes_smaller_with_one_warning(
    tile: int | None,
    asked: str,
    photo: NDArray[np.uint8],
    server: InferenceServer,
    upscaler: Upscaler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RemoteUpscaler(server.url, tile=tile, max_message_bytes=SMALL_MESSAGES) as remote:
        for _ in range(2):
            assert largest_difference(remote.upscale(photo), upscaler.upscale(photo)) <= 1
    assert len(caplog.records) == 1
    assert f"{asked} do not fit messages of 230000 bytes" in caplog.text


def test_what_the_server_says_of_an_argument_is_an_argument_error_and_not_tried_again(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer
) -> None:
    server.before = lambda inputs: _fail(ArgumentError("tile: this server likes no tiles"))
    with pytest.raises(ArgumentError, match="the server says: tile: this server likes no tiles"):
        remote.upscale(photo)
    assert len(server.requests) == 1


def test_failure_of_the_server_is_a_remote_error_with_its_reason(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer
) -> None:
    server.before = lambda inputs: _fail(RuntimeError("the fan fell off"))
    with pytest.raises(RemoteError, match="the server failed: the fan fell off") as caught:
        remote.upscale(photo)
    assert not isinstance(caught.value, UnavailableError)
    assert len(server.requests) == 1


def test_server_without_memory_for_a_tile_gets_smaller_ones(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer, upscaler: Upscaler
) -> None:
    def too_large(inputs: dict[str, Any]) -> None:
        if inputs["tile"].size > 3 * 48 * 48:
            raise OutOfMemoryError("memory ran out")

    server.before = too_large
    assert largest_difference(remote.upscale(photo), upscaler.upscale(photo)) <= 1
    server.before = lambda inputs: _fail(OutOfMemoryError("memory ran out"))
    with pytest.raises(OutOfMemoryError, match=r"with tiles of \d+ pixels, the smallest possible"):
        remote.upscale(photo)


def test_values_that_are_not_finite_are_an_error(
    photo: NDArray[np.uint8], tmp_path: Path, remote: RemoteUpscaler, server: InferenceServer
) -> None:
    overflowing = write_tiny_bundle(tmp_path / "overflowing.srflow", gain=1e38)
    server.load(overflowing)
    with (
        RemoteUpscaler(server.url) as other,
        pytest.raises(NonFiniteError, match=r"the server says: the network gave NaN .* at tau 1\.5"),
    ):
        other.upscale(photo, tau=1.5)


def test_answer_that_takes_too_long_is_a_remote_error(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    held = threading.Event()
    with RemoteUpscaler(server.url, timeout=0.3) as remote:
        server.before = lambda inputs: _wait(held)
        with pytest.raises(RemoteError, match=r"did not answer within 0.3 s; .* use a longer timeout"):
            remote.upscale(photo)
        held.set()
    assert len(server.requests) == 1


def test_server_that_comes_back_continues_the_picture(
    photo: NDArray[np.uint8],
    server: InferenceServer,
    tiny_bundle: Path,
    upscaler: Upscaler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    again: list[InferenceServer] = []

    def restart(done: int, total: int) -> None:
        if done == 1:
            server.stop()
            threading.Timer(0.4, lambda: again.append(InferenceServer(tiny_bundle, port=server.port))).start()

    with RemoteUpscaler(server.url, tile=32) as remote, Upscaler(tiny_bundle, device="cpu", tile=32) as local:
        assert np.array_equal(remote.upscale(photo, progress=restart), local.upscale(photo))
    again[0].stop()
    assert f"{server.url} is not available" in caplog.text
    assert "trying again for 30 s" in caplog.text


def test_server_that_stays_away_ends_the_picture_in_one_line(
    photo: NDArray[np.uint8], server: InferenceServer, tmp_path: Path
) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    write_image(source, photo)
    with (
        RemoteUpscaler(server.url, tile=16, retry_for=0.3) as remote,
        pytest.raises(UnavailableError, match="is not available: Connection refused") as caught,
    ):
        remote.upscale_file(source, target, progress=lambda done, total: server.stop() if done == 1 else None)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_model_that_is_unloaded_is_waited_for_like_a_server(
    photo: NDArray[np.uint8], server: InferenceServer, upscaler: Upscaler
) -> None:
    def unload(inputs: dict[str, Any]) -> None:
        server.before = lambda inputs: None
        server.loaded = False
        threading.Timer(0.4, lambda: setattr(server, "loaded", True)).start()

    server.before = unload
    with RemoteUpscaler(server.url) as remote:
        assert np.array_equal(remote.upscale(photo), upscaler.upscale(photo))
    assert len(server.requests) == 1  # its answer was good; only the look at the config waited
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.loaded = False
        with pytest.raises(UnavailableError, match="is not available: Request for unknown model"):
            remote.upscale(photo)


def test_another_model_in_the_middle_of_a_picture_is_refused(
    photo: NDArray[np.uint8], server: InferenceServer, other_bundle: Path
) -> None:
    with RemoteUpscaler(server.url, tile=32) as remote:
        with pytest.raises(UnavailableError, match=r"now serves another model .*: other \(sha256 .* instead of tiny"):
            remote.upscale(photo, progress=lambda done, total: server.load(other_bundle) if done == 2 else None)
        with pytest.raises(UnavailableError, match="now serves another model"):
            remote.upscale(photo)


def test_files_record_the_servers_precision_and_a_change_of_it_is_refused(
    photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    server = InferenceServer(bundle, options=dataclasses.replace(OPTIONS, precision="int8"))
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        assert remote.precision == "int8"
        (output,) = remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png").outputs
        assert (output.provenance.precision, output.provenance.device) == ("int8", server.url)
        server.parameters["precision"] = "bundle"
        with pytest.raises(UnavailableError, match="now draws in bundle instead of int8"):
            remote.upscale(photo)
    server.stop()


def test_cancel_ends_the_request_on_the_server_too(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer
) -> None:
    cancel, held, released = threading.Event(), threading.Event(), threading.Event()

    def hold(inputs: dict[str, Any]) -> None:
        cancel.set()
        held.wait(30)
        released.set()

    server.before = hold
    with pytest.raises(CancelledError, match="cancelled by the caller"):
        remote.upscale(photo, cancel=cancel)
    assert server.ended.wait(10)
    assert not released.is_set()
    held.set()


def test_cancel_ends_the_waiting_for_a_server(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    cancel = threading.Event()
    with RemoteUpscaler(server.url, retry_for=600) as remote:
        server.stop()
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(CancelledError):
            remote.upscale(photo, cancel=cancel)


@pytest.mark.parametrize(
    "use",
    [
        lambda remote, photo: remote.restore(photo),
        lambda remote, photo: remote.restore_file("a.png", "b.png"),
        lambda remote, photo: remote.transfer(photo, photo, np.ones(photo.shape[:2], bool)),
        lambda remote, photo: remote.log_likelihood(photo),
        lambda remote, photo: remote.encode(photo[::4, ::4]).invert(photo),
    ],
    ids=["restore", "restore_file", "transfer", "log_likelihood", "invert"],
)
def test_what_needs_the_model_here_is_refused_with_what_to_use(
    use: Callable[[RemoteUpscaler, NDArray[np.uint8]], Any],
    photo: NDArray[np.uint8],
    remote: RemoteUpscaler,
    server: InferenceServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.png", photo)
    with pytest.raises(RemoteError, match=r"only upscales; .* use Upscaler with the bundle on this machine"):
        use(remote, photo)
    assert not server.requests


def test_threads_share_one(photo: NDArray[np.uint8], server: InferenceServer, tiny_bundle: Path) -> None:
    with (
        RemoteUpscaler(server.url, tile=32) as remote,
        Upscaler(tiny_bundle, device="cpu", tile=32) as local,
        ThreadPoolExecutor(6) as pool,
    ):
        drawn = pool.map(lambda seed: remote.upscale(photo, seed=seed), range(12))
        for seed, picture in enumerate(drawn):
            assert np.array_equal(picture, local.upscale(photo, seed=seed))


def test_closed_one_says_so_and_cannot_be_pickled(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    remote = RemoteUpscaler(server.url)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(remote)
    remote.close()
    remote.close()
    with pytest.raises(DeviceError, match="was closed"):
        remote.upscale(photo)


def test_closing_it_in_another_thread_ends_a_request(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    held, reached, remote = threading.Event(), threading.Event(), RemoteUpscaler(server.url)

    def hold(inputs: dict[str, Any]) -> None:
        reached.set()
        held.wait(30)

    server.before = hold
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(remote.upscale, photo)
        assert reached.wait(30)
        remote.close()
        with pytest.raises(DeviceError, match="closed while it was used"):
            pending.result(30)
        held.set()


def test_numbers_that_a_request_cannot_hold_are_refused(photo: NDArray[np.uint8], remote: RemoteUpscaler) -> None:
    for options in ({"seed": 1 << 63}, {"sample": 1 << 63}):
        with pytest.raises(ArgumentError, match=r"below 2\^63 where a server draws"):
            remote.upscale(photo, **options)
    assert remote.upscale(photo, seed=(1 << 63) - 1, sample=(1 << 63) - 1).shape == (180, 244, 3)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nothing_at_the_address_fails_at_once_with_what_to_check(protocol: Any, server: InferenceServer) -> None:
    server.stop()
    with pytest.raises(UnavailableError, match="cannot be reached: Connection refused; start the server, or check"):
        RemoteUpscaler(f"127.0.0.1:{server.port}", protocol=protocol)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_machine_that_does_not_answer_cannot_be_reached(protocol: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnavailableError, match=r"cannot be reached: no answer within 0\.4 s; start the server"):
            RemoteUpscaler("{}:{}".format(*silent.getsockname()), protocol=protocol, timeout=0.4)


def test_http_to_a_port_of_grpc_says_what_to_write(server: InferenceServer) -> None:
    with pytest.raises(UnavailableError, match=rf"does not speak HTTP \(.*write grpc://127\.0\.0\.1:{server.port}"):
        RemoteUpscaler(f"http://127.0.0.1:{server.port}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"])
def test_grpc_to_a_port_of_http_says_what_to_write(answer: bytes) -> None:
    class Http(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Http) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        place = "{}:{}".format(*other.server_address)
        with pytest.raises(UnavailableError, match=rf"does not speak gRPC \(.*write http://{re.escape(place)}"):
            RemoteUpscaler(place)
        other.shutdown()


def test_the_longest_timeout_is_one_that_grpc_takes(server: InferenceServer, photo: NDArray[np.uint8]) -> None:
    with RemoteUpscaler(server.url, timeout=LONGEST_S, retry_for=LONGEST_S) as remote:
        assert remote.upscale(photo).shape == (180, 244, 3)


def test_model_that_is_not_there_is_refused_with_those_that_are(server: InferenceServer) -> None:
    with pytest.raises(RemoteError, match=f"has no model 'nope'; its models are {NAME}"):
        RemoteUpscaler(server.url, model="nope")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("model", None, "is not a model that upscales pictures"),
        ("model", "{", "it is not JSON"),
        ("model", '{"scale": 4}', "the field .* is missing"),
        ("max_tile_pixels", "many", "max_tile_pixels is 'many'"),
    ],
)
def test_server_that_describes_its_model_badly_is_refused(
    name: str, text: str | None, reason: str, server: InferenceServer
) -> None:
    server.parameters.pop(name)
    if text is not None:
        server.parameters[name] = text
    with pytest.raises(RemoteError, match=reason):
        RemoteUpscaler(server.url)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_message_bytes": 100_000}, "max_message_bytes is 100,000; the smallest tile"),
        ({"max_message_bytes": 1 << 31}, "below 2 GiB"),
        ({"max_message_bytes": 1000}, "max_message_bytes is 1,000; it must be at least 65,536"),
        ({"max_message_bytes": -1}, "max_message_bytes is -1; it must be at least 65,536"),
        ({"max_message_bytes": 1e7}, "must be a number of bytes"),
        ({"timeout": 0}, "timeout is 0; it must be a number of seconds"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": 1e300}, r"timeout is 1e\+300; it must be a number of seconds, 0.001 to 10,000,000"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": 10**400}, "timeout is 1000"),
        ({"retry_for": -1}, "retry_for is -1"),
        ({"model": ""}, "must be the name of a model"),
        ({"tile": 3}, "tile is 3"),
        ({"protocol": "udp"}, "protocol is 'udp'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], reason: str, server: InferenceServer) -> None:
    with pytest.raises(ArgumentError, match=reason):
        RemoteUpscaler(server.url.removeprefix("grpc://"), **options)


def test_without_the_extra_an_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtraError, match=r'pip install "srflow-sdk\[triton\]"'):
        RemoteUpscaler("gpu:8001")


def test_client_library_is_imported_only_when_a_server_is_opened() -> None:
    code = "import sys, srflow_sdk.triton; print([name for name in sys.modules if name.startswith(('grpc', 'triton'))])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def _fail(error: Exception) -> None:
    raise error


def _wait(event: threading.Event) -> None:
    event.wait(30)
