"""The doctor's report: what it says about each part of this machine, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "missing", "problem"]
Fixes = tuple[tuple[str, str], ...]

_NAME_WIDTH, _LEAST_WIDTH = 16, 60


@dataclass(frozen=True)
class Check:
    """One line of the report.

    state: "ok"; "missing" if an optional part is absent; "problem" if a part is broken, or required and absent.
    fixes: purposes and commands, the likeliest first; a purpose may be empty.
    basic: True if upscaling on the CPU depends on it.
    """

    name: str
    state: State
    detail: str
    fixes: Fixes = ()
    basic: bool = False


def fix(command: str) -> Fixes:
    """The fixes of a check that one command fixes."""
    return (("", command),)


def basics_work(checks: Iterable[Check]) -> bool:
    """Return True if upscaling files on the CPU works."""
    return all(check.state == "ok" for check in checks if check.basic)


def as_data(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as JSON values, for programs."""
    described = [
        {**vars(check), "fixes": [{"purpose": purpose, "command": command} for purpose, command in check.fixes]}
        for check in checks
    ]
    return {"works": basics_work(checks), "checks": described}


def report(check: Check, *, width: int = 118) -> str:
    """Return the check as aligned lines for a terminal of this width, at least 60 columns."""
    head = f"{check.state:<8} {check.name:<{_NAME_WIDTH}} "
    indent = " " * len(head)
    lines = textwrap.wrap(
        check.detail,
        max(width, _LEAST_WIDTH),
        initial_indent=head,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    # Commands are never wrapped, so that they can be copied.
    lines += [f"{indent}fix{f' ({purpose})' if purpose else ''}: {command}" for purpose, command in check.fixes]
    return "\n".join(lines)
