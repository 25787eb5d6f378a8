"""examples/viewer with Qt's offscreen screen: what is shown is what is saved, and the window never
waits."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler, read_image, read_provenance, write_image
from srflow_sdk.drawing.low_resolution import ChromaBounds
from tests.sdk.tiny_bundle import write_tiny_bundle

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
widgets = pytest.importorskip("PySide6.QtWidgets", reason="no Qt", exc_type=ImportError)
from PySide6.QtCore import QEventLoop, Qt, QTimer  # noqa: E402
from PySide6.QtTest import QTest  # noqa: E402

VIEWER = Path(__file__).parents[2] / "examples" / "viewer"
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def viewer():
    """The module, imported as its own program does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(VIEWER)
        yield importlib.import_module("viewer")
    for name in ("viewer", "artist", "part", "widgets"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    """Of colours far from those around, as latents have them: the tiny network draws nothing
    else."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("viewer") / "tiny.srflow", default_tau=0.7)
    with pytest.MonkeyPatch.context() as patch, Upscaler(bundle, device="cpu", threads=1) as opened:
        patch.setattr(ChromaBounds, "limit", lambda self, picture: picture)
        yield opened


@pytest.fixture
def window(viewer, upscaler):
    app = widgets.QApplication.instance() or widgets.QApplication([])
    opened = viewer.Window(upscaler)
    opened.resize(900, 600)
    opened.show()
    yield opened
    opened.close()
    app.processEvents()
    assert opened.artist.isFinished()


@pytest.fixture
def photos(tmp_path):
    """An odd small photo, and one that is larger than what follows the slider."""
    with Image.open(VIEWER.parent / "photos" / "cat.png") as cat:
        cat = cat.convert("RGB")
        cat.crop((60, 20, 105, 57)).save(tmp_path / "small.png")
        cat.crop((40, 0, 171, 131)).save(tmp_path / "large.png")
    return tmp_path


def after(signal, action):
    """What the signal carries once the action made it come. The event loop runs meanwhile."""
    loop = QEventLoop()
    came = []

    def come(*values):
        came.extend(values)
        loop.quit()

    signal.connect(come, Qt.ConnectionType.QueuedConnection)
    action()
    QTimer.singleShot(PATIENCE_MS, loop, loop.quit)
    loop.exec()  # QSignalSpy.wait would keep Python's lock, and the artist waiting
    signal.disconnect(come)
    assert came
    return came


def shown(window):
    image = window.comparison.after
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def assert_same(picture, expected):
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_a_small_photo_follows_the_slider_and_the_seed(window, photos, upscaler):
    small = read_image(photos / "small.png").pixels
    after(window.artist.drawn, lambda: window.open_photo(photos / "small.png"))
    assert_same(shown(window), upscaler.upscale(small, tau=0.7, seed=0))
    assert window.overview.isHidden()
    after(window.artist.drawn, lambda: window.tau.setValue(20))
    assert_same(shown(window), upscaler.upscale(small, tau=1.0, seed=0))
    after(window.artist.drawn, lambda: window.seed.setText("18446744073709551615"))
    assert_same(shown(window), upscaler.upscale(small, tau=1.0, seed=2**64 - 1))
    assert window.message.text() == "τ 1, seed 18446744073709551615: 180×148 pixels"
    window.seed.setText("warm")
    assert (
        window.message.text()
        == "The seed is “warm”: it must be a whole number from 0 to 18446744073709551615."
    )


def test_the_window_does_not_wait_for_a_photo_that_opens(window, photos, monkeypatch):
    go_on = threading.Event()
    read = []

    def slow(path):
        read.append(go_on.wait(PATIENCE_MS / 1000))
        return read_image(path)

    monkeypatch.setattr(sys.modules["artist"], "read_image", slow)
    window.open_photo(photos / "small.png")
    assert read == []
    assert window.message.text() == "Opening small.png …"
    assert not window.tau.isEnabled()
    assert not window.cancel.isVisible()
    after(window.artist.drawn, go_on.set)
    assert read == [True]
    assert window.message.text() == "τ 0.7, seed 0: 180×148 pixels"
    assert window.tau.isEnabled()
    assert window.save.isEnabled()


def test_the_part_of_a_large_photo_is_what_is_saved_there(window, photos, tmp_path):
    after(window.artist.drawn, lambda: window.open_photo(photos / "large.png"))
    assert not window.overview.isHidden()
    middle = shown(window)
    after(window.artist.drawn, lambda: QTest.keyClick(window.overview, Qt.Key.Key_Right))
    right = shown(window)
    place = window.job.place
    assert (place.top, place.left, place.height, place.width) == (18, 34, 96, 96)
    window.seed.setText("3")
    after(window.artist.drawn, lambda: window.seed.setText("0"))
    after(window.artist.saved, lambda: window.save_to(tmp_path / "saved.png"))
    saved = read_image(tmp_path / "saved.png").pixels
    assert saved.shape == (4 * 131, 4 * 131, 3)
    assert_same(right, saved[4 * 18 : 4 * 114, 4 * 34 : 4 * 130])
    assert_same(middle, saved[4 * 18 : 4 * 114, 4 * 18 : 4 * 114])
    recorded = read_provenance(tmp_path / "saved.png")
    assert (recorded.tau, recorded.seed) == (0.7, 0)
    assert window.message.text() == f"{tmp_path / 'saved.png'} is written."


@pytest.mark.parametrize("kind", ["gray", "transparent", "16 bits"])
def test_a_photo_of_any_kind_is_drawn_as_it_is_saved(window, photos, tmp_path, viewer, kind):
    with Image.open(photos / "small.png") as small:
        pixels = np.asarray(small)
    ramp = np.linspace(0, 255, pixels.shape[1]).astype(np.uint8)
    if kind == "gray":
        Image.fromarray(pixels[..., 0]).save(tmp_path / "photo.png")
    elif kind == "transparent":
        Image.fromarray(np.dstack([pixels, np.broadcast_to(ramp, pixels.shape[:2])])).save(
            tmp_path / "photo.png"
        )
    else:
        write_image(tmp_path / "photo.png", pixels.astype(np.uint16) * 257 + 100)
    after(window.artist.drawn, lambda: window.open_photo(tmp_path / "photo.png"))
    picture = shown(window)
    after(window.artist.saved, lambda: window.save_to(tmp_path / "saved.png"))
    saved = read_image(tmp_path / "saved.png").pixels
    assert (saved.shape[2], saved.dtype.itemsize) == {
        "gray": (1, 1),
        "transparent": (4, 1),
        "16 bits": (3, 2),
    }[kind]
    assert_same(picture, viewer.as_rgb(saved))


def test_saving_can_be_cancelled_and_leaves_nothing(window, photos, tmp_path):
    after(window.artist.drawn, lambda: window.open_photo(photos / "large.png"))
    window.save_to(tmp_path / "saved.png")
    assert not window.tau.isEnabled()
    assert window.cancel.isVisible()
    after(
        window.artist.cancelled, lambda: QTest.mouseClick(window.cancel, Qt.MouseButton.LeftButton)
    )
    assert window.message.text() == "Cancelled: saved.png was not written."
    assert window.tau.isEnabled()
    assert window.save.isEnabled()
    assert not list(tmp_path.glob("*saved*"))


def test_what_cannot_be_saved_or_opened_is_one_line_and_the_photo_stays(window, photos, viewer):
    after(window.artist.drawn, lambda: window.open_photo(photos / "small.png"))
    before = shown(window)
    after(window.artist.failed, lambda: window.save_to(photos / "large.xyz"))
    assert "large.xyz" in window.message.text()
    assert "\n" not in window.message.text()
    (photos / "text.png").write_text("no picture")
    after(window.artist.failed, lambda: window.open_photo(photos / "text.png"))
    assert "this is not an image file" in window.message.text()
    np.testing.assert_array_equal(shown(window), before)


def test_a_photo_that_cannot_be_read_ends_the_command_with_one_line(tmp_path):
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, VIEWER / "viewer.py", tmp_path / "none.jpg", "--model", "x4-small"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE_MS / 1000,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "none.jpg" in line
