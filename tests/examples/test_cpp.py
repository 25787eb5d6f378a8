"""examples/cpp, built with CMake as its header says: the pictures are the SDK's, and mistakes get
one line."""

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from srflow_sdk import Bundle, Upscaler
from tests.sdk.files.pictures import png_claiming
from tests.sdk.tiny_bundle import with_manifest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "examples" / "cpp"
BUNDLE = ROOT / "srflow_sdk" / "models" / "x4-small.srflow"
DEBIAN = "apt-get install cmake g++ libonnxruntime-dev libpng-dev"

pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")),
    reason=f"no C++ compiler on this machine: {DEBIAN}",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upscale")
    configured = subprocess.run(
        ["cmake", "-S", SOURCES, "-B", folder], capture_output=True, text=True
    )
    if configured.returncode:
        if "OnnxRuntime" in configured.stderr or "PNG" in configured.stderr:
            pytest.skip(f"a library is not installed: {DEBIAN}")
        pytest.fail(configured.stderr)
    built = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning" not in built.stderr
    return folder / "upscale"


@pytest.fixture
def run(program, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120
        )

    return run


@pytest.fixture
def photo(tmp_path):
    """An odd size, so that the last row and column are filled up."""
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as cat:
        part = cat.convert("RGB").crop((60, 20, 81, 35))
    part.save(tmp_path / "photo.png")
    return np.asarray(part)


def assert_same(path, expected):
    picture = np.asarray(Image.open(path))
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).max() <= 1


def test_a_bundle_gives_the_sdks_pictures(run, photo, tmp_path):
    with Upscaler("x4-small", device="cpu", threads=1) as upscaler:
        for seed, tau in ((0, 0.7), (2**64 - 1, 0.9)):
            done = run(
                BUNDLE,
                "photo.png",
                "large.png",
                "--tau",
                str(tau),
                "--seed",
                str(seed),
                "--threads",
                "1",
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            assert_same(tmp_path / "large.png", upscaler.upscale(photo, tau=tau, seed=seed))
        assert run(BUNDLE, "photo.png", "default.png").returncode == 0
        default = Bundle.open(BUNDLE).manifest.default_tau
        assert_same(tmp_path / "default.png", upscaler.upscale(photo, tau=default, seed=0))


def test_a_smoothed_models_pictures_are_the_sdks(run, photo, tmp_path):
    smoothed = with_manifest(BUNDLE, tmp_path / "smoothed.srflow", smoothed=True)
    with Upscaler(smoothed, device="cpu", threads=1) as upscaler:
        for tau in (0, 0.9):
            assert run("smoothed.srflow", "photo.png", "a.png", "--tau", str(tau)).returncode == 0
            assert_same(tmp_path / "a.png", upscaler.upscale(photo, tau=tau))


def test_a_fused_graph_gives_the_same_picture(run, photo, tmp_path, golden_bundle):
    shutil.copy(golden_bundle / "fused.onnx", tmp_path)
    for model, large in ((golden_bundle, "two.png"), ("fused.onnx", "one.png")):
        done = run(model, "photo.png", large, "--tau", "0.8", "--seed", "5")
        assert (done.returncode, done.stderr) == (0, "")
    assert_same(tmp_path / "one.png", np.asarray(Image.open(tmp_path / "two.png")))
    done = run("fused.onnx", "photo.png", "default.png")
    assert (
        done.returncode,
        "no manifest.json beside it with a temperature: give --tau" in done.stderr,
    ) == (2, True)
    shutil.copy(golden_bundle / "manifest.json", tmp_path)
    assert run("fused.onnx", "photo.png", "default.png").returncode == 0


@pytest.mark.parametrize("kind", ["gray", "16 bits"])
def test_gray_and_16_bit_photos_give_the_sdks_pictures(run, photo, tmp_path, kind):
    pixels = np.asarray(Image.fromarray(photo).convert("L")) if kind == "gray" else photo
    cv2.imwrite(
        str(tmp_path / "other.png"),
        pixels if kind == "gray" else pixels[..., ::-1].astype(np.uint16) * 257,
    )
    assert run(BUNDLE, "other.png", "large.png", "--tau", "0.8").returncode == 0
    with Upscaler("x4-small", device="cpu", threads=1) as upscaler:
        expected = upscaler.upscale(pixels, tau=0.8)
    assert_same(tmp_path / "large.png", np.dstack([expected] * 3) if kind == "gray" else expected)


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            [BUNDLE, "text.png", "large.png"],
            1,
            "text.png is not a PNG file that can be read (Not a PNG file): convert",
        ),
        (
            [BUNDLE, "huge.png", "large.png"],
            1,
            "the photo has 20000×20000 pixels, and this program draws up to 90000",
        ),
        ([BUNDLE, "photo.png", "folder.png"], 1, "folder.png cannot be written: Is a directory"),
        (
            ["other.onnx", "photo.png", "large.png"],
            1,
            "other.onnx is not a model of srflow-export: its metadata have no",
        ),
        (
            [BUNDLE, "photo.png", "./photo.png"],
            2,
            "./photo.png would overwrite the photo: name another file",
        ),
        ([BUNDLE, "photo.png", "large.png", "--tau", "3"], 2, "--tau is 3; it must be from 0 to 2"),
        (
            [BUNDLE, "photo.png", "large.png", "--device", "cuda"],
            1,
            "ONNX Runtime cannot run the model: CUDA",
        ),
        (
            [BUNDLE, "photo.png", "large.png", "--sed", "1"],
            2,
            "there is no option --sed; there are --tau, --seed, ",
        ),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(run, photo, tmp_path, arguments, status, line):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "huge.png").write_bytes(png_claiming(20000, 20000))
    (tmp_path / "folder.png").mkdir()
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        for name in ("lr", "tau")
    ]
    node = onnx.helper.make_node("Add", ["lr", "tau"], ["sr"])
    output = onnx.helper.make_tensor_value_info("sr", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "other", inputs, [output])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "other.onnx"
    )
    before = set(tmp_path.rglob("*"))
    done = run(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before
