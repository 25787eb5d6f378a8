"""What the doctor says about one part of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "missing", "problem"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor's report.

    state: "ok"; "missing" if an optional part is absent; "problem" if a part is broken, or required and absent.
    basic: whether upscaling on the CPU depends on it. fixes: purposes and commands, the likeliest first; a purpose may
    be empty.
    """

    name: str
    state: State
    detail: str
    basic: bool = False
    fixes: tuple[tuple[str, str], ...] = ()


def upscaled(answer: dict[str, Any]) -> str:
    """The answer of the probe `upscale` in words."""
    width, height = answer["size"]
    text = f"works: 32×32 to {width}×{height} in {answer['seconds']:.2f} s"
    if "decibels" not in answer:
        return text
    decibels = answer["decibels"]
    return f"{text}, {'equal to the CPU' if decibels is None else f'{decibels:.0f} dB against the CPU'}"
