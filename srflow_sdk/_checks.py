"""Checks of arguments that must be a number or a flag.

True and False are no numbers here, though Python takes them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, get_args

from srflow_sdk.errors import ArgumentError
from srflow_sdk.plain_text import short

MAX_TAU = 2.0
"""Largest temperature accepted; a temperature is the standard deviation of the latents."""

_T = TypeVar("_T")


def is_real(value: object) -> TypeGuard[float]:
    """Tell if it is a real number of Python or numpy, perhaps infinite or NaN."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(
    name: str, value: object, *, least: int, most: int | None = None, also: str = "", of: str = ""
) -> int:
    """Take a whole number from `least` to `most`, as an int.

    name: what the message calls it. also: what else the message allows, such as "None or ". of: its
    unit in the message, such as " of pixels". Raises: ArgumentError.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    limits = f", at least {least}" if most is None else f" from {least} to {most}"
    raise ArgumentError(f"{name} is {short(value)}; it must be {also}a whole number{of}{limits}")


def real(name: str, value: object, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Take a finite number from `least` to `most`, as a float. Raises: ArgumentError."""
    shown = short(value)
    if is_real(value):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond 10^308
            number = math.inf
        if math.isfinite(number) and least <= number <= most:
            return number
        shown = f"{number:g}"
    limits = f" from {least:g} to {most:g}" if math.isfinite(most) else ""
    raise ArgumentError(f"{name} is {shown}; it must be a finite number{limits}")


def flag(name: str, value: object) -> bool:
    """Take True or False of Python or numpy, as a bool. Raises: ArgumentError."""
    import numpy as np  # here, for commands whose --help imports this module

    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name} is {short(value)}; it must be True or False")
    return bool(value)


def one_of(name: str, value: object, choices: Any) -> None:
    """Raises: ArgumentError unless it is among the choices, a Literal of strings."""
    if value not in get_args(choices):
        raise ArgumentError(
            f"{name} is {short(value)}; it must be one of {', '.join(get_args(choices))}"
        )


def file_path(name: str, value: object, of: str = "a file") -> Path:
    """Take the path of a file, or of what the message says. Raises: ArgumentError."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ArgumentError(f"{name} is {short(value)}; it must be the path of {of}")
    return Path(os.fsdecode(value))


def keywords_of(options: type[_T], keywords: Mapping[str, Any]) -> _T:
    """Make a method's further keywords its options, a dataclass.

    Raises: TypeError that names the right ones.
    """
    names = options.__dataclass_fields__  # type: ignore[attr-defined]
    for name in keywords:
        if name not in names:
            raise TypeError(
                f"{name!r} is no keyword here; besides the signature's there are {', '.join(names)}"
            )
    return options(**keywords)


def level_taus(tau: object, levels: Iterable[int] | None = None) -> dict[int, float]:
    """The temperature of each level that has one.

    levels: None if they are not known yet. Raises: ArgumentError.
    """
    if not isinstance(tau, Mapping):
        return dict.fromkeys(levels or (), real("tau", tau, least=0, most=MAX_TAU))
    known = list(tau if levels is None else levels)
    if unknown := [level for level in tau if level not in known]:
        raise ArgumentError(
            f"tau names level {short(unknown[0])}; these latents have {', '.join(map(str, known))}"
        )
    return {
        int(level): real(f"tau of level {level}", value, least=0, most=MAX_TAU)
        for level, value in tau.items()
    }
