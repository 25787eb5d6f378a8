"""Latents that the GPU draws: the very PTX that is shipped, against numpy."""

import importlib.util
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.backends import Backend, Finish, OnnxRuntimeBackend, base
from srflow_sdk.backends.tensorrt import TensorRTBackend
from srflow_sdk.backends.tensorrt_engines import execution
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.errors import DeviceError
from srflow_sdk.geometry.tiles import Window
from srflow_sdk.pixels.in_memory import from_unit

from ..tiny_bundle import write_tiny_bundle
from .engine_machine import CORE, WINDOW, drawing_of, maps_of, noise
from .fake_tensorrt import PROFILE, _engine, write_engine_bundle

ROOT = Path(__file__).parents[3]
PTX = Path(execution.__file__).with_name("drawing.ptx")


@pytest.mark.parametrize("case", ["plain", "below zero", "map"])
def test_the_gpu_draws_numpys_latents_bit_for_bit(machine, engine_bundle, lr, monkeypatch, case):
    drawing = {
        "plain": drawing_of(engine_bundle, window=replace(WINDOW, top=2)),
        "below zero": drawing_of(engine_bundle),
        "map": drawing_of(engine_bundle, maps=maps_of(engine_bundle), tau=1.0),
    }[case]
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        expected = drawn_by_the_processor(backend, conditioning, drawing)
        monkeypatch.setattr(base, "window_noise", None)  # the processor draws none
        machine.gpu.started.clear()
        for _ in range(4):  # plainly, as it is captured, and from the graph
            np.testing.assert_array_equal(backend.begin(conditioning, drawing)(), expected)
    assert machine.gpu.started == ["srflow_draw_latents"] * 12  # of three levels


def test_one_graph_draws_every_sample_and_window_of_a_size(machine, engine_bundle, lr):
    """The arguments of a captured kernel stay (CUDA C++ Programming Guide, "Updating Instantiated
    Graphs"): what changes must lie in memory."""
    drawings = [
        drawing_of(
            engine_bundle,
            seed=seed,
            sample=sample,
            tau=tau,
            window=replace(WINDOW, top=top),
            core=core,
        )
        for seed, sample, tau, top, core in (
            (1, 0, 0.3, 0, CORE),
            (2, 0, 0.4, 4, replace(CORE, height=70)),
            (2, 1, 0.5, 8, replace(CORE, left=9, width=90)),
            (3, 5, 0.6, -8, replace(CORE, top=2)),
        )
    ]
    gpu = machine.gpu
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        expected = [drawn_by_the_processor(backend, conditioning, drawing) for drawing in drawings]
        backend.begin(conditioning, drawings[0])()
        outside = gpu.outside_graphs
        launches = gpu.launches
        captures = gpu.captures
        for drawing, picture in zip(drawings, expected, strict=True):
            np.testing.assert_array_equal(backend.begin(conditioning, drawing)(), picture)
        assert (gpu.outside_graphs, gpu.launches, gpu.captures) == (
            outside,
            launches + 4,
            captures + 1,
        )
        with ThreadPoolExecutor(4) as pool:
            pictures = list(
                pool.map(lambda drawing: backend.begin(conditioning, drawing)(), drawings * 2)
            )
        for picture, wanted in zip(pictures, expected * 2, strict=True):
            np.testing.assert_array_equal(picture, wanted)
        # another argument: the graph is void
        mapped = replace(drawings[0], maps=maps_of(engine_bundle))
        wanted = drawn_by_the_processor(backend, conditioning, mapped)
        np.testing.assert_array_equal(backend.begin(conditioning, mapped)(), wanted)


def drawn_by_the_processor(backend, conditioning, drawing):
    (picture,) = backend.sample(conditioning, drawing.noise(), drawing.tau)
    return drawing.cut_core(picture)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("bounded", "smoothed"), [(True, False), (False, False), (True, True)])
def test_the_gpu_finishes_as_the_processor_and_hands_back_levels_alone(
    machine, engine_bundle, lr, dtype, bounded, smoothed
):
    whole = Window(top=0, left=0, height=24, width=30)
    dtype = np.dtype(dtype)
    with TensorRTBackend(engine_bundle) as backend:
        conditioning = backend.encode(lr)
        for number, core in enumerate((whole, Window(top=4, left=2, height=16, width=20), whole)):
            bounds = ChromaBounds(lr[0] / 8 + np.float32(0.4), core, 6) if bounded else None
            finish = Finish(dtype, None if bounds is None else bounds.limits)
            drawing = drawing_of(
                engine_bundle, core=core.scaled(4), seed=number, smoothed=smoothed, finish=finish
            )
            values = drawn_by_the_processor(backend, conditioning, drawing)
            near = values if bounds is None else bounds.limit(values)
            assert not bounded or 0.1 < (near != values).any(axis=-1).mean() < 1
            before = len(machine.gpu.copied)
            got = backend.begin(conditioning, drawing)()
            assert (got.dtype, got.shape) == (dtype, (core.height * 4, core.width * 4, 3))
            np.testing.assert_array_equal(got, from_unit(near, dtype))
            to_host = sum(
                nbytes for *way, nbytes in machine.gpu.copied[before:] if way == [True, False]
            )
            assert to_host == got.nbytes + 256  # of float32 it would be 12 bytes a pixel
            before = len(machine.gpu.copied)
            np.testing.assert_array_equal(backend.begin(conditioning, drawing)(), got)
            to_gpu = sum(
                nbytes for *way, nbytes in machine.gpu.copied[before:] if way == [False, True]
            )
            assert to_gpu == 260, "a tile's bounds go up once"


