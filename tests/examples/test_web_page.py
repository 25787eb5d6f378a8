"""examples/web, built and opened in Chromium: the pictures are Upscaler's, and nothing leaves the
machine."""

import contextlib
import functools
import http.server
import io
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_apps.commands import cli
from srflow_sdk import Upscaler, __version__, read_image, read_provenance
from srflow_sdk.drawing.temperature import AUTO_TAU_SCHEME
from tests.chromium import CHROMIUM, in_chromium, running_chromium
from tests.sdk.clean_and_noisy import smooth
from tests.sdk.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
WEB = ROOT / "examples" / "web"
NODE = shutil.which("node")
PATIENCE_S = 30  # a busy machine takes several times as long as an idle one
PATIENCE_MS = 1000 * PATIENCE_S

pytestmark = [
    *in_chromium,
    pytest.mark.skipif(NODE is None, reason="no node on this machine: apt install nodejs npm"),
    pytest.mark.skipif(
        not (WEB / "node_modules").is_dir(), reason="run this first: npm ci --prefix examples/web"
    ),
]


def built_into(folder):
    return subprocess.run(
        [NODE, "build.mjs", folder], cwd=WEB, capture_output=True, text=True, timeout=PATIENCE_S
    )


@pytest.fixture(scope="module")
def built_site(tmp_path_factory):
    """A folder of a web server, with the page in docs/play/: its paths must be relative."""
    folder = tmp_path_factory.mktemp("built")
    built = built_into(folder / "docs" / "play")
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "x4-small": write_tiny_bundle(folder / "x4-small.srflow", name="x4-small", default_tau=0.7),
        "x4-photo": write_tiny_bundle(
            folder / "x4-photo.srflow", name="x4-photo", gain=0.9, default_tau=0.5
        ),
    }


@pytest.fixture(scope="module")
def site(bundles, built_site, tmp_path_factory):
    """The same folder with tiny models. The embedded ones take a browser on a CPU seconds for each
    picture."""
    folder = tmp_path_factory.mktemp("sites") / "tiny"
    shutil.copytree(built_site, folder, copy_function=os.link)
    for place in (folder / "docs" / "play" / "model").iterdir():
        for name in ("manifest.json", "encoder.onnx", "sampler.onnx"):
            (place / name).unlink()
            shutil.copy(bundles[place.name] / name, place / name)
    return folder


