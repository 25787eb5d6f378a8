"""Mutates files and values, by a seeded generator."""

from __future__ import annotations

import random
from typing import Any

_NUMBERS = (-1, 0, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.5, 1e-320)
_TEXTS = ("", "a" * 10_000, "../../x", "\x1b[31m", "a\nb", "\ud800", "null", "nan", "tensor(float)", "é" * 300)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file with 1 to 20 changes: bits, numbers, insertions, deletions, cuts; half of them in its first bytes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(changed) if chance.random() < 0.5 else min(len(changed), 300))
        what = chance.randrange(5)
        if what == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            changed[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        elif what == 2:
            changed[at:at] = chance.randbytes(chance.choice((1, 4, 100)))
        elif what == 3:
            del changed[at : at + chance.choice((1, 4, 50))]
        else:
            del changed[max(at, 16) :]
        if len(changed) < 2:
            break
    return bytes(changed)


def odd_value(chance: random.Random) -> Any:
    """A JSON value that a reader may not expect."""
    kind = chance.randrange(7)
    if kind < 2:
        return chance.choice(_NUMBERS)
    if kind == 2:
        return chance.choice(_TEXTS)
    if kind == 3:
        return chance.choice((None, True, False))
    if kind == 4:
        return [chance.choice(_NUMBERS) for _ in range(chance.choice((0, 1, 5, 3000)))]
    if kind == 5:
        return {chance.choice(_TEXTS): chance.choice(_NUMBERS)}
    nested: Any = 1
    for _ in range(chance.choice((3, 400))):
        nested = [nested]
    return nested


def with_odd_value(value: Any, chance: random.Random) -> Any:
    """A copy of JSON data in which one value somewhere is another, is missing, or has another key."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.1:
        return odd_value(chance)
    if isinstance(value, list):
        items = list(value)
        at = chance.randrange(len(items))
        items[at] = with_odd_value(items[at], chance)
        return items * 2 if chance.random() < 0.05 else items
    entries = dict(value)
    key = chance.choice(list(entries))
    what = chance.random()
    if what < 0.1:
        del entries[key]
    elif what < 0.2:
        entries[chance.choice(_TEXTS)] = entries.pop(key)
    else:
        entries[key] = with_odd_value(entries[key], chance)
    return entries
