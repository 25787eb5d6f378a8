"""The multiply-adds that the graphs must compute, over what this processor convolves in a second, and where time goes.

The rate is that of one large convolution (`convolution.py`) by runtime and precision, counted as the multiply-adds of
its definition. OpenVINO may need fewer (Winograd), so a share can only be compared within a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.bench import convolution
from benchmarks.bench.networks import prepared
from benchmarks.bench.page import table
from benchmarks.bench.settings import Settings
from benchmarks.bench.timing import Times, in_turn, seconds_of
from benchmarks.bench.worker import MissingError, without_paths
from benchmarks.graph_counts import counts
from benchmarks.graph_profile import profile
from srflow_sdk import Bundle, SRFlowError
from srflow_sdk.backends import open_backend
from srflow_sdk.latents.random_field import window_noise
from srflow_sdk.model.manifest import INT8_ENCODER, REQUIRED_FILES

RUNS = {  # row: device, precision of the SDK; the convolution in the same arithmetic
    "ONNX Runtime, fp32": ("cpu", "bundle"),
    "ONNX Runtime, int8": ("cpu", "int8"),
    "OpenVINO, fp32": ("openvino", "bundle"),
    "OpenVINO, bf16": ("openvino", "bf16"),
    "OpenVINO, int8": ("openvino", "int8"),
}
_KINDS = {"Conv": "convolutions", "FusedConv": "convolutions", "ReorderInput": "layout", "ReorderOutput": "layout"}
_KINDS |= {"GroupConvolution": "convolutions", "FakeQuantize": "rounding to int8"}
_KINDS |= {"Add": "additions", "Split": "concatenations and splits", "Concat": "concatenations and splits"}
_KINDS |= {"Convolution": "convolutions", "Reorder": "layout", "Transpose": "layout", "Eltwise": "additions"}
_KINDS |= {"Concatenation": "concatenations and splits", "StridedSlice": "concatenations and splits"}


def run(settings: Settings) -> dict[str, Any]:
    """Rates, counts and times of the full-size ×4 network and of the embedded model, and profiles."""
    size = 16 if settings.quick else 64
    rates, missing = _rates(settings)
    with settings.not_counted():
        networks = prepared(settings.work, ["x4"], settings.say, tiny=settings.quick)
    full, int8 = networks.folder / "x4.srflow", networks.folder / "x4-int8.srflow"
    result: dict[str, Any] = {"size": size, "rates": rates, "missing": missing, "networks": {}, "profiles": {}}
    embedded = Bundle.embedded().path
    # The embedded model first: an aim is about it, and a slow machine skips what comes last.
    of = {"embedded model": (embedded, embedded), "full-size ×4": (full, int8)}
    for name, (bundle, quantised) in of.items():
        if settings.skips(name):
            continue
        settings.say(f"limit: {name}")
        result["networks"][name] = _measured(bundle, quantised, size, settings)
    for name, (bundle, quantised) in of.items():
        if settings.skips(f"where a run's time goes, {name}"):
            continue
        for column, (path, hint) in {
            "ONNX Runtime, encoder": (bundle / REQUIRED_FILES[0], None),
            "OpenVINO f32, encoder": (bundle / REQUIRED_FILES[0], "f32"),
            "OpenVINO bf16, encoder": (bundle / REQUIRED_FILES[0], "bf16"),
            "OpenVINO int8, encoder": (quantised / INT8_ENCODER, "f32"),
            "ONNX Runtime, sampler": (bundle / REQUIRED_FILES[1], None),
            "OpenVINO f32, sampler": (bundle / REQUIRED_FILES[1], "f32"),
        }.items():
            try:
                spent = _profile(path, size, hint, settings)
            except (ImportError, RuntimeError, OSError, MissingError) as error:
                missing[f"profile of {name}, {column}"] = without_paths(str(error).splitlines()[0])
            else:
                result["profiles"].setdefault(name, {})[column] = _grouped(spent)
    return result


def _rates(settings: Settings) -> tuple[dict[str, float], dict[str, str]]:
    rates, missing = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {int8: Path(folder) / f"{'int8' if int8 else 'float'}.onnx" for int8 in (False, True)}
        for int8, path in paths.items():
            convolution.write(path, int8=int8)
        for name, (device, precision) in RUNS.items():
            settings.say(f"limit: a convolution, {name}")
            path = paths[precision == "int8"]
            try:
                if device == "cpu":
                    call = convolution.on_onnxruntime(path, settings.threads)
                else:
                    hint = "bf16" if precision == "bf16" else "f32"
                    _check_hint(hint)
                    call = convolution.on_openvino(path, settings.threads, hint)
                rates[name], _ = convolution.rate(call, runs=2 if settings.quick else 15)
            except (ImportError, RuntimeError, MissingError) as error:
                missing[f"a convolution, {name}"] = str(error).splitlines()[0]
    return rates, missing


def _measured(bundle: Path, quantised: Path, size: int, settings: Settings) -> dict[str, Any]:
    manifest = Bundle.open(bundle).manifest
    macs = {
        part: counts(onnx.load(bundle / f"{part}.onnx"), scale=manifest.scale).multiply_adds * size**2
        for part in ("encoder", "sampler")
    }
    found: dict[str, Any] = {"multiply_adds": macs, "seconds": {}, "missing": {}}
    for name, (device, precision) in RUNS.items():
        of = quantised if precision == "int8" else bundle
        try:
            if not of.is_dir():
                raise MissingError("this network has no encoder in int8")
            found["seconds"][name] = _times(of, device, precision, size, settings)
        except (SRFlowError, MissingError) as error:
            found["missing"][name] = without_paths(str(error).splitlines()[0])
    return found


def _times(bundle: Path, device: Any, precision: Any, size: int, settings: Settings) -> dict[str, Any]:
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    lr = np.random.default_rng(0).random((1, 3, size, size), np.float32)
    window = {"scale": manifest.scale, "seed": 0, "sample": 0, "height": size, "width": size}
    noise = {level: array[None] for level, array in window_noise(manifest.latent_levels, **window).items()}
    backend = open_backend(opened, device=device, threads=settings.threads, precision=precision)
    try:
        conditioning = backend.encode(lr)
        calls: dict[str, Callable[[], float]] = {
            "encoder": partial(seconds_of, lambda: backend.encode(lr)),
            "sampler": partial(seconds_of, lambda: backend.sample(conditioning, noise, 0.8)),
        }
        return {part: times.seconds for part, times in in_turn(calls, runs=2 * settings.runs).items()}
    finally:
        backend.deactivate()


def _profile(path: Path, size: int, hint: str | None, settings: Settings) -> list[tuple[str, float]]:
    """(operator, milliseconds of a run); hint: OpenVINO's, None for ONNX Runtime."""
    if not path.is_file():
        raise FileNotFoundError("this network has no encoder in int8")
    if hint is None:
        rows = profile(path, size=size, batch=1, threads=settings.threads, runs=settings.runs)
        return [(op, spent) for op, spent, _ in rows]
    _check_hint(hint)
    return openvino_profile(path, size, settings.threads, hint, runs=settings.runs)


