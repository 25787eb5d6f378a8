"""Compile drawing.cuh to the PTX that the SDK loads. Needs no GPU.

    pip download --no-deps nvidia-cuda-nvrtc-cu12==12.0.140 && unzip nvidia_cuda_nvrtc_cu12-*.whl
    python runtime/cuda/make_ptx.py nvidia/cuda_nvrtc/lib/libnvrtc.so.12

A driver compiles PTX of its own version and older ones (PTX ISA, section 11.1.1, .version). CUDA
12.0 writes version 8.0, for drivers from 525 on, the oldest that cuda-bindings 12 runs on; the
target sm_75 serves all later GPUs.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from pathlib import Path

CUDA = Path(__file__).resolve().parent
INCLUDE = CUDA.parent / "include"
SOURCES = [
    CUDA / "drawing.cuh",
    CUDA / "block.cuh",
    INCLUDE / "srflow" / "latents.h",
    INCLUDE / "srflow" / "target.h",
]
TARGET = CUDA.parents[1] / "srflow_sdk" / "backends" / "tensorrt_engines" / "drawing.ptx"
OPTIONS = (
    "--gpu-architecture=compute_75",
    "--std=c++17",
    "--fmad=false",
    f"-I{CUDA}",
    f"-I{INCLUDE}",
)
STANDARD = {  # what the sources include and NVRTC lacks; half precision is declared, but not used
    "cstdint": "namespace std { typedef unsigned char uint8_t; typedef unsigned short uint16_t; "
    "typedef int int32_t;"
    "typedef unsigned uint32_t; typedef long long int64_t; typedef unsigned long long uint64_t; }",
    "cstring": "",
    "cuda_fp16.h": "__device__ int __ushort_as_half(unsigned short); "
    "__device__ float __half2float(int);",
}


def first_line(ptx: str) -> str:
    """What the file begins with: the SHA-256 of the sources, of this script with its options, and
    of what follows.
    """
    made_of = b"".join(source.read_bytes() for source in (*SOURCES, Path(__file__)))
    digests = (hashlib.sha256(data).hexdigest() for data in (made_of, ptx.encode()))
    return (
        "// Made by runtime/cuda/make_ptx.py: SHA-256 of its sources, and of the following: "
        f"{', '.join(digests)}.\n"
    )


def compiled(library: str) -> str:
    """PTX of the kernels, by an NVRTC. Exits with its log if it fails."""
    nvrtc = ctypes.CDLL(library)
    texts, names, options = (
        (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
        for words in (STANDARD.values(), STANDARD, OPTIONS)
    )
    program = ctypes.c_void_p()
    size = ctypes.c_size_t()
    source = SOURCES[0].read_bytes()
    if nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source, b"drawing.cuh", len(STANDARD), texts, names
    ):
        sys.exit(f"{library} cannot be used")
    failed = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options)
    kind = "ProgramLog" if failed else "PTX"
    getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{kind}")(program, text)
    if failed:
        sys.exit(text.value.decode())
    return text.value.decode()


if __name__ == "__main__":
    # Without comments and the constants of a header of NVRTC's, which nothing uses.
    lines = [
        line
        for line in compiled(sys.argv[1]).splitlines()
        if line and not line.strip().startswith(("//", ".global"))
    ]
    ptx = "\n".join(lines) + "\n"
    TARGET.write_text(first_line(ptx) + ptx, "utf-8")
