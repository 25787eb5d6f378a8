"""Build the CUDA kernels for this machine's GPU, check them against torch, and time them. Takes under ten minutes.

    python benchmarks/gpu.py [--size 256] [--rounds 10] [--skip-ort]
    python benchmarks/gpu.py --build-only sm_89        (does it build? needs no GPU)

It needs nvcc on the PATH, torch with CUDA and `pip install -e '.[export]'`; ONNX Runtime is timed if onnxruntime-gpu is
installed. The network is a full-size published ×4 one (23 blocks, K = 16) with random weights; times do not depend on
them. It prints tables for docs/performance.md. If a kernel is wrong, it prints a line for each and exits with status 1.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from full_size_checkpoint import steady
from gpu_kernels import Kernels, StepInputs, build, precision, wrong_kernels

from srflow_export import ExportOptions, export_checkpoint, flow_ops, graphs
from srflow_training import SRFlow, SRFlowConfig, load_checkpoint, save_checkpoint
from srflow_training.model.config import LevelShape

Call = Callable[[], object]

BEYOND_CACHES = 256 << 20  # bytes that the repetitions of an op walk through, so that no GPU's L2 cache holds them
GIGABYTE = 1e9


def milliseconds(calls: Sequence[Call], device: torch.device, rounds: int) -> float:
    """Median over rounds of a call's mean time; a round makes all calls once. The first round is not timed."""
    times = []
    for _ in range(rounds + 1):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for call in calls:
                call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            started = time.perf_counter()
            for call in calls:
                call()
            times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[1:]) / len(calls)


