import asyncio
import threading
import time

import numpy as np
import pytest

from srflow_sdk import AsyncUpscaler, CancelledError, Upscaler, read_image, write_image
from srflow_sdk.errors import ArgumentError, BundleError, DeviceError, ImageError

from .flow_bundle import write_flow_bundle

CLOSED = "the upscaler is closed; await its calls before its `async with` block ends"
LARGE = np.zeros((700, 700, 3), np.uint8)  # in one tile, half a minute of the embedded model's time


def run(body, bundle, **options):
    """Run body(upscaler) in an event loop, and check that no thread of the SDK is left."""

    async def main():
        async with AsyncUpscaler(bundle, device="cpu", threads=1, **options) as upscaler:
            return await body(upscaler)

    result = asyncio.run(main())
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith("srflow-async")
    ] == []
    return result


def test_every_method_gives_what_upscaler_gives(tiny_bundle, upscaler, photo, tmp_path):
    write_image(tmp_path / "photo.png", photo)

    async def body(up):
        assert (up.scale, up.device, up.precision, up.bundle.path) == (
            4,
            "cpu",
            "bundle",
            tiny_bundle,
        )
        expected = upscaler.upscale(photo, seed=3, tau=0.5)
        assert np.array_equal(await up.upscale(photo, seed=3, tau=0.5), expected)
        done = await up.upscale_file(
            tmp_path / "photo.png", tmp_path / "large.png", report=True, seed=3, tau=0.5
        )
        assert done.outputs[0].lr_psnr is not None
        assert np.array_equal(read_image(tmp_path / "large.png").pixels, expected)
        mine = await up.encode(photo)
        theirs = upscaler.encode(photo)
        assert (mine.tiles, mine.kept_tiles, mine.nbytes) == (
            theirs.tiles,
            theirs.kept_tiles,
            theirs.nbytes,
        )
        assert np.array_equal(await mine.sample(seed=1), theirs.sample(seed=1))
        for name in ("samples", "mean", "std"):
            assert np.array_equal(await getattr(mine, name)(2), getattr(theirs, name)(2)), name

    run(body, tiny_bundle)


def test_what_only_a_flow_can_do_gives_what_upscaler_gives(tmp_path):
    bundle = write_flow_bundle(tmp_path / "flow.srflow")
    target, source = np.random.default_rng(0).integers(60, 190, (2, 24, 20, 3), np.uint8)
    write_image(tmp_path / "a.png", target)

    async def body(up):
        restored = flow.restore(target, tau=0.5, over="spatial")
        await up.restore_file(
            tmp_path / "a.png", tmp_path / "c.png", report=True, tau=0.5, over="spatial"
        )
        assert np.array_equal(read_image(tmp_path / "c.png").pixels, restored)
        assert await up.log_likelihood(target, dequantise=True) == flow.log_likelihood(
            target, dequantise=True
        )
        mine = await up.encode(target[:6, :5])
        theirs = flow.encode(target[:6, :5])
        told = []
        latents = await mine.invert(source, progress=lambda done, total: told.append((done, total)))
        assert latents.log_likelihood == theirs.invert(source).log_likelihood
        assert told == [(1, 1)]
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(CancelledError):
            await mine.decode(latents, cancel=cancel)
        with pytest.raises(TypeError, match="'taus' is no keyword here"):
            await up.restore(target, taus=1)

    with Upscaler(bundle, device="cpu", threads=1) as flow:
        run(body, bundle)


def test_errors_are_those_of_upscaler(tiny_bundle, photo, tmp_path):
    async def body(up):
        with pytest.raises(ArgumentError, match="tau is 7"):
            await up.upscale(photo, tau=7)
        with pytest.raises(TypeError, match="'colour' is no keyword here"):
            await up.upscale(photo, colour=1)
        with pytest.raises(ImageError, match="absent"):
            await up.upscale("absent.png")

    run(body, tiny_bundle)
    with pytest.raises(BundleError, match="there is no such bundle"):
        run(body, tmp_path / "absent.srflow")
    with pytest.raises(ArgumentError, match="at_once is 0"):
        AsyncUpscaler(tiny_bundle, at_once=0)
    assert not [
        thread.name for thread in threading.enumerate() if thread.name.startswith("srflow-async")
    ]


