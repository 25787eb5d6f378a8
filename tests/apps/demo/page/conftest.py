"""The page in a browser, with a tiny real flow; nothing but its server is asked for anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.files import write_image
from tests.chromium import SCREENS, running_chromium

from ..served import served


@pytest.fixture(scope="package")
def server(flow_bundle, tmp_path_factory):
    pytest.importorskip("uvicorn", reason='pip install "srflow-sdk[demo]"')
    options = ("--model", flow_bundle, "--max-upload", "1M", "--tile", "32", "--threads", "1")
    with served(tmp_path_factory.mktemp("demo"), *options) as running:
        yield running


@pytest.fixture(scope="package")
def chromium():
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(chromium, server):
    """Opens pages; at the end, none of them complained, and nothing but the server was asked for
    anything.

    A browser complains of every status above 399. Those that a test expects stand in
    `open_page.refused`.
    """
    complaints: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_one(screen: str = "desktop", scheme: str = "light", ratio: float = 1):
        seen = {"viewport": SCREENS[screen], "color_scheme": scheme, "device_scale_factor": ratio}
        contexts.append(chromium.new_context(**seen, has_touch=screen == "phone"))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)  # on a busy machine
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        page.wait_for_selector(".sf-empty")
        return page

    open_one.refused = set()
    yield open_one
    for context in contexts:
        context.close()
    expected = tuple(
        f"error: Failed to load resource: the server responded with a status of {n}"
        for n in open_one.refused
    )
    assert [line for line in complaints if not line.startswith(expected)] == []
    assert asked
    assert [url for url in asked if not url.startswith((server.origin, "data:"))] == []
    assert server.connected_to() == []


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="package")
def photos(tmp_path_factory) -> Path:
    """cat.png, 96×80, with a hint of noise; medium.png, 200×160; large.png, 400×300; huge.png,
    1200×900.

    own.png, 96×80, is of one test at a time.
    """
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:300, 0:400]
    waves = [np.sin(x / 7 + shift) * np.cos(y / 5 - shift) for shift in (0, 1, 2)]
    large = np.clip(
        np.rint(127 + 90 * np.stack(waves, -1) + random.normal(0, 6, (300, 400, 3))), 0, 255
    )
    large = large.astype(np.uint8)
    write_image(folder / "large.png", large)
    write_image(folder / "cat.png", large[:80, :96])
    write_image(folder / "medium.png", large[:160, :200])
    write_image(folder / "own.png", large[100:180, :96])
    write_image(folder / "huge.png", np.tile(large[:, :, :1], (3, 3, 3)) // 64 * 64)
    return folder
