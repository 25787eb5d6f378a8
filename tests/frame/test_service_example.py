"""examples/service.py, started as its users start it, with real requests."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from .bare_environment import ROOT

aiohttp = pytest.importorskip("aiohttp")

PHOTO = ROOT / "examples" / "photos" / "cat.png"
DEADLINE_S = 120


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address of its page."""
    command = [sys.executable, str(ROOT / "examples" / "service.py"), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if "Running on" in line).split()[3]
        yield process, f"{address}/upscale"
        process.kill()


def small_photo() -> bytes:
    stream = io.BytesIO()
    with Image.open(PHOTO) as photo:
        photo.resize((40, 30)).save(stream, "PNG")
    return stream.getvalue()


def test_photos_are_answered_and_what_is_none_is_refused_in_one_line(service) -> None:
    _, url = service

    async def requests() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_S)) as session:
            async with session.post(f"{url}?tau=0.5&seed=1&format=jpg", data=small_photo()) as answer:
                assert (answer.status, answer.content_type) == (200, "image/jpeg")
                assert Image.open(io.BytesIO(await answer.read())).size == (160, 120)
            for query, data, says in (
                ("tau=0.5", b"no picture", "the photo: this is not an image file"),
                ("tau=7", small_photo(), "tau is 7"),
                ("tau=warm", small_photo(), "tau and seed are numbers"),
                ("format=gif", small_photo(), "format is one of png, jpg, webp"),
            ):
                async with session.post(f"{url}?{query}", data=data) as answer:
                    assert answer.status == 400
                    assert says in (await answer.json())["error"]

    asyncio.run(requests())


def test_a_client_that_hangs_up_stops_its_picture_and_ctrl_c_the_service(service, tmp_path: Path) -> None:
    process, url = service

    async def hang_up() -> None:
        async with aiohttp.ClientSession() as session:
            request = asyncio.create_task(session.post(url, data=PHOTO.read_bytes()))
            while not list(tmp_path.glob("srflow-service-*/.large.png.*.part")):  # it is being drawn
                assert not request.done()
                await asyncio.sleep(0.01)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    asyncio.run(asyncio.wait_for(hang_up(), DEADLINE_S))
    said = next(line for line in process.stdout if "hung up" in line)
    assert said == "a client hung up: its picture is given up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 0
    assert list(tmp_path.glob("*srflow*")) == []
