"""srflow-demo as a command: what it prints, what it lets in, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from srflow_sdk._demo.command import demo
from srflow_sdk._demo.serving import is_loopback, listening
from srflow_sdk.errors import ArgumentError

from .served import served

gradio = pytest.importorskip("gradio", reason='pip install "srflow-sdk[demo]"')


@pytest.fixture(scope="module")
def server(tiny_bundle, tmp_path_factory):
    with served(tmp_path_factory.mktemp("demo"), "--model", tiny_bundle, "--max-upload", "100k") as running:
        yield running


def status(url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> int:
    """The status of a GET request, or a POST with a body, to the socket that the URL names whatever the headers say."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
    method = "GET" if body is None else "POST"
    connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
    return connection.getresponse().status


def test_a_port_in_use_is_one_line() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(demo, ["--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: port {port} of 127.0.0.1 cannot be used (Address already in use); choose another with --port, or "
        "--port 0 for a free one\n"
    )


def test_an_address_of_no_machine_is_wrong_usage() -> None:
    with pytest.raises(ArgumentError, match=r"no address of this machine .*try --host 127\.0\.0\.1"):
        listening("nowhere.invalid", 0)
    with pytest.raises(ArgumentError, match=r"192\.0\.2\.1 is no address of this machine .*try --host 127\.0\.0\.1"):
        listening("192.0.2.1", 0)


def test_the_largest_upload_is_a_number_of_bytes() -> None:
    result = CliRunner().invoke(demo, ["--max-upload", "-1"])
    assert result.exit_code == 2
    assert "'-1' is not a number of bytes, such as 100M" in result.stderr


def test_the_precision_is_that_of_the_upscaler(tiny_bundle) -> None:
    arguments = ["--port", "0", "--model", str(tiny_bundle), "--device", "cpu", "--precision", "int8"]
    result = CliRunner().invoke(demo, arguments)
    assert result.exit_code == 1
    assert "int8" in result.stderr


def test_loopback_is_recognised() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.5", "example.com")] == [False] * 4


def test_a_missing_model_is_one_line(tmp_path) -> None:
    result = CliRunner().invoke(demo, ["--port", "0", "--model", str(tmp_path / "none.srflow")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_it_listens_on_the_loopback_address_alone(server) -> None:
    assert urlsplit(server.url).hostname == "127.0.0.1"
    with socket.socket() as other:  # 127.0.0.2 is this machine, too, but not what was asked for
        assert other.connect_ex(("127.0.0.2", urlsplit(server.url).port)) != 0


def test_the_page_may_load_nothing_from_elsewhere(server) -> None:
    with urllib.request.urlopen(server.url, timeout=30) as answer:
        page = answer.read().decode()
        policy = answer.headers["content-security-policy"]
    assert "default-src 'self' data: blob:" in policy
    assert "http" not in policy
    assert "fonts.googleapis" not in page


def test_other_names_of_this_machine_are_refused(server) -> None:
    port = urlsplit(server.url).port
    assert status(server.url, {"Host": f"localhost:{port}"}) == 200
    assert status(server.url, {"Host": f"LOCALHOST:{port}"}) == 200  # names have no case
    assert status(server.url, {"Host": f"attacker.example:{port}"}) == 421
    assert status(server.url, {"Host": "attacker.example"}) == 421


@pytest.mark.parametrize("origin", ["http://attacker.example", "null", "http://127.0.0.1:1"])
def test_what_a_page_elsewhere_sends_is_refused_and_nothing_is_kept(server, origin) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="sent.png"\r\n\r\n0\r\n--b--\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert status(f"{server.url}gradio_api/upload", {**form, "Origin": origin}, body) == 403
    assert not list(server.connections.parent.rglob("sent.png"))
    assert status(f"{server.url}gradio_api/upload", {**form, "Origin": server.url.rstrip("/")}, body) == 200
    (sent,) = server.connections.parent.rglob("sent.png")
    sent.unlink()


@pytest.mark.parametrize("path", ["/etc/passwd", "../pyproject.toml", __file__])
def test_files_of_the_machine_are_not_served(server, path) -> None:
    assert status(f"{server.url}gradio_api/file={path}") in (403, 404)


@pytest.mark.parametrize("path", ["docs", "openapi.json", "monitoring/summary"])
def test_there_are_no_pages_for_developers(server, path) -> None:
    assert status(f"{server.url}{path}") in (401, 403, 404)


def test_an_upload_that_is_too_large_is_refused_and_nothing_is_kept(server) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + b"0" * 200_000
        + b"\r\n--b--\r\n"
    )
    request = urllib.request.Request(
        f"{server.url}gradio_api/upload", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 413
    assert not list(server.connections.parent.rglob("a.png"))


def test_the_server_connects_to_nothing(server) -> None:
    with urllib.request.urlopen(f"{server.url}config", timeout=30) as answer:
        assert json.load(answer)["analytics_enabled"] is False
    assert server.connected_to() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_and_leaves_no_files(tiny_bundle, tmp_path, number) -> None:
    with served(tmp_path / "demo", "--model", tiny_bundle) as running:
        assert list((tmp_path / "demo" / "tmp").glob("srflow-demo-*"))
        running.process.send_signal(number)
        out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 128 + number
    assert (out, err) == ("", "interrupted\n")
    assert not list((tmp_path / "demo" / "tmp").glob("srflow-demo-*"))


def test_ctrl_c_is_quiet_while_a_page_is_open(tiny_bundle, tmp_path) -> None:
    with served(tmp_path / "demo", "--model", tiny_bundle) as running:
        stream = urllib.request.urlopen(f"{running.url}gradio_api/heartbeat/anybody", timeout=30)
        with stream:  # which every open page holds
            running.process.send_signal(signal.SIGINT)
            assert running.process.communicate(timeout=60) == ("", "interrupted\n")


def test_help_loads_nothing_heavy() -> None:
    imports = "import sys; from srflow_sdk._demo.command import demo"
    code = f"{imports}; demo(['-h'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"gradio", "numpy", "onnxruntime", "PIL"} & set(done.stdout.splitlines()[-1].split())