def _check_hint(hint: str) -> None:
    """OpenVINO computes in float32 where there is no bfloat16, whatever the hint. Raises: MissingError, ImportError."""
    import openvino

    if hint == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise MissingError("this processor has no bfloat16 arithmetic")


def openvino_profile(path: Path, size: int, threads: int, hint: str, *, runs: int) -> list[tuple[str, float]]:
    """(operator, milliseconds of a run) as OpenVINO counts them. Raises: ImportError, RuntimeError."""
    import onnxruntime
    import openvino

    from benchmarks.graph_profile import inputs

    feed = inputs(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), size=size, batch=1)
    settings = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(str(path), "CPU", settings | {"NUM_STREAMS": 1}).create_infer_request()
    request.infer(feed)
    spent: dict[str, float] = {}
    for _ in range(runs):
        request.infer(feed)
        for node in request.profiling_info:
            spent[node.node_type] = spent.get(node.node_type, 0) + node.real_time.total_seconds() * 1e3 / runs
    return list(spent.items())


def _grouped(rows: list[tuple[str, float]]) -> dict[str, float]:
    groups = dict.fromkeys([*dict.fromkeys(_KINDS.values()), "everything else"], 0.0)
    for op, milliseconds in rows:
        groups[_KINDS.get(op, "everything else")] += milliseconds
    return groups


def share(result: dict[str, Any], network: str, part: str, name: str) -> float | None:
    """Of the convolution rate in this runtime and arithmetic; samplers run on ONNX Runtime in fp32 in every row."""
    of = result["networks"][network]
    arithmetic = name if part == "encoder" else "ONNX Runtime, fp32"
    rate, seconds = result["rates"].get(arithmetic), of["seconds"].get(name)
    if rate is None or seconds is None:
        return None
    return of["multiply_adds"][part] / Times(tuple(seconds[part])).median / rate


def tables(result: dict[str, Any]) -> str:
    """Rates; then times and shares by network; then profiles."""
    head = ["One large convolution", "billion multiply-adds a second"]
    texts = [table(head, [[name, f"{rate / 1e9:.0f}"] for name, rate in result["rates"].items()])]
    for network, of in result["networks"].items():
        millions = {part: f"{macs / result['size'] ** 2 / 1e6:.2f} M" for part, macs in of["multiply_adds"].items()}
        head = [f"{network}, {result['size']}×{result['size']}"]
        for part, per_pixel in millions.items():
            head += [f"{part} ({per_pixel} an LR pixel)", "share of the rate"]
        rows = []
        for name, seconds in of["seconds"].items():
            cells = [name]
            for part in millions:
                reached = share(result, network, part, name)
                cells += [str(Times(tuple(seconds[part]))), "–" if reached is None else f"{reached:.0%}"]
            rows.append(cells)
        texts.append(table(head, rows))
        texts += ["\n".join(f"- {name}: not measured: {why}" for name, why in of["missing"].items())]
    for name, columns in result["profiles"].items():
        kinds = list(next(iter(columns.values())))
        rows = [[kind, *(_of_all(spent, kind) for spent in columns.values())] for kind in kinds]
        texts.append(table([f"Where a run's time goes, {name}", *columns], rows))
    texts += [f"- {name}: not measured: {why}" for name, why in result["missing"].items()]
    return "\n\n".join(text for text in texts if text)


def _of_all(spent: dict[str, float], kind: str) -> str:
    in_all = sum(spent.values())
    return f"{spent[kind]:.1f} ms, {spent[kind] / in_all:.0%}" if in_all else "–"
