"""Kernels in PTX, run on the processor: as much of the language as `drawing.ptx` uses, and an error
for the rest.

All threads of a launch go through the code together, as lanes of numpy arrays. Those furthest
behind run to the end of their block, until all have returned. What is rounded, and how, is said by
NVIDIA's "PTX ISA", chapter 9.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Memory = Callable[[int, int], np.ndarray]
"""Bytes of device memory, by address and number: `FakeGpu.view`."""

_TYPES = {
    "pred": np.bool_,
    "u32": np.uint32,
    "s32": np.int32,
    "b32": np.uint32,
    "f32": np.float32,
    "u8": np.uint8,
    "u16": np.uint16,
    "u64": np.uint64,
    "s64": np.int64,
    "b64": np.uint64,
    "f64": np.float64,
}
_REGISTERS = {
    "%p": np.bool_,
    "%r": np.uint32,
    "%f": np.float32,
    "%rd": np.uint64,
    "%fd": np.float64,
}
_COMPARED = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
}
_COMPARED |= {"ne": np.not_equal}
_PLAIN = {
    "add.s32": np.add,
    "add.s64": np.add,
    "sub.s64": np.subtract,
    "mul.lo.s64": np.multiply,
    "min.s64": np.minimum,
    "div.u32": np.floor_divide,
    "div.s64": np.floor_divide,  # of numbers that are not negative
    "and.b32": np.bitwise_and,
    "and.b64": np.bitwise_and,
    "or.b32": np.bitwise_or,
    "or.b64": np.bitwise_or,
    "xor.b64": np.bitwise_xor,
    "or.pred": np.logical_or,
    "and.pred": np.logical_and,
    "xor.pred": np.logical_xor,
    "not.pred": np.logical_not,
    # .rn: rounded to nearest even, and "never fused". Without it "mul/add sequences … may be
    # optimized to use fused-multiply-add" (9.7.3, add), so that the operations without it are
    # missing here.
    "add.rn.f64": np.add,
    "mul.rn.f64": np.multiply,
    "mul.rn.f32": np.multiply,
    "add.rn.f32": np.add,
    "div.rn.f32": np.divide,
    "max.f32": np.fmax,  # "if one of the inputs is NaN, the result is the other" (9.7.3)
    "min.f32": np.fmin,
    "neg.f32": np.negative,
    "div.rn.f64": np.divide,
    "sqrt.rn.f64": np.sqrt,
    "neg.f64": np.negative,
}


@dataclass
class Kernel:
    """An entry of a module. labels: where each stands among the instructions."""

    parameters: list[str]
    instructions: list[tuple[str, str, list[str]]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def run(self, grid, threads, arguments, memory):
        """Run every thread of the grid."""
        _Lanes(
            self, grid, threads, dict(zip(self.parameters, arguments, strict=True)), memory
        ).run()


def kernels_of(ptx):
    """The entries of a module by name."""
    found = {}
    for name, parameters, body in re.findall(
        r"\.entry (\w+)\(([^)]*)\)\s*\{(.*?)\n\}", ptx, re.DOTALL
    ):
        kernel = found[name] = Kernel(re.findall(r"\.param \.u64 (\w+)", parameters))
        assert len(kernel.parameters) == parameters.count(".param"), "all parameters have 64 bits"
        for line in filter(None, map(str.strip, body.splitlines())):
            if line.endswith(":"):
                kernel.labels[line[:-1]] = len(kernel.instructions)
            elif not line.startswith((".reg", ".pragma")):
                guard, operation, operands = re.fullmatch(
                    r"(?:@(!?%p\d+) )?\s*(\S+)\s*(.*);", line
                ).groups("")
                kernel.instructions.append(
                    (guard, operation, re.findall(r"\[[^]]*\]|[^\s,]+", operands))
                )
    return found


class _Lanes:
    """The threads of a launch: a place in the code and registers for each."""

    def __init__(self, kernel, grid, threads, parameters, memory):
        self.kernel = kernel
        self.memory = memory
        self.parameters = parameters
        lane = np.arange(grid[0] * grid[1] * threads, dtype=np.uint32)
        block = lane // np.uint32(threads)
        self.special = {
            "%tid.x": lane % np.uint32(threads),
            "%ntid.x": np.full_like(lane, threads),
            "%ctaid.x": block % np.uint32(grid[0]),
            "%ctaid.y": block // np.uint32(grid[0]),
        }
        self.registers: dict[str, np.ndarray] = {}
        self.place = np.zeros(len(lane), np.int64)
        self.now: Any = slice(None)

    def run(self):
        code = self.kernel.instructions
        starts = set(self.kernel.labels.values())
        with np.errstate(all="ignore"):
            while (at := int(self.place.min())) < len(code):
                behind = self.place == at
                self.now = slice(None) if behind.all() else np.flatnonzero(behind)
                while True:
                    guard, operation, operands = code[at]
                    if operation in ("bra", "bra.uni", "ret"):
                        to = len(code) if operation == "ret" else self.kernel.labels[operands[0]]
                        taken = (
                            self.value(guard.lstrip("!"), "pred") ^ guard.startswith("!")
                            if guard
                            else True
                        )
                        self.place[self.now] = np.where(taken, to, at + 1)
                        break
                    assert not guard, operation
                    self.execute(operation, operands)
                    at += 1
                    if at in starts:
                        self.place[self.now] = at
                        break

    def value(self, operand, kind):
        """An operand of this type for the lanes that run now."""
        dtype = _TYPES[kind]
        if operand in self.special:
            return self.special[operand][self.now].view(dtype)
        if operand.startswith("%"):
            held = self.registers[operand][self.now]
            # of a wider register, the lower bits (9.4.1)
            wider = held.dtype.itemsize // dtype().itemsize
            return held.view(dtype)[::wider]
        if operand[:2] in ("0f", "0d"):
            bits = {"0f": np.uint32, "0d": np.uint64}[operand[:2]]
            return np.array([int(operand[2:], 16)], bits).view(dtype)
        if dtype is np.bool_:
            return np.array([int(operand) != 0])
        return (
            np.array([int(operand)], np.int64)
            .astype(np.int32 if dtype().itemsize == 4 else np.int64)
            .view(dtype)
        )

    def put(self, register, values):
        if register not in self.registers:
            self.registers[register] = np.zeros(
                len(self.place), _REGISTERS[register.rstrip("0123456789")]
            )
        target = self.registers[register]
        same = values.dtype == target.dtype or values.dtype.itemsize == target.itemsize
        target[self.now] = values.view(target.dtype) if same else values

    def addresses(self, operand):
        register, _, offset = operand.strip("[]").partition("+")
        return self.value(register, "u64") + np.uint64(int(offset or 0) % 2**64)

    def execute(self, operation, operands):
        to, *sources = operands
        name, _, kind = operation.rpartition(".")
        if operation in _PLAIN:
            values = [self.value(source, kind) for source in sources]
            self.put(to, np.asarray(_PLAIN[operation](*values)))
        elif name in ("mov", "cvta.to.global"):
            self.put(to, self.value(sources[0], "f64" if sources[0].startswith("%fd") else kind))
        elif name.startswith("setp."):
            compared = name.removeprefix("setp.")
            a, b = (self.value(source, kind) for source in sources)
            # "unordered": true where one is NaN
            if compared.endswith("u") and compared[:-1] in _COMPARED:
                self.put(to, _COMPARED[compared[:-1]](a, b) | np.isnan(a) | np.isnan(b))
            else:
                self.put(to, _COMPARED[compared](a, b))
        elif name == "selp":
            a, b = (self.value(source, kind) for source in sources[:2])
            self.put(to, np.where(self.value(sources[2], "pred"), a, b))
        elif name in ("shl", "shr"):
            shift = self.value(sources[1], "u32").astype(_TYPES[kind])
            self.put(
                to,
                (np.left_shift if name == "shl" else np.right_shift)(
                    self.value(sources[0], kind), shift
                ),
            )
        elif operation == "mul.hi.u64":
            self.put(to, _high(*(self.value(source, kind) for source in sources)))
        elif operation == "mul.wide.u32":
            a, b = (self.value(source, "u32").astype(np.uint64) for source in sources)
            self.put(to, a * b)
        elif operation in ("cvt.u32.u64", "cvt.u64.u32", "cvt.s64.s32") or operation.startswith(
            "cvt.rn."
        ):
            self.put(to, self.value(sources[0], kind).astype(_TYPES[operation.split(".")[-2]]))
        elif operation == "cvt.rni.s32.f32":  # to the nearest integer, halves to even
            self.put(to, np.rint(self.value(sources[0], kind)).astype(np.int32))
        elif name == "ld.param":
            self.put(to, np.array([self.parameters[sources[0].strip("[]")]], np.uint64))
        elif name == "ld.global":
            cells, index = self.cells(self.addresses(sources[0]), _TYPES[kind])
            self.put(to, cells[index])
        elif name == "st.global":
            cells, index = self.cells(self.addresses(to), _TYPES[kind])
            # "a wider register … is truncated" (9.4.1)
            wide = {"u8": "u32", "u16": "u32"}.get(kind, kind)
            cells[index] = self.value(sources[0], wide).astype(_TYPES[kind])
        else:
            raise AssertionError(f"{operation} is not emulated")

    def cells(self, addresses, dtype):
        """Memory that holds all the addresses, as cells of this type, and the index of each."""
        size = dtype().itemsize
        assert not (addresses % np.uint64(size)).any(), "an access is not aligned"
        low = int(addresses.min())
        high = int(addresses.max())
        return self.memory(low, high - low + size).view(dtype), (
            addresses - np.uint64(low)
        ) // np.uint64(size)


def _high(a, b):
    """The upper half of the product of 64-bit numbers."""
    half = np.uint64(32)
    low = np.uint64(0xFFFFFFFF)
    a0 = a & low
    a1 = a >> half
    b0 = b & low
    b1 = b >> half
    middle = a1 * b0 + (a0 * b0 >> half)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> half) + (other >> half)
