"""A plain ONNX file (`srflow-export --plain`) in the programs that are installed, beside the runtime: what works.

    python benchmarks/plain.py                            x4-small at tau 0.8, a picture of 64×64
    python benchmarks/plain.py --model m.srflow --tau 0 --side 128 --only tract
    pip install openvino opencv-python-headless ncnn pnnx apache-tvm tract        the programs

Each program opens, in a process of its own, the first of four files that it can: sides of any length, then fixed ones,
in opset 18, then 17. PSNR against the runtime's picture; seconds of processor time for one picture after a first one;
peak memory of the process. The first rows are the SDK's two graphs, and the sizes of their files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk import Bundle, Upscaler

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "cat.png"

Array = NDArray[np.float32]
Run = Callable[[Array], Array]


def onnx_runtime(path: str, _side: int) -> Run:
    """ONNX Runtime's CPU provider, with one thread as all others."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda lr: np.asarray(session.run(None, {"input": lr})[0])


def openvino(path: str, _side: int) -> Run:
    """OpenVINO's CPU plug-in in float32."""
    import openvino as ov

    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return lambda lr: np.array(compiled(lr)[0])


def opencv(path: str, _side: int) -> Run:
    """OpenCV's dnn module, from 5.0 on."""
    import cv2  # type: ignore[import-not-found]

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(path, cv2.dnn.ENGINE_NEW)  # its own, not an ONNX Runtime inside

    def run(lr: Array) -> Array:
        net.setInput(lr)
        return np.array(net.forward())

    return run


def ncnn(path: str, side: int) -> Run:
    """Ncnn, through its converter pnnx."""
    import ncnn as library  # type: ignore[import-not-found]
    import pnnx  # type: ignore[import-not-found]

    folder = Path(path).parent
    command = [pnnx.EXEC_PATH, path, f"inputshape=[1,3,{side},{side}]", "fp16=0"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    net = library.Net()
    net.opt.num_threads = 1
    for use in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, use, False)
    stem = Path(path).with_suffix("")
    if net.load_param(f"{stem}.ncnn.param") or net.load_model(f"{stem}.ncnn.bin"):
        raise RuntimeError("ncnn refuses what pnnx wrote")

    def run(lr: Array) -> Array:
        extractor = net.create_extractor()
        extractor.input("in0", library.Mat(lr[0]).clone())
        status, result = extractor.extract("out0")
        if status:
            raise RuntimeError(f"ncnn's extract returns {status}")
        return np.array(result)[None]

    return run


def tvm(path: str, side: int) -> Run:
    """TVM's relax front end, for LLVM."""
    import onnx
    import tvm as library  # type: ignore[import-not-found]
    from tvm import relax  # type: ignore[import-not-found]
    from tvm.relax.frontend.onnx import from_onnx  # type: ignore[import-not-found]

    module = from_onnx(onnx.load(path), shape_dict={"input": [1, 3, side, side]})
    built = library.compile(relax.get_pipeline("zero")(module), target="llvm")
    machine = relax.VirtualMachine(built, library.cpu())
    return lambda lr: np.array(machine["main"](library.runtime.tensor(lr)).numpy())


def tract(path: str, side: int) -> Run:
    """Tract, a runtime in Rust."""
    import tract as library  # type: ignore[import-not-found]

    model = library.onnx().load(path)
    model.set_input_fact(0, f"1,3,{side},{side},f32")
    runnable = model.into_model().into_runnable()
    return lambda lr: np.array(runnable.run([lr])[0].to_numpy())


PROGRAMS: dict[str, tuple[str, Callable[[str, int], Run]]] = {
    "ONNX Runtime": ("onnxruntime", onnx_runtime),
    "OpenVINO": ("openvino", openvino),
    "OpenCV dnn": ("cv2", opencv),
    "ncnn (pnnx)": ("ncnn", ncnn),
    "TVM": ("tvm", tvm),
    "tract": ("tract", tract),
}


