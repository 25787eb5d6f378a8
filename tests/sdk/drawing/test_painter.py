import dataclasses
import gc
import logging
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from srflow_sdk.backends import OnnxRuntimeBackend
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.errors import NonFiniteError, OutOfMemoryError
from srflow_sdk.pixels.conservative_smoothing import smooth
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import with_manifest, write_tiny_bundle


class SmallDevice(OnnxRuntimeBackend):
    """A device on which encoding, or sampling, of more than so many pixels does not fit."""

    encode_limit = sample_limit = 1 << 30

    def encode_impl(self, lr):
        if lr.shape[2] * lr.shape[3] > self.encode_limit:
            raise OutOfMemoryError("encoding failed: out of memory")
        return super().encode_impl(lr)

    def sample_impl(self, conditioning, noise, tau):
        if noise[2].shape[2] * noise[2].shape[3] > self.sample_limit:
            raise MemoryError
        return super().sample_impl(conditioning, noise, tau)


def small_device(monkeypatch, bundle, tile, **limits):
    backend = type("Device", (SmallDevice,), limits)
    monkeypatch.setattr("srflow_sdk.backends.OnnxRuntimeBackend", backend)
    return Upscaler(bundle, device="cpu", threads=1, tile=tile)


@pytest.mark.parametrize(
    ("limits", "tile"), [({"encode_limit": 1000}, None), ({"sample_limit": 1000}, 40)]
)
def test_out_of_memory_makes_tiles_smaller_and_says_so_once(
    monkeypatch, tiny_bundle, upscaler, floats, caplog, limits, tile
):
    progress = []
    with small_device(monkeypatch, tiny_bundle, tile, **limits) as opened:
        encoding = opened.encode(floats, memory_budget=0)
        got = encoding.samples(2, seed=3, progress=lambda *step: progress.append(step))
        again = encoding.samples(2, seed=3)
    expected = upscaler.encode(floats).samples(2, seed=3)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_array_equal(got, again)
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert len(warnings) == 1
    assert "memory ran out with tiles of" in warnings[0]
    done = [step[0] for step in progress]
    assert done == sorted(set(done)), "progress never goes back"
    assert progress[-1][0] == progress[-1][1]


def test_memory_that_is_never_enough_is_a_typed_error(monkeypatch, tiny_bundle, floats):
    with (
        small_device(monkeypatch, tiny_bundle, None, encode_limit=10) as opened,
        pytest.raises(OutOfMemoryError, match="the smallest possible"),
    ):
        opened.upscale(floats)


def test_an_encoding_keeps_what_fits(monkeypatch, tiny_bundle, upscaler):
    image = np.random.default_rng(0).random((100, 100, 3), np.float32)
    with small_device(monkeypatch, tiny_bundle, 34, encode_limit=1700) as opened:
        # the first tile lies in a corner and sees 40×40 pixels, the second 40×46
        encoding = opened.encode(image)
        assert (encoding.kept_tiles, encoding.tiles) == (1, 9)
        np.testing.assert_allclose(
            encoding.sample(seed=4), upscaler.upscale(image, seed=4), atol=2e-6
        )