def test_before_and_after_its_block_it_says_so(tiny_bundle, photo):
    async def main():
        up = AsyncUpscaler(tiny_bundle, device="cpu")
        with pytest.raises(DeviceError, match="async with AsyncUpscaler"):
            await up.upscale(photo)
        async with up:
            encoding = await up.encode(photo)
        for call in (up.upscale(photo), encoding.sample()):
            with pytest.raises(DeviceError, match="the upscaler is closed"):
                await call
        await up.aclose()

    asyncio.run(main())


def test_a_cancelled_task_ends_the_work_and_the_loop_never_waits():
    async def body(up):
        await up.upscale(LARGE[:16, :16])  # nothing is loaded later
        drawing = asyncio.create_task(up.upscale(LARGE))
        longest = 0.0
        begun = time.monotonic()
        while time.monotonic() < begun + 0.3:  # the network is in the middle of its only tile
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        cancelled = time.monotonic()
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        ended = time.monotonic() - cancelled
        await up.upscale(LARGE[:16, :16])  # its turn is free again
        return longest, ended

    longest, ended = run(body, None, tile=None, at_once=1)
    assert longest < 5  # 0.03 s on an idle machine; the picture takes half a minute
    assert ended < 5  # 0.1 s


def test_progress_is_told_in_the_loop_and_before_the_picture_is_there(tiny_bundle, photo):
    async def body(up):
        told = []

        def progress(done, total):
            assert asyncio.get_running_loop() is not None
            assert threading.current_thread() is threading.main_thread()
            told.append((done, total))

        await up.upscale(photo, progress=progress)
        return told

    assert run(body, tiny_bundle, tile=16) == [(number, 12) for number in range(1, 13)]

    async def failing(up):
        await up.upscale(photo, progress=lambda done, total: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        run(failing, tiny_bundle, tile=16)


def test_the_callers_event_cancels_too(tiny_bundle, photo):
    event = threading.Event()

    async def body(up):
        with pytest.raises(CancelledError):
            await up.upscale(photo, cancel=event, progress=lambda done, total: event.set())
        with pytest.raises(CancelledError):
            await up.encode(photo, cancel=event)

    run(body, tiny_bundle, tile=16)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_calls_run_at_a_time_than_allowed(tiny_bundle, photo, at_once):
    async def body(up):
        # nobody passes unless so many run at a time
        meeting = threading.Barrier(at_once)
        running = []
        most = []
        upscale = up._opened.upscale

        def counted(*arguments, **keywords):
            running.append(1)
            most.append(len(running))
            meeting.wait(60)
            try:
                return upscale(*arguments, **keywords)
            finally:
                running.pop()

        up._opened.upscale = counted
        await asyncio.gather(*(up.upscale(photo[:9, :9]) for _ in range(6)))
        return max(most)

    assert run(body, tiny_bundle, at_once=at_once) == at_once


def test_leaving_the_block_ends_what_runs_and_what_waits():
    async def main():
        async with AsyncUpscaler(device="cpu", threads=1, tile=None, at_once=1) as up:
            calls = [asyncio.create_task(up.upscale(LARGE)) for _ in range(2)]
            await asyncio.sleep(0.2)
        return [call.exception() or AssertionError() for call in (await asyncio.wait(calls))[0]]

    begun = time.monotonic()
    errors = asyncio.run(main())
    assert [str(error) for error in errors] == [CLOSED] * 2
    assert all(isinstance(error, DeviceError) for error in errors)
    assert time.monotonic() - begun < 20  # each picture would take half a minute
