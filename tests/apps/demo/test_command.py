"""srflow-demo as a command: what it prints, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from srflow_apps.demo.command import demo, open_listener
from srflow_apps.demo.guard import is_loopback
from srflow_sdk.errors import ArgumentError

from .served import served
from .visitor import CONTROLS, Visitor, wait_until

pytest.importorskip("starlette", reason='pip install "srflow-sdk[demo]"')
pytest.importorskip("uvicorn", reason='pip install "srflow-sdk[demo]"')


def test_a_port_in_use_is_one_line() -> None:
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(demo, ["--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: port {port} of 127.0.0.1 cannot be used (")
    assert result.stderr.endswith("); choose another with --port, or --port 0 for a free one\n")


def test_an_address_of_no_machine_is_wrong_usage() -> None:
    with pytest.raises(
        ArgumentError, match=r"no address of this machine .*try --host 127\.0\.0\.1"
    ):
        open_listener("nowhere.invalid", 0)
    with pytest.raises(
        ArgumentError, match=r"192\.0\.2\.1 is no address of this machine .*try --host 127\.0\.0\.1"
    ):
        open_listener("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--max-upload", "-1"], 2, "'-1' is not a number, such as"),
        (["--precision", "int8"], 1, "int8"),
        (["--model", "none.srflow"], 1, "error: none.srflow: there is no such bundle"),
    ],
)
def test_what_cannot_be_is_one_line(tiny_bundle, options, status, says) -> None:
    result = CliRunner().invoke(
        demo, ["--port", "0", "--model", str(tiny_bundle), "--device", "cpu", *options]
    )
    assert result.exit_code == status
    assert says in result.stderr.splitlines()[-1]


def test_loopback_is_recognised() -> None:
    assert [
        is_loopback(host)
        for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1")
    ] == [True] * 5
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.5", "example.com")] == [
        False
    ] * 4


@pytest.mark.not_on_windows("signals")
@pytest.mark.parametrize(
    "numbers", [[getattr(signal, "SIGHUP", None)], [signal.SIGINT, signal.SIGTERM]], ids=str
)
def test_signals_end_it_cleanly_whatever_is_in_flight_and_leave_no_files(
    tiny_bundle, tmp_path, uploaded, numbers
) -> None:
    with served(tmp_path / "demo", "--model", tiny_bundle) as running:
        visitor = Visitor(running.url).open()
        assert visitor.send("enlarge", "photo.png", uploaded.read_bytes()).status == 200
        visitor.of_page("POST", "work/enlarge", {**CONTROLS, "format": "png"})
        slow = visitor.begin("enlarge", b"half", length=1000)
        wait_until(lambda: any(path.name == "slow.png" for path in running.files()))
        for number in numbers:  # two of one kind might become one
            running.process.send_signal(number)
        assert running.process.communicate(timeout=20) == ("", "interrupted\n")
        slow.close()
    assert running.process.returncode in [128 + number for number in numbers]
    assert not list((tmp_path / "demo" / "tmp").iterdir())


@pytest.mark.not_on_windows("signals")
def test_a_signal_while_it_starts_ends_it(tiny_bundle, tmp_path) -> None:
    # The signal comes while the model is opened.
    code = (
        "import os, srflow_sdk.upscaler as module; opened = module.Upscaler.__init__\n"
        f"def opening(*a, **k): os.kill(os.getpid(), {int(signal.SIGTERM)}); opened(*a, **k)\n"
        "module.Upscaler.__init__ = opening; from srflow_apps.demo.command import demo; demo()"
    )
    arguments = ["--port", "0", "--device", "cpu", "--model", str(tiny_bundle)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        128 + signal.SIGTERM,
        "",
        "interrupted\n",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.not_on_windows("a browser that is a script of the shell")
def test_open_gives_the_browser_a_token_of_its_own(tiny_bundle, tmp_path) -> None:
    # Whoever lists the processes of the machine can read a browser's command line.
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/opened\n'
    )
    browser.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BROWSER", f"{browser} %s")
        with served(tmp_path / "demo", "--model", tiny_bundle, "--open") as running:
            wait_until((tmp_path / "opened").exists)
            url = (tmp_path / "opened").read_text().strip()
            assert url.startswith(f"{running.origin}/?token=")
            assert url != running.url
            assert [Visitor(url).enter().status for _ in range(2)] == [200, 403]
            assert [Visitor(running.url).enter().status for _ in range(2)] == [200, 200]