RUN_OUT = """
import logging, resource, sys
import numpy as np
from srflow_sdk import Upscaler
logging.basicConfig(format="%(message)s")
image = np.random.default_rng(0).integers(0, 255, (600, 500, 3), np.uint8)
with Upscaler(sys.argv[1], device="cpu", threads=1, tile=int(sys.argv[2])) as upscaler:
    upscaler.upscale(image[:32, :32])
    if sys.argv[3] != "0":
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[3]) << 20),) * 2)
    result = upscaler.upscale(image, seed=1)
print(float(result.sum(dtype=np.float64)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space work on Linux")
def test_memory_that_really_runs_out_makes_tiles_smaller(tiny_bundle):
    def run(megabytes):
        command = [sys.executable, "-c", RUN_OUT, str(tiny_bundle), "500", str(megabytes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return float(done.stdout), done.stderr

    plenty, silence = run(0)
    scarce, warning = run(200)
    assert silence == ""
    assert warning.startswith("memory ran out with tiles of")
    assert scarce == pytest.approx(plenty, rel=1e-6)


@pytest.mark.parametrize("twins", [True, False])
def test_a_tile_that_overflows_in_half_is_computed_in_float32(tmp_path, floats, caplog, twins):
    bright = floats * np.float32(0.4)
    bright[30:, 40:] = 1.0
    arguments = {"tau": 0.2, "seed": 5}
    with Upscaler(
        write_tiny_bundle(tmp_path / "exact.srflow"), device="cpu", tile=16, threads=1
    ) as exact:
        expected = exact.upscale(bright, **arguments)
    bundle = write_tiny_bundle(
        tmp_path / "half.srflow", half_overflow=True, twins=twins, precision="fp16"
    )
    with Upscaler(bundle, device="cpu", tile=16, threads=1) as half:
        if not twins:
            with pytest.raises(
                NonFiniteError, match=r"tau 0\.2, seed 5, sample 0, in rows \d+ to \d+ and columns"
            ):
                half.upscale(bright, **arguments)
            return
        got = half.upscale(bright, **arguments)
        half.upscale(bright, **arguments)
    np.testing.assert_allclose(got, expected, atol=2e-3)
    assert [record.getMessage() for record in caplog.records] == [
        "a tile had NaN or infinite values; computing it again in float32 on the CPU"
    ]


def test_auto_tiles_fit_the_memory_that_is_free(monkeypatch, tiny_bundle):
    with Upscaler(tiny_bundle, device="cpu", threads=1) as opened:

        def cores(nbytes, *free, precision="fp32"):
            changes = {"conditioning_bytes_per_pixel": nbytes, "precision": precision}
            opened.engine.painter.manifest = dataclasses.replace(opened.bundle.manifest, **changes)
            found = []
            for each in free:
                monkeypatch.setattr(
                    "srflow_sdk.drawing.painter.available_memory", lambda each=each: each
                )
                found.append(opened.engine.painter.choose_core(3000, 4000))
            return found

        free = [64 << 30, 12 << 30, 4 << 30, 1 << 30, 1 << 20]
        assert cores(30_000, *free) == [144, 128, 80, 64, 16]
        assert cores(15_000, *free, precision="fp16") == cores(30_000, *free), (
            "a CPU computes half graphs in float32"
        )
        usual = cores(12_000, 64 << 30)
        monkeypatch.setattr(type(opened.engine.painter.backend), "device", "openvino")
        assert cores(12_000, 64 << 30) < usual, "which takes more memory"
    monkeypatch.setattr("srflow_sdk.drawing.painter.available_memory", lambda: 16 << 30)
    with Upscaler("x4-small", device="cpu", threads=1) as embedded:
        tiles = embedded.engine.painter.plan(
            3000, 4000, embedded.engine.painter.choose_core(3000, 4000)
        )
    seen = sum(tile.window.height * tile.window.width for tile in tiles)
    assert seen <= 1.25 * 3000 * 4000, "halos are a quarter of the work at most"


def test_an_encoding_is_released_with_its_last_reference(upscaler, floats):
    encoding = upscaler.encode(floats)
    encoding.sample()
    kept = weakref.ref(encoding._picture.kept)
    gc.disable()
    try:
        del encoding
        assert kept() is None
    finally:
        gc.enable()


def test_an_answer_that_does_not_fit_in_memory_is_a_typed_error(monkeypatch, upscaler, floats):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("srflow_sdk.encoding._Canvas", full)
    with pytest.raises(OutOfMemoryError, match=r"for 3 pictures of 244×180"):
        upscaler.encode(floats).samples(3)


# What is kept encoded is sized by the memory that is free, and dropped when it runs out.


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(60, 190, (140, 66, 3), np.uint8)


FULL_SIZE = 16_896 * 256**2  # bytes of the conditioning of 256×256 pixels, full-size ×4 in fp16


@pytest.mark.parametrize(
    ("gpu", "free", "least", "most"),
    [
        (None, 1 << 34, 1 << 30, 1 << 30),
        (None, 600_000_000, 150_000_000, 150_000_000),
        (None, 0, 0, 0),
        (0, 5_000_000_000, FULL_SIZE, 2_500_000_000),  # an 8 GB card with a desktop and engines
        (0, 75_000_000_000, 4 * FULL_SIZE, 37_500_000_000),
        (0, None, 1 << 30, 1 << 30),
    ],
)
def test_what_is_kept_follows_the_memory_that_is_free(flow, monkeypatch, gpu, free, least, most):
    monkeypatch.setattr(flow.engine.painter.backend, "gpu", gpu)
    for name in ("available_memory", "gpu_free_memory"):
        monkeypatch.setattr(f"srflow_sdk.drawing.painter.{name}", lambda *_: free)
    assert least <= flow.engine.painter.conditioning_budget() <= most


def test_what_the_backend_holds_of_a_gpu_does_not_make_the_next_pictures_tiles_smaller(
    flow, monkeypatch
):
    monkeypatch.setattr(flow.engine.painter.backend, "gpu", 0)
    free = iter([4 << 30, 1 << 30])
    monkeypatch.setattr("srflow_sdk.drawing.painter.gpu_free_memory", lambda _gpu: next(free))
    assert len({flow.engine.painter.choose_core(4000, 4000) for _ in range(2)}) == 1


def test_every_call_that_draws_several_times_keeps_what_memory_allows(flow, picture, monkeypatch):
    def noted(*_):
        raise EOFError

    monkeypatch.setattr(Painter, "conditioning_budget", noted)
    for call in (
        lambda: flow.encode(picture),
        lambda: flow.restore(picture),
        lambda: flow.transfer(picture, picture[::-1], np.ones((140, 66), np.bool_), blend="none"),
        lambda: flow.best_of(picture, lambda made: made.std(), 2),
    ):
        with pytest.raises(EOFError):
            call()


@pytest.mark.parametrize("graph", ["invert", "sample"])
def test_where_memory_runs_out_kept_tiles_are_encoded_again(flow, picture, monkeypatch, graph):
    wanted = flow.restore(picture, tau=0.5)
    work = getattr(OnnxRuntimeBackend, graph)
    failed = []

    def scarce(backend, conditioning, *arguments):
        if len(failed) < 1:
            failed.append(1)
            raise OutOfMemoryError("out of memory")
        return work(backend, conditioning, *arguments)

    monkeypatch.setattr(OnnxRuntimeBackend, graph, scarce)
    monkeypatch.setattr(Painter, "shrink", lambda *_: pytest.fail("tiles became smaller instead"))
    assert np.array_equal(flow.restore(picture, tau=0.5), wanted)
    assert failed


@pytest.mark.parametrize("threads", [1, 2])
def test_two_samples_of_a_small_tile_run_at_once_by_two_threads(
    monkeypatch, tiny_bundle, floats, threads
):
    running = set()
    most = 0
    sample_impl = OnnxRuntimeBackend.sample_impl

    def sample(self, conditioning, noise, tau):
        nonlocal most
        running.add(threading.get_ident())
        most = max(most, len(running))
        time.sleep(0.05)
        picture = sample_impl(self, conditioning, noise, tau)
        running.discard(threading.get_ident())
        return picture

    small = floats[:24, :32]
    with Upscaler(tiny_bundle, device="cpu", threads=threads) as opened:
        encoding = opened.encode(small)
        expected = [encoding.sample(seed=3, sample=number) for number in range(4)]
        monkeypatch.setattr(OnnxRuntimeBackend, "sample_impl", sample)
        np.testing.assert_array_equal(encoding.samples(4, seed=3), expected)
    assert most == threads


def test_samples_are_smoothed_and_their_mean_but_not_the_smooth_picture(
    tmp_path, upscaler, tiny_bundle, floats
):
    # so that nothing is filled up, and nothing clipped
    floats = floats[:40, :60] / 5 + np.float32(0.4)
    bundle = with_manifest(tiny_bundle, tmp_path / "smoothed.srflow", smoothed=True)
    with Upscaler(bundle, device="cpu", threads=1) as smoothed:
        sharp = [upscaler.upscale(floats, tau=0.05, sample=sample) for sample in range(2)]
        whole = slice(0, 160), slice(0, 240)
        expected = [smooth(picture, *whole) for picture in sharp]
        assert np.abs(expected[0] - sharp[0]).max() > 0.01
        np.testing.assert_allclose(smoothed.upscale(floats, tau=0.05), expected[0], atol=1e-6)
        smooth_picture = upscaler.upscale(floats, tau=0)
        np.testing.assert_array_equal(smoothed.upscale(floats, tau=0), smooth_picture)
        mean = smoothed.encode(floats).mean(2, tau=0.05)
        np.testing.assert_allclose(mean, np.clip(expected, 0, 1).mean(axis=0), atol=1e-6)


def test_decoded_latents_are_not_smoothed(tmp_path, flow_bundle, floats):
    bundle = with_manifest(flow_bundle, tmp_path / "smoothed.srflow", smoothed=True)
    hr = np.random.default_rng(4).uniform(0.3, 0.7, (80, 96, 3)).astype(np.float32)
    with Upscaler(bundle, device="cpu", threads=1) as upscaler:
        encoding = upscaler.encode(floats[:20, :24])
        np.testing.assert_allclose(encoding.decode(encoding.invert(hr)), hr, atol=1e-3)


def test_an_encoder_that_fails_ends_the_samples_that_wait_for_it(monkeypatch, tiny_bundle, floats):
    with small_device(monkeypatch, tiny_bundle, 16, encode_limit=1) as opened:
        opened.engine.painter.backend.samples_at_once = True
        with pytest.raises(OutOfMemoryError, match="the smallest possible"):
            opened.encode(floats, memory_budget=0).samples(4)
