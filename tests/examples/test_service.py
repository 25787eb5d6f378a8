"""examples/service.py, started as its users start it, with real requests through real sockets."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from srflow_sdk import read_provenance

for needed in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(needed)

ROOT = Path(__file__).parents[2]
SERVICE = [sys.executable, str(ROOT / "examples" / "service.py")]
TOKEN = "opened-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE_S = 120


@dataclass
class Service:
    process: subprocess.Popen[str]
    port: int
    folder: Path  # its temporary files
    log: list[str]  # lines of its standard error

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] = BEARER) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    def error(self, path: str, body: Any = b"", headers: dict[str, str] = BEARER) -> tuple[int, str]:
        status, _, content = self.ask("POST", path, body, headers)
        return status, json.loads(content)["error"]

    def left(self) -> list[Path]:
        return list(self.folder.glob("*srflow*"))

    def started(self, photo: bytes, *, missing: int = 0) -> socket.socket:
        """A request whose answer nobody reads; closing the socket hangs up. missing: bytes that are not sent yet."""
        head = f"POST /upscale HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        line = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        line.sendall(f"{head}Content-Length: {len(photo) + missing}\r\n\r\n".encode() + photo)
        return line

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics")[2].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def until(self, happened: Callable[[], bool]) -> None:
        """Ask again and again; a request in between takes its time, so this does not spin."""
        for _ in range(20_000):
            if happened():
                return
        pytest.fail("it did not happen")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    command = [*SERVICE, "--port", "0", "--at-once", "1", "--queue", "1", "--max-mb", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder), "SRFLOW_TOKEN": TOKEN}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        address = next(found for line in process.stderr if (found := re.search(r"running on http://[^:]+:(\d+)", line)))
        log: list[str] = []
        reader = threading.Thread(target=log.extend, args=(process.stderr,))
        reader.start()
        yield Service(process, int(address[1]), folder, log)
        process.kill()
        reader.join()


def photo(width: int = 40, height: int = 30) -> bytes:
    stream = io.BytesIO()
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as cat:
        cat.convert("RGB").resize((width, height)).save(stream, "JPEG")
    return stream.getvalue()


def blank(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_a_photo_is_enlarged_and_the_same_request_gives_the_same_picture(service: Service) -> None:
    pictures = []
    for query in ("tau=0.5&seed=1", "tau=0.5&seed=1", "tau=0.5&seed=2", ""):
        status, headers, content = service.ask("POST", f"/upscale?{query}", photo())
        assert (status, headers["Content-Type"]) == (200, "image/png")
        pictures.append(Image.open(io.BytesIO(content)))
    assert pictures[0].size == (160, 120)
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()
    status, headers, content = service.ask("POST", "/upscale?tau=auto&format=jpg", photo())
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(content)).format == "JPEG"
    assert service.metric('srflow_answers_total{outcome="200"}') == 5
    assert service.metric("srflow_seconds_count") == 5
    assert service.left() == []


def test_each_photo_gets_the_model_that_suits_it(service: Service, tmp_path: Path) -> None:
    for body, model in ((photo(), "x4-photo"), (blank(40, 30), "x4-small")):
        (tmp_path / "large.png").write_bytes(service.ask("POST", "/upscale", body)[2])
        provenance = read_provenance(tmp_path / "large.png")
        assert provenance is not None
        assert provenance.model == model


@pytest.mark.parametrize(
    ("query", "body", "status", "why"),
    [
        ("tau=0.5", b"no picture", 400, "the photo: this is not an image file"),
        ("tau=0.5", photo()[:300], 400, "the photo: "),
        ("tau=7", photo(), 422, "tau is 7; it must be a finite number from 0 to 2"),
        ("tau=warm", photo(), 422, "tau is 'warm': it must be a number from 0 to 2, or \"auto\""),
        ("seed=-1", photo(), 422, "seed: "),
        ("seed=18446744073709551616", photo(), 422, "seed: "),
        ("format=gif", photo(), 422, "format: Input should be 'png', 'jpg' or 'webp'"),
        (
            "",
            blank(5000, 4801),
            400,
            "the photo: 5000×4801 pixels exceed the limit of 24,000,000; send a smaller photo",
        ),
        (
            "format=webp",
            blank(5000, 1),
            400,
            "the picture cannot be written: it would have 20000×4 pixels, but the sides of a WebP file are at most "
            "16,383; use format=png",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    service: Service, query: str, body: bytes, status: int, why: str
) -> None:
    found, line = service.error(f"/upscale?{query}", body)
    assert found == status
    assert line.startswith(why)
    assert "\n" not in line
    assert str(service.folder) not in line
    assert service.left() == []


def test_only_the_token_opens_it(service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
        assert service.error("/upscale", photo(), headers) == (
            401,
            'the token is wrong: send "Authorization: Bearer …"',
        )
        assert service.ask("GET", "/metrics", headers=headers)[0] == 401
    assert service.ask("GET", "/metrics", headers={"Authorization": f"bearer {TOKEN}"})[0] == 200  # it has no case
    for path in ("/health", "/ready", "/docs"):
        assert service.ask("GET", path, headers={})[0] == 200
    described = json.loads(service.ask("GET", "/openapi.json", headers={})[2])["paths"]["/upscale"]["post"]
    assert {entry["name"] for entry in described["parameters"]} == {"tau", "seed", "format"}
    assert "image/*" in described["requestBody"]["content"]


def test_a_form_is_refused_with_what_to_send_instead(service: Service) -> None:
    form = {**BEARER, "Content-Type": "multipart/form-data; boundary=b"}
    status, line = service.error("/upscale", photo(), form)
    assert status == 415
    assert "send the photo itself as the body" in line
    assert service.left() == []


def test_a_huge_upload_is_refused_before_it_is_read(service: Service) -> None:
    line = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S)
    head = f"POST /upscale HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    line.sendall(f"{head}Content-Length: 100000000000\r\n\r\n".encode())  # and nothing of it
    answer = line.makefile("rb").read().decode()  # it ends: the service closes the connection
    assert answer.startswith("HTTP/1.1 413")
    assert answer.endswith('{"error":"the upload is larger than 1 MB: send a smaller photo"}')
    pieces = iter([b"x" * 100_000] * 11)  # in chunks, without a length beforehand
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    connection.request("POST", "/upscale", pieces, BEARER, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert service.left() == []


def test_too_many_photos_are_told_to_come_back_and_who_hangs_up_stops_the_work(service: Service) -> None:
    large = photo(1200, 900)  # about a minute of work
    before = service.metric('srflow_answers_total{outcome="client left"}')
    lines = [service.started(large) for _ in range(2)]
    service.until(lambda: (service.metric("srflow_running"), service.metric("srflow_waiting")) == (1, 1))
    status, headers, content = service.ask("POST", "/upscale", photo())
    assert (status, int(headers["Retry-After"]) >= 1) == (503, True)
    assert json.loads(content)["error"].startswith("too many photos wait: try again in about ")
    assert service.ask("GET", "/ready", headers={})[0] == 503
    assert service.ask("GET", "/health", headers={})[0] == 200
    for line in lines:
        line.close()
    service.until(lambda: service.metric('srflow_answers_total{outcome="client left"}') == before + 2)
    assert (service.metric("srflow_running"), service.metric("srflow_waiting")) == (0, 0)
    assert service.left() == []
    assert service.ask("POST", "/upscale", photo())[0] == 200


def test_uploads_that_stand_still_keep_nobody_out_and_may_hang_up(service: Service) -> None:
    before = service.metric('srflow_answers_total{outcome="client left"}')
    lines = [service.started(photo(), missing=1000) for _ in range(63)]  # far more than may wait
    service.until(lambda: service.metric("srflow_uploads") == 63)
    assert service.ask("GET", "/ready", headers={})[0] == 200
    assert service.ask("POST", "/upscale", photo())[0] == 200
    lines.append(service.started(photo(), missing=1000))
    service.until(lambda: service.metric("srflow_uploads") == 64)
    assert service.ask("GET", "/ready", headers={})[0] == 503
    assert service.error("/upscale", photo()) == (503, "too many uploads are on their way: try again")
    for line in lines:
        line.close()
    service.until(lambda: service.metric('srflow_answers_total{outcome="client left"}') == before + 64)
    assert service.metric("srflow_uploads") == 0
    assert service.left() == []
    assert not any("Traceback" in line for line in service.log)


def loaded() -> Any:
    """examples/service.py as a module."""
    spec = importlib.util.spec_from_file_location("service", SERVICE[1])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "service", module)  # where dataclasses look for their types
        spec.loader.exec_module(module)
    return module


def test_photos_are_drawn_in_their_order_and_each_who_is_refused_is_told_of_another_time() -> None:
    module = loaded()

    async def main() -> tuple[list[int], list[int]]:
        turns = module.Turns(module.Settings(at_once=1, queue=8), module.Metrics())
        drawn: list[int] = []
        first = asyncio.Event()

        async def photo(number: int) -> None:
            async with turns.place() as turn, turn():
                await first.wait()
                drawn.append(number)

        async def refused() -> int:
            with pytest.raises(module.HTTPException) as caught:
                await photo(9)
            assert caught.value.status_code == 503
            return int(caught.value.headers["Retry-After"])

        photos = [asyncio.create_task(photo(number)) for number in range(9)]
        await asyncio.sleep(0)
        told = [await refused() for _ in range(23)]  # at once
        assert turns.full
        first.set()
        await asyncio.gather(*photos)
        assert not turns.full
        return drawn, told

    drawn, told = asyncio.run(main())
    assert drawn == list(range(9))
    assert told == [5 * number for number in range(1, 24)]  # a photo is taken to need 5 s until some are drawn


def test_an_upload_that_goes_on_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded()
    monkeypatch.setattr(module, "UPLOAD_S", 0.05)

    class Slow:
        headers: ClassVar[dict[str, str]] = {}

        async def stream(self) -> AsyncIterator[bytes]:
            while True:  # a little now and then
                await asyncio.sleep(0.001)
                yield b"x"

    with pytest.raises(module.HTTPException) as caught:
        asyncio.run(module.receive(Slow(), tmp_path / "photo", 1_000_000))
    assert caught.value.status_code == 408


def test_unknown_paths_and_methods_are_errors_like_all_others(service: Service) -> None:
    for method, path, status, why in (
        ("POST", "/none", 404, "Not Found"),
        ("GET", "/upscale", 405, "Method Not Allowed"),
    ):
        before = service.metric(f'srflow_answers_total{{outcome="{status}"}}')
        found, _, content = service.ask(method, path)
        assert (found, json.loads(content)) == (status, {"error": why})
        assert service.metric(f'srflow_answers_total{{outcome="{status}"}}') == before + 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--max-mb", "inf"], "--at-once and --max-mb must be positive"),
        (["--max-mb", "nan"], "--at-once and --max-mb must be positive"),
        (["--port", "99999"], "--port is 99999; it must be from 0 to 65535"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    monkeypatch.setattr(sys, "argv", [*SERVICE[1:], *options])
    with pytest.raises(SystemExit) as ended:
        loaded().main()
    assert ended.value.code == 2
    assert f"error: {line}" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_it_and_what_it_was_doing(service: Service) -> None:
    line = service.started(photo(1200, 900))
    service.until(lambda: service.metric("srflow_running") == 1)
    line.close()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(PATIENCE_S) in (0, -signal.SIGINT)
    assert service.left() == []


def test_it_is_not_opened_to_others_without_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SRFLOW_TOKEN", raising=False)
    monkeypatch.setattr(sys, "argv", [*SERVICE[1:], "--host", "0.0.0.0"])
    with pytest.raises(SystemExit) as ended:
        loaded().main()
    assert ended.value.code == 2
    said = "--host 0.0.0.0 opens the service to others: set SRFLOW_TOKEN to what they must send"
    assert said in capsys.readouterr().err


def test_a_model_that_is_none_ends_it_with_one_line(tmp_path: Path) -> None:
    command = [*SERVICE, "--model", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'none'}: there is no such bundle")