def copy_bandwidth(device: torch.device, rounds: int, size: int = 1 << 30) -> float:
    """Bytes per second that this card reads and writes in a copy: the peak that the ops are compared with."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / (1e-3 * milliseconds([lambda: target.copy_(source)], device, rounds))


@contextmanager
def kernels_in_graphs(kernels: Kernels) -> Iterator[None]:
    """In this context, graphs with flow nodes run our kernels."""
    with ExitStack() as stack:
        for name in ("flow_step_tail", "unsqueeze_split"):
            stack.enter_context(mock.patch.object(flow_ops, name, getattr(kernels, name)))
        yield


def step_calls(
    kernels: Kernels, model: SRFlow, shape: LevelShape, *, side: int, half: bool
) -> tuple[int, list[Call], list[Call]]:
    """Bytes that one step of a level moves, and repeated calls of the level's steps: in torch, and by our kernel."""
    config = model.config
    inputs = StepInputs.random(shape.channels, side, steps=config.steps, half=half, batch=1, device=kernels.device)
    named = {"scale_map": config.scale_map, "order": config.affine_order, "clamp": config.clamp_at(shape.level)}
    # As in a network, each call reads another step's conditioning and another h.
    count = max(config.steps, -(-BEYOND_CACHES // inputs.bytes_moved))
    states = [(inputs.h.clone(), inputs.head.clone()) for _ in range(-(-BEYOND_CACHES // (2 * inputs.h.nbytes)))]

    def calls(op: Callable[..., object]) -> list[Call]:
        return [
            partial(op, *states[turn % len(states)], *inputs.tensors[2:], step=turn % config.steps, **named)
            for turn in range(count)
        ]

    return inputs.bytes_moved, calls(flow_ops.flow_step_tail), calls(kernels.flow_step_tail)


def split_calls(
    kernels: Kernels, model: SRFlow, shape: LevelShape, *, side: int, half: bool
) -> tuple[int, list[Call], list[Call]]:
    """The same for the unsqueeze and split above a level."""
    drawn = shape.latent_channels
    kept = shape.channels - drawn

    def tensors() -> tuple[torch.Tensor, ...]:
        h = torch.randn(1, 4 * kept, side // 2, side // 2, device=kernels.device)
        head = torch.randn(1, 2 * drawn, side, side, device=kernels.device)
        noise = torch.randn(1, drawn, side, side, device=kernels.device)
        return h, head.half() if half else head, noise, h.new_ones(1)

    h, head, noise, _ = tensors()
    moved = 2 * (h.nbytes + noise.nbytes) + head.nbytes
    sets = [tensors() for _ in range(-(-BEYOND_CACHES // moved))]

    def calls(op: Callable[..., object]) -> list[Call]:
        return [partial(op, *each, bound=model.config.split_clamp) for each in sets]

    return moved, calls(flow_ops.unsqueeze_split), calls(kernels.unsqueeze_split)


def print_ops(kernels: Kernels, model: SRFlow, *, size: int, rounds: int, peak: float) -> None:
    """Our kernels against the unfused torch ops, on the shapes of the network."""
    print("\n| op | bytes moved | torch, unfused | our kernel | times faster | GB/s | share of peak |")
    print("|---|---|---|---|---|---|---|")
    shapes = model.config.level_shapes
    splits = [shape for shape in shapes[:-1] if shape.latent_channels]
    cases: list[tuple[str, Callable[..., Any], list[LevelShape]]] = [
        ("FlowStepTail", step_calls, list(shapes)),
        ("UnsqueezeSplit", split_calls, splits),
    ]
    for (op, make, of_op), half in itertools.product(cases, (False, True)):
        for shape in of_op:
            side = round(size * 2.0**shape.lr_exponent)
            moved, unfused, fused = make(kernels, model, shape, side=side, half=half)
            slow, fast = (milliseconds(calls, kernels.device, rounds) for calls in (unfused, fused))
            rate = moved / (1e-3 * fast)
            what = f"{op}, {shape.channels} channels, {side}×{side}, {precision(half)}"
            speed = f"{slow / fast:.1f} | {rate / GIGABYTE:.0f} | {rate / peak:.0%}"
            print(f"| {what} | {moved / 1e6:.1f} MB | {slow:.3f} ms | {fast:.3f} ms | {speed} |", flush=True)
    window = {"channels": 3, "top": 0, "left": 0, "height": 1024, "width": 1024}
    taken = milliseconds([partial(kernels.standard_normal, 0, 0, 1, **window)], kernels.device, rounds)
    print(f"\nLatents, 3×1024×1024: {taken:.2f} ms, {3 * 1.024**2 / taken:.2f} billion numbers a second.")


def print_network(kernels: Kernels, model: SRFlow, *, size: int, rounds: int) -> None:
    """Encoder and sampler in torch, typed like exported graphs, and the sampler with our kernels in it."""
    device = kernels.device
    lr, tau = torch.rand(1, 3, size, size, device=device), torch.full((1,), 0.8, device=device)
    noise = [torch.randn(1, *shape, device=device) for shape in model.latent_shapes(size, size).values()]

    def row(name: str, call: Call) -> None:
        print(f"| {name} | {milliseconds([call], device, rounds):.1f} ms |", flush=True)

    print(f"\n| {model.config.variant} ×{model.config.scale}, {size}×{size} LR, batch 1 | time |")
    print("|---|---|")
    for half in (False, True):
        dtype = torch.float16 if half else torch.float32
        encoder = graphs.EncoderGraph(model, dtype).to(device).eval()
        row(f"encoder, torch {precision(half)}", partial(encoder, lr))
        inputs = (*encoder(lr), *noise, tau)
        sampler = graphs.SamplerGraph(model, dtype).to(device).eval()
        row(f"sampler, torch {precision(half)}", partial(sampler, *inputs))
        native = graphs.SamplerGraph(model, dtype, flow_nodes=True).to(device).eval()
        with kernels_in_graphs(kernels):
            row(f"sampler, torch {precision(half)}, our kernels", partial(native, *inputs))
        del encoder, sampler, native, inputs


def print_onnxruntime(checkpoint: Path, folder: Path, *, size: int, rounds: int) -> None:
    """The SDK's own backend on CUDA; the sampler's time includes copying the noise in and the picture out."""
    import onnxruntime

    from srflow_sdk import Bundle
    from srflow_sdk.backends import OnnxRuntimeBackend

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        print("| ONNX Runtime | not timed: onnxruntime-gpu is not installed |")
        return
    export_checkpoint(checkpoint, folder / "model.srflow", ExportOptions(halo=16))
    random = np.random.default_rng(0)
    lr = random.random((1, 3, size, size), dtype=np.float32)
    shapes = load_checkpoint(checkpoint).latent_shapes(size, size)
    noise = {level: random.standard_normal((1, *shape), np.float32) for level, shape in shapes.items()}
    clock = torch.device("cpu")  # wall time: the backend waits for its results
    with OnnxRuntimeBackend(Bundle.open(folder / "model.srflow"), device="cuda") as backend:
        conditioning = backend.encode(lr)
        encode = milliseconds([lambda: backend.encode(lr)], clock, rounds)
        sample = milliseconds([lambda: backend.sample(conditioning, noise, 0.8)], clock, rounds)
    print(f"| encoder, ONNX Runtime {onnxruntime.__version__} CUDA | {encode:.1f} ms |")
    print(f"| sampler, ONNX Runtime {onnxruntime.__version__} CUDA, copies included | {sample:.1f} ms |")


@torch.inference_mode()
def print_torch(kernels: Kernels, model: SRFlow, *, size: int, rounds: int) -> None:
    """Everything that needs no ONNX; exits the program if a kernel is wrong."""
    wrong = wrong_kernels(kernels)
    if wrong:
        sys.exit("gpu.py: wrong kernels:\n" + "\n".join(wrong))
    peak = copy_bandwidth(kernels.device, rounds)
    print("All kernels agree with torch, latents bit for bit.")
    print(f"Peak of memory, measured as what a copy reads and writes: {peak / GIGABYTE:.0f} GB/s.")
    print_ops(kernels, model, size=size, rounds=rounds, peak=peak)
    print_network(kernels, model, size=size, rounds=rounds)


def main() -> None:
    """Build, check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="LR pixels a side")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--skip-ort", action="store_true", help="skip ONNX Runtime, whose export takes minutes")
    parser.add_argument("--build-only", metavar="ARCHITECTURE", help="only build, for example for sm_89")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.build_only:
            library = build(folder, arguments.build_only)
            Kernels(library, torch.device("cpu"))
            print(f"{library.name} for {arguments.build_only}: {library.stat().st_size / 1e6:.1f} MB; it loads.")
            return
        if not torch.cuda.is_available():
            sys.exit("gpu.py: torch sees no CUDA GPU; see nvidia-smi, and install torch's CUDA build (or --build-only)")
        device = torch.device("cuda", torch.cuda.current_device())
        card = torch.cuda.get_device_properties(device)
        print(f"{card.name}, {card.total_memory / 2**30:.0f} GiB; torch {torch.__version__}, CUDA {torch.version.cuda}")
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        kernels = Kernels(build(folder, f"sm_{card.major}{card.minor}"), device)
        checkpoint = folder / "random.safetensors"
        save_checkpoint(checkpoint, steady(SRFlowConfig.of_variant("published", scale=4)))
        sizes = {"size": arguments.size, "rounds": arguments.rounds}
        try:
            print_torch(kernels, load_checkpoint(checkpoint), **sizes)
            torch.cuda.empty_cache()
            if not arguments.skip_ort:
                print_onnxruntime(checkpoint, folder, **sizes)
        except torch.OutOfMemoryError as error:
            sys.exit(f"gpu.py: the GPU's memory is full; try --size {arguments.size // 2} ({error})")


if __name__ == "__main__":
    main()