@pytest.mark.parametrize(
    ("channels", "dtype"), [(3, np.uint8), (4, np.uint8), (1, np.uint8), (3, np.uint16)]
)
def test_pictures_of_the_gpu_are_the_processors(
    machine, engine_bundle, monkeypatch, channels, dtype
):
    image = np.random.default_rng(7).integers(0, np.iinfo(dtype).max, (36, 44, channels), dtype)
    tau = np.random.default_rng(2).random((36, 44))

    def drawn(upscaler):
        one = upscaler.upscale(image, seed=4, tau=tau)
        return [
            one,
            upscaler.upscale(image, seed=4, consistent=True),
            upscaler.encode(image).mean(3),
        ]

    with monkeypatch.context() as patched, machine.upscaler(engine_bundle, 32) as upscaler:
        patched.setattr(TensorRTBackend, "begin", Backend.begin)
        expected = drawn(upscaler)
    assert machine.gpu.started == []
    monkeypatch.setattr(base, "window_noise", None)  # the processor draws none
    with machine.upscaler(engine_bundle, 32) as upscaler:
        for got, wanted in zip(drawn(upscaler), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert {"srflow_draw_latents", *(["srflow_finish"] if channels > 1 else [])} == {
        *machine.gpu.started
    }


def test_a_tile_that_is_not_usable_is_computed_again_by_the_processor(
    machine, tiny_bundle, tmp_path, caplog
):
    overflowing = (
        write_tiny_bundle(tmp_path / "overflowing.srflow", half_overflow=True) / "sampler.onnx"
    )
    sampler = _engine(overflowing.read_bytes(), PROFILE)
    bundle = write_engine_bundle(
        tiny_bundle, tmp_path / "b.srflow", spoil=lambda first, _, *rest: (first, sampler, *rest)
    )
    image = np.full((24, 30, 3), 250, np.uint8)
    with machine.upscaler(bundle) as engines, OnnxRuntimeBackend(bundle, threads=1) as processor:
        got = engines.upscale(image, tau=0.0)
        gray = np.full((1, 3, 24, 30), 250 / 255, np.float32)
        values = processor.sample(processor.encode(gray), noise(1), 0.0)[0].transpose(1, 2, 0)
    bounds = ChromaBounds(gray[0], Window(top=0, left=0, height=24, width=30), 0)
    np.testing.assert_array_equal(got, from_unit(bounds.limit(values), np.dtype(np.uint8)))
    assert [record.getMessage() for record in caplog.records] == [
        "a tile had NaN or infinite values; computing it again in float32 on the CPU"
    ]


def test_a_driver_that_cannot_read_the_kernel_is_a_typed_error_and_nothing_is_left(
    machine, engine_bundle
):
    machine.gpu.ptx_version = 7.8  # of CUDA 11.8
    with pytest.raises(DeviceError, match="cuModuleLoadData: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"):
        TensorRTBackend(engine_bundle).activate()
    assert (machine.gpu.used, machine.gpu.modules, machine.gpu.streams) == (0, {}, {})


def test_the_ptx_is_made_of_the_sources():
    spec = importlib.util.spec_from_file_location("make_ptx", ROOT / "runtime/cuda/make_ptx.py")
    assert spec is not None
    assert spec.loader is not None
    make_ptx = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_ptx)
    assert PTX == make_ptx.TARGET
    made, _, ptx = PTX.read_text("utf-8").partition("\n")
    assert f"{made}\n" == make_ptx.first_line(ptx), (
        "run runtime/cuda/make_ptx.py again, as its first lines say"
    )


def test_the_ptx_rounds_every_operation_and_is_old_enough_for_every_driver():
    """PTX ISA, 9.7.3: "An add instruction with an explicit rounding modifier is treated
    conservatively by the code optimizer", and mul and add without one "may be optimized to use
    fused-multiply-add instructions"."""
    ptx = PTX.read_text("utf-8")
    operations = set(
        re.findall(r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*\.f(?:32|64))\b", ptx, re.MULTILINE)
    )
    rounded = {f"{name}.rn.{kind}" for name in ("add", "mul", "div") for kind in ("f32", "f64")} | {
        "sqrt.rn.f64"
    }
    arithmetic = {
        name
        for name in operations
        if re.match(r"add|sub|mul|mad|fma|div|rcp|sqrt|rsqrt|ex2|lg2|sin|cos", name)
    }
    assert arithmetic == rounded
    assert ".ftz" not in ptx
    assert ".approx" not in ptx
    assert re.search(r"^\.version 8\.0$", ptx, re.MULTILINE), (
        "drivers from 525 on read 8.0 (PTX ISA, release notes)"
    )
    assert re.search(r"^\.target sm_75$", ptx, re.MULTILINE)
