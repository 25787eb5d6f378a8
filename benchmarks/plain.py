"""Try a plain ONNX file (`srflow-export --plain`) in the programs that are installed.

    python benchmarks/plain.py                            x4-small at tau 0.8, a picture of 64×64
    python benchmarks/plain.py --model m.srflow --tau 0 --side 128 --only tract
    pip install openvino opencv-python-headless ncnn pnnx apache-tvm tract        the programs

Each program opens, in a process of its own with one thread, the first of two files that it can:
sides of any length, then fixed ones. PSNR against the runtime's picture; seconds of processor time
for one picture after a first one; peak memory of the process. The first row is the SDK's two
graphs.
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

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk import Upscaler

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "cat.png"

Array = NDArray[np.float32]
Run = Callable[[Array], Array]


def load_onnx_runtime(path: str, _side: int) -> Run:
    """ONNX Runtime's CPU provider."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda lr: np.asarray(session.run(None, {"input": lr})[0])


def load_openvino(path: str, _side: int) -> Run:
    """OpenVINO's CPU plug-in in float32."""
    import openvino as ov

    compiled = ov.Core().compile_model(
        path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    return lambda lr: np.array(compiled(lr)[0])


def load_opencv(path: str, _side: int) -> Run:
    """OpenCV's dnn module, from 5.0 on."""
    import cv2  # type: ignore[import-not-found]

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(path, cv2.dnn.ENGINE_NEW)  # its own, not an ONNX Runtime inside

    def run(lr: Array) -> Array:
        net.setInput(lr)
        return np.array(net.forward())

    return run


def load_ncnn(path: str, side: int) -> Run:
    """Ncnn, through its converter pnnx."""
    import ncnn as library  # type: ignore[import-not-found]
    import pnnx  # type: ignore[import-not-found]

    command = [pnnx.EXEC_PATH, path, f"inputshape=[1,3,{side},{side}]", "fp16=0"]
    subprocess.run(command, cwd=Path(path).parent, check=True, capture_output=True)
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


def load_tvm(path: str, side: int) -> Run:
    """TVM's relax front end, for LLVM."""
    import onnx
    import tvm as library  # type: ignore[import-not-found]
    from tvm import relax  # type: ignore[import-not-found]
    from tvm.relax.frontend.onnx import from_onnx  # type: ignore[import-not-found]

    module = from_onnx(onnx.load(path), shape_dict={"input": [1, 3, side, side]})
    built = library.compile(relax.get_pipeline("zero")(module), target="llvm")
    machine = relax.VirtualMachine(built, library.cpu())
    return lambda lr: np.array(machine["main"](library.runtime.tensor(lr)).numpy())


def load_tract(path: str, side: int) -> Run:
    """Tract, a runtime in Rust."""
    import tract as library  # type: ignore[import-not-found]

    model = library.onnx().load(path)
    model.set_input_fact(0, f"1,3,{side},{side},f32")
    runnable = model.into_model().into_runnable()
    return lambda lr: np.array(runnable.run([lr])[0].to_numpy())


def load_runtime(model: str, tau: str) -> Run:
    """The SDK's two graphs."""
    upscaler = Upscaler(model, device="cpu", threads=1)
    return lambda lr: upscaler.upscale(lr[0].transpose(1, 2, 0), tau=float(tau), seed=0).transpose(
        2, 0, 1
    )[None]


PROGRAMS: dict[str, tuple[str, Callable[..., Run]]] = {
    "the runtime": ("srflow_sdk", load_runtime),
    "ONNX Runtime": ("onnxruntime", load_onnx_runtime),
    "OpenVINO": ("openvino", load_openvino),
    "OpenCV dnn": ("cv2", load_opencv),
    "ncnn (pnnx)": ("ncnn", load_ncnn),
    "TVM": ("tvm", load_tvm),
    "tract": ("tract", load_tract),
}


def run_child(program: str, folder: str, path: str, option: str) -> None:
    """One program's attempt: draw twice, print what the second picture cost, and write it."""
    lr = np.load(f"{folder}/lr.npy")
    run = PROGRAMS[program][1](path, option if program == "the runtime" else int(option))
    run(lr)
    begun = time.process_time()
    picture = run(lr)
    seconds = time.process_time() - begun
    peak = (
        int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])
        / 1024
    )
    np.save(f"{folder}/found.npy", picture)
    print("\n" + json.dumps([seconds, peak]))


def run_attempt(*arguments: str) -> tuple[float, float] | str:
    """The child's seconds and peak, or its last line."""
    quiet = {"OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "ERROR", "TVM_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--child", *arguments],
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "not within 400 s"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or [
            f"exit status {done.returncode}"
        ]
        return lines[-1].strip()[:110].replace("|", "/")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def write_files(folder: str, model: str, tau: str, side: str) -> dict[str, str]:
    """Write the LR picture and both plain files, whose paths are returned by their names."""
    with Image.open(PHOTO) as opened:
        photo = opened.convert("RGB").resize((int(side), int(side)))
    lr = (np.asarray(photo, np.float32) / 255).transpose(2, 0, 1)[None]
    np.save(f"{folder}/lr.npy", np.ascontiguousarray(lr))
    command = [str(Path(sys.executable).with_name("srflow-export")), "--bundle", model]
    command += ["--plain", "--tau", tau]
    files = {"any sides": f"{folder}/any.onnx", "fixed": f"{folder}/fixed.onnx"}
    for name, file in files.items():
        size = ["--size", side] if name == "fixed" else []
        subprocess.run([*command, *size, "-o", file], check=True, capture_output=True)
        print(f"{name}: {Path(file).stat().st_size / 1e6:.1f} MB")
    return files


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="x4-small", help="bundle [default: x4-small]")
    parser.add_argument("--tau", default="0.8", help="[default: 0.8]")
    parser.add_argument(
        "--side", type=int, default=64, help="LR pixels of the picture [default: 64]"
    )
    parser.add_argument("--only", choices=PROGRAMS, metavar="PROGRAM", help="one program")
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parse_options()
    side = str(options.side)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(folder, options.model, options.tau, side)
        print("\n| program | file | PSNR, dB | seconds | peak MB |\n|---|---|---|---|---|")
        expected = np.zeros(0)
        for program, (module, _) in PROGRAMS.items():
            own = program == "the runtime"
            if options.only not in (None, program) and not own:
                continue
            if find_spec(module) is None:
                print(f"| {program} | not installed | | | |")
                continue
            for name, file in {"two graphs": options.model}.items() if own else files.items():
                cost = run_attempt(program, folder, file, options.tau if own else side)
                if isinstance(cost, str):
                    print(f"| {program} | {name}: {cost} | | | |", flush=True)
                    continue
                picture = np.load(f"{folder}/found.npy").astype(np.float64)
                expected = picture if own else expected
                error = np.mean((picture - expected) ** 2)
                decibels = f"{-10 * np.log10(error):.1f}" if error else "–" if own else "equal"
                print(
                    f"| {program} | {name} | {decibels} | {cost[0]:.2f} | {cost[1]:.0f} |",
                    flush=True,
                )
                break


if __name__ == "__main__":
    run_child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