def timed(open_: Callable[[], Run], lr: Array) -> dict[str, Any]:
    """Open, draw twice, and say what the second picture cost."""
    run = open_()
    run(lr)
    begun = time.process_time()
    picture = run(lr)
    seconds = time.process_time() - begun
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return {"seconds": seconds, "peak": peak, "picture": picture}


def child(arguments: list[str]) -> None:
    """One program's attempt: its result on the last line, the picture in a file."""
    name, path, folder, options = arguments
    lr = np.load(f"{folder}/lr.npy")
    if name == "the runtime":
        model, tau = json.loads(options)

        def two_graphs() -> Run:
            upscaler = Upscaler(model, device="cpu", threads=1)
            image = lr[0].transpose(1, 2, 0)
            return lambda _: upscaler.upscale(image, tau=tau, seed=0).transpose(2, 0, 1)[None]

        found = timed(two_graphs, lr)
    else:
        found = timed(lambda: PROGRAMS[name][1](path, lr.shape[2]), lr)
    np.save(f"{folder}/found.npy", found.pop("picture"))
    print("\n" + json.dumps(found))


def attempt(*arguments: str) -> dict[str, Any] | str:
    """The child's result, or its last line."""
    command = [sys.executable, __file__, "--child", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "ERROR", "TVM_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return "not within 400 s"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or [f"exit status {done.returncode}"]
        return lines[-1].strip()[:110]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="x4-small", help="bundle [default: x4-small]")
    parser.add_argument("--tau", type=float, default=0.8, help="[default: 0.8]")
    parser.add_argument("--side", type=int, default=64, help="LR pixels of the picture [default: 64]")
    parser.add_argument("--only", help="one program")
    options = parser.parse_args()
    bundle, side = Bundle.open(options.model), options.side
    with tempfile.TemporaryDirectory() as folder:
        with Image.open(PHOTO) as opened:
            photo = np.asarray(opened.convert("RGB").resize((side, side)), np.float32) / 255
        np.save(f"{folder}/lr.npy", np.ascontiguousarray(photo.transpose(2, 0, 1)[None]))
        files = {}
        for size in (None, side):
            for opset in (18, 17):
                path = Path(folder) / f"{'any' if size is None else 'fixed'}{opset}.onnx"
                command = [
                    str(Path(sys.executable).with_name("srflow-export")),
                    "--bundle",
                    str(bundle.path),
                    "--plain",
                    "-o",
                    str(path),
                ]
                command += ["--tau", str(options.tau), "--opset", str(opset)]
                command += [] if size is None else ["--size", str(size)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                files[f"{'any sides' if size is None else 'fixed'}, opset {opset}"] = path
        for name, path in files.items():
            print(f"{name}: {path.stat().st_size / 1e6:.1f} MB")
        both = sum(bundle.file(name).stat().st_size for name in bundle.manifest.float32_graphs or ())
        print(f"the two graphs: {both / 1e6:.1f} MB\n")
        print("| program | file | PSNR, dB | seconds | peak MB |\n|---|---|---|---|---|")
        own = attempt("the runtime", "", folder, json.dumps([str(bundle.path), options.tau]))
        assert isinstance(own, dict), own
        expected = np.load(f"{folder}/found.npy")
        print(f"| the runtime | two graphs | | {own['seconds']:.2f} | {own['peak']:.0f} |", flush=True)
        for program, (module, _) in PROGRAMS.items():
            if options.only not in (None, program):
                continue
            if find_spec(module) is None:
                print(f"| {program} | not installed | | | |")
                continue
            for name, path in files.items():
                found = attempt(program, str(path), folder, "")
                if isinstance(found, str):
                    print(f"| {program} | {name}: {found.replace('|', '/')} | | | |", flush=True)
                    continue
                error = np.mean((np.load(f"{folder}/found.npy") - expected.astype(np.float64)) ** 2)
                decibels = f"{-10 * np.log10(error):.1f}" if error else "equal"
                row = f"{decibels} | {found['seconds']:.2f} | {found['peak']:.0f}"
                print(f"| {program} | {name} | {row} |", flush=True)
                break


if __name__ == "__main__":
    child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