@contextlib.contextmanager
def served(site):
    """The page's address on a web server that serves this folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/docs/play/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(site):
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def address_of_embedded(built_site):
    with served(built_site) as address:
        yield address


SOFTWARE_GPU = [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
]


@pytest.fixture(scope="module")
def chromium():
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def chromium_with_gpu(chromium):
    browser = chromium.browser_type.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", *SOFTWARE_GPU]
    )
    yield browser
    browser.close()


class Opened:
    """The page in a browser, and what a user does with it. in_page, in_worker: JavaScript that runs
    before theirs."""

    def __init__(self, chromium, address, *, in_page="", in_worker="", **options):
        self.context = chromium.new_context(**options)
        self.context.add_init_script(in_page)
        if in_worker:
            self.context.route("**/worker.js", lambda route: self.prefix(route, in_worker))
        self.page = self.context.new_page()
        self.complaints = []
        self.asked = []
        self.page.on(
            "console",
            lambda message: message.type == "error" and self.complaints.append(message.text),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    @staticmethod
    def prefix(route, script):
        route.fulfill(body=script + route.fetch().text(), content_type="text/javascript")

    def says(self, pattern, patience_ms=PATIENCE_MS):
        from playwright.sync_api import expect

        expect(self.page.locator("#status")).to_have_text(re.compile(pattern), timeout=patience_ms)

    def refuses(self, pattern):
        from playwright.sync_api import expect

        expect(self.page.locator("#error p")).to_have_text(re.compile(pattern), timeout=PATIENCE_MS)
        assert self.page.locator("#cancel").is_hidden()
        assert self.page.locator("#progress").is_hidden()

    def choose(self, pixels):
        file = {"name": "a b.png", "mimeType": "image/png", "buffer": png(pixels)}
        self.page.set_input_files(".sf-photo input", file)

    def set_tau(self, value):
        self.page.locator("#tau").fill(value)
        self.says(" pixels in ")

    def downloaded(self):
        with self.page.expect_download() as download:
            self.page.locator("#download").click()
        return download.value.suggested_filename, np.asarray(Image.open(download.value.path()))[
            ..., :3
        ]

    def close(self):
        self.context.close()


@contextlib.contextmanager
def checked(chromium, address):
    """The page, opened; at the end, nothing was asked of another server, and nothing went wrong."""
    page = Opened(chromium, address)
    page.says("Ready")
    yield page
    assert page.complaints == []
    # Requests for blobs stay in the browser.
    assert [
        url
        for url in page.asked
        if not url.startswith((address, f"blob:{address.split('/docs')[0]}"))
    ] == []
    page.close()


@pytest.fixture
def opened(chromium, address):
    with checked(chromium, address) as page:
        yield page


@pytest.fixture
def opened_embedded(chromium, address_of_embedded):
    """With the embedded model."""
    with checked(chromium, address_of_embedded) as page:
        yield page


@pytest.fixture(scope="module")
def upscaler(bundles):
    with Upscaler(bundles["x4-small"], device="cpu", tile=64) as opened:
        yield opened


@pytest.fixture(scope="module")
def embedded():
    with Upscaler("x4-small", device="cpu", tile=64) as opened:
        yield opened


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def photo(height, width):
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as cat:
        return np.asarray(cat.convert("RGB"))[20 : 20 + height, 60 : 60 + width]


def assert_same(picture, expected):
    assert picture.shape == expected.shape
    difference = np.abs(picture.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_a_small_photo_becomes_upscalers_picture_and_follows_the_slider(opened, upscaler):
    small = photo(37, 45)
    opened.choose(small)
    opened.says("180×148 pixels in .* on one thread")
    name, picture = opened.downloaded()
    assert name == "a b_x4_tauauto0.7_seed0.png"
    assert_same(picture, upscaler.upscale(small, tau="auto"))
    opened.page.locator("#auto").uncheck()
    opened.page.locator("#seed").fill("18446744073709551615")
    for tau in ("0", "0.85"):
        opened.set_tau(tau)
        name, picture = opened.downloaded()
        assert name == f"a b_x4_tau{tau}_seed18446744073709551615.png"
        assert_same(picture, upscaler.upscale(small, tau=float(tau), seed=2**64 - 1))


def test_a_large_photo_is_drawn_in_tiles_and_a_part_of_it_live(opened, upscaler):
    large = photo(86, 97)
    whole = upscaler.upscale(large, tau="auto", seed=1)
    opened.choose(large)
    opened.page.locator("#seed").fill("1")
    opened.says("256×256 pixels in")
    part = whole[4 * 12 : 4 * 76, 4 * 16 : 4 * 80]
    name, picture = opened.downloaded()
    assert name == "a b_x4_tauauto0.7_seed1_16_12.png"
    assert_same(picture, part)
    opened.page.locator(".sf-overview").focus()
    for key in ["ArrowRight"] * 3 + ["ArrowUp"]:
        opened.page.keyboard.press(key)
    opened.says("252×256 pixels in")  # an odd width: the last column is the network's own
    assert_same(opened.downloaded()[1], whole[:256, 4 * 34 :])
    opened.page.get_by_role("button", name="Draw the whole photo").click()
    opened.says("388×344 pixels in")
    name, picture = opened.downloaded()
    assert name == "a b_x4_tauauto0.7_seed1.png"
    assert_same(picture, whole)
    opened.choose(np.tile(large, (5, 4, 1)))  # long enough to be cancelled
    opened.says("256×256 pixels in")
    opened.page.get_by_role("button", name="Draw the whole photo").click()
    opened.says("Tile [0-9]+ of 49, about [0-9]+ s left")
    opened.page.get_by_role("button", name="Cancel").click()
    opened.says("Cancelled")
    assert opened.page.locator("#download").is_disabled()


def test_a_file_of_the_embedded_model_says_how_it_was_made_and_srflow_upscale_makes_it_again(
    opened_embedded, embedded, tmp_path
):
    opened_embedded.choose(photo(37, 45))
    opened_embedded.page.locator("#seed").fill("3")
    opened_embedded.says("180×148 pixels in")
    with opened_embedded.page.expect_download() as download:
        opened_embedded.page.locator("#download").click()
    download.value.save_as(tmp_path / "web.png")
    (tmp_path / "a b.png").write_bytes(png(photo(37, 45)))
    found = read_provenance(tmp_path / "web.png")
    assert (found.model, found.model_sha256) == (
        embedded.bundle.manifest.name,
        embedded.bundle.model_sha256,
    )
    assert (found.tau, found.auto_tau, found.seed, found.sdk_version) == (
        embedded.bundle.manifest.default_tau,
        AUTO_TAU_SCHEME,
        3,
        __version__,
    )
    assert (found.source, found.tile, found.device) == ("a b.png", None, None)
    again = CliRunner().invoke(
        cli.upscale, ["--from-output", str(tmp_path / "web.png"), "-o", str(tmp_path / "b.png")]
    )
    assert again.exit_code == 0, again.output
    pictures = [read_image(tmp_path / name).pixels[..., :3] for name in ("web.png", "b.png")]
    assert_same(*pictures)


def test_photos_can_be_dropped_and_pasted_and_what_is_none_is_refused_in_one_line(opened):
    give = """([kind, bytes, type]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "given.png", { type }));
        const event = kind === "paste" ? { clipboardData: data } : { dataTransfer: data };
        const made = new Event(kind, { bubbles: true, cancelable: true });
        document.body.dispatchEvent(Object.assign(made, event));
    }"""
    small = list(png(photo(16, 20)))
    opened.page.evaluate(give, ["paste", small, "image/png"])
    opened.says("80×64 pixels in")
    opened.page.evaluate(give, ["drop", list(b"no picture"), "text/plain"])
    opened.refuses(
        "^“given.png” is not a picture that this browser can open: choose a JPEG, PNG or WebP "
        "file.$"
    )
    opened.page.evaluate(give, ["drop", list(png(photo(20, 16))), "image/png"])
    opened.says("64×80 pixels in")
    assert opened.page.locator("#error").is_hidden()
    huge = np.zeros((1, 5000, 3), np.uint8)
    opened.page.evaluate(give, ["paste", list(png(huge)), "image/png"])
    opened.refuses(
        "“given.png” has 5000×1 pixels, and this page takes up to 4 million and 4096 a side: "
        ".*srflow-upscale"
    )
    for seed in ("-1", "1e3", "18446744073709551616", ""):
        opened.page.locator("#seed").fill(seed)
        opened.refuses(
            f"^The seed is “{seed}”: it must be a whole number from 0 to 18446744073709551615.$"
        )
    opened.page.locator("#seed").fill("7")
    opened.says("64×80 pixels in")


def test_a_gray_photo_becomes_upscalers_gray_picture(opened, upscaler):
    gray = np.asarray(Image.fromarray(photo(30, 34)).convert("L"))
    opened.choose(gray)
    opened.says("136×120 pixels in")
    assert_same(opened.downloaded()[1], np.dstack([upscaler.upscale(gray, tau="auto")] * 3))


def test_an_isolated_page_uses_all_cores_and_draws_the_same(chromium, site, upscaler):
    command = [NODE, "serve.mjs", "--port", "0", "--folder", site / "docs" / "play"]
    with subprocess.Popen(command, cwd=WEB, stdout=subprocess.PIPE, text=True) as server:
        try:
            opened = Opened(chromium, server.stdout.readline().strip())
            small = photo(16, 20)
            opened.choose(small)
            cores = opened.page.evaluate("navigator.hardwareConcurrency")
            opened.says(
                f"80×64 pixels in .* on {f'{min(cores, 8)} threads' if cores > 1 else 'one thread'}"
            )
            assert_same(opened.downloaded()[1], upscaler.upscale(small, tau="auto"))
            assert opened.complaints == []
            opened.close()
        finally:
            server.kill()


GIVES_GPU = (
    "Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => ({}) } });"
)


COMPUTES_NOTHING = "GPUQueue.prototype.submit = () => {};"
FAILS_LATER = """self.addEventListener("message", ({ data }) => {
    if (data.kind !== "draw") return;
    GPUQueue.prototype.submit = () => { throw new Error("the device is lost"); };
});"""


@pytest.mark.parametrize(
    ("broken", "first"),
    [(COMPUTES_NOTHING, "wasm"), (FAILS_LATER, "webgpu")],
    ids=["otherwise", "fails"],
)
def test_a_gpu_that_computes_otherwise_or_fails_is_left_for_the_processor(
    chromium_with_gpu, address, upscaler, broken, first
):
    opened = Opened(chromium_with_gpu, address, in_page=GIVES_GPU, in_worker=broken)
    if opened.page.evaluate("() => !window.GPUQueue"):
        pytest.skip("this Chromium has no software GPU")
    opened.says("Ready")
    assert opened.page.evaluate("document.documentElement.dataset.device") == first
    tiny = photo(12, 12)
    opened.choose(tiny)
    opened.says("48×48 pixels in .* on one thread")
    assert_same(opened.downloaded()[1], upscaler.upscale(tiny, tau="auto"))
    opened.close()


def test_the_photo_gets_the_model_that_suits_it_which_is_fetched_when_it_is_needed(
    opened, bundles, tmp_path
):
    claim = opened.page.locator("#claim")
    assert claim.inner_text() == "", "before there is a photo"
    opened.choose(smooth(40))
    opened.says("160×160 pixels in")
    assert opened.page.locator("#model").inner_text() == "x4-small (no damage found)"
    assert "srflow-upscale does" in claim.inner_text()
    assert not any("x4-photo" in url for url in opened.asked)
    Image.fromarray(smooth(64)).save(tmp_path / "photo.jpg", quality=60)
    opened.page.set_input_files(".sf-photo input", tmp_path / "photo.jpg")
    opened.page.wait_for_function(
        "() => document.querySelector('#model').textContent.startsWith('x4-photo')"
    )
    opened.says("256×256 pixels in")
    assert opened.page.locator("#model").inner_text() == "x4-photo (JPEG of quality 60)"
    assert "srflow-upscale does" in claim.inner_text()
    name, picture = opened.downloaded()
    assert name == "photo_x4_tauauto0.5_seed0.png", "at the model's own temperature"
    with Upscaler(bundles["x4-photo"], device="cpu", tile=64) as upscaler:
        assert_same(picture, np.asarray(upscaler.upscale(tmp_path / "photo.jpg", tau="auto")))
    opened.choose(smooth(40))
    opened.page.wait_for_function(
        "() => document.querySelector('#model').textContent.startsWith('x4-small')"
    )
    opened.says("160×160 pixels in")
    assert opened.downloaded()[0] == "a b_x4_tauauto0.7_seed0.png"
    assert sum("x4-photo/encoder.onnx" in url for url in opened.asked) == 1


def test_the_sources_types_are_right():
    done = subprocess.run(
        [NODE, "node_modules/typescript/bin/tsc", "--noEmit"],
        cwd=WEB,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_building_deletes_earlier_builds_and_no_other_files(built_site, tmp_path):
    """Into a folder of a website by mistake, and then into the page's own."""
    (tmp_path / "index.html").write_text("the website")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        done = built_into(folder)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {folder} ")
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "index.html").read_text() == "the website"
    page = built_site / "docs" / "play"
    (page / "page-of-an-older-version.js").write_text("")
    assert built_into(page).returncode == 0
    assert not (page / "page-of-an-older-version.js").exists()
    assert (page / "index.html").exists()
