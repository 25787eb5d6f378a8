"""Votes that people saved from the page of the protocol `vote`, added up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srflow_evaluation.tables import Table
from srflow_sdk.errors import ArgumentError

FORMAT = "srflow-votes 1"
"""The kind of file that votes say they are."""

_CONFIDENCE = 0.95
_MOST_BYTES = 10_000_000

_Text = Annotated[str, Field(min_length=1, max_length=500)]


class _Vote(BaseModel):
    """A reader's answer; choice: None if they could not tell."""

    model_config = ConfigDict(extra="forbid", strict=True)
    picture: _Text
    damage: _Text
    order: list[_Text]
    choice: _Text | None

    @model_validator(mode="after")
    def _was_offered(self) -> _Vote:
        if self.choice is not None and self.choice not in self.order:
            raise ValueError(f"{self.choice!r} was chosen, which was not among the pictures")
        return self


class _Votes(BaseModel):
    """A file of votes."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal["srflow-votes 1"]
    page: _Text
    reader: _Text
    methods: Annotated[list[_Text], Field(min_length=2, max_length=9)]
    votes: list[_Vote]

    @model_validator(mode="after")
    def _are_of_the_page(self) -> _Votes:
        seen: set[tuple[str, str]] = set()
        for vote in self.votes:
            if sorted(vote.order) != sorted(self.methods):
                raise ValueError(f"{vote.picture}: other methods than the page's")
            if (vote.picture, vote.damage) in seen:
                raise ValueError(f"{vote.picture}, {vote.damage}: voted on twice")
            seen.add((vote.picture, vote.damage))
        return self


def count_votes(paths: Sequence[Path]) -> Table:
    """Add up files of votes: how often each method was chosen, with a 95 % interval; then the same for each damage.

    The files may come from pages with other pictures, but must be of the same methods. Raises: ArgumentError for a file
    that is no such file, or that counts twice.
    """
    files: dict[str, _Votes] = {}
    for path in paths:
        found = _read(path)
        if found.reader in files:
            raise ArgumentError(f"{path}: the votes of this reader are given twice: leave one file out")
        files[found.reader] = found
    first = next(iter(files.values()), None)
    if first is None:
        raise ArgumentError("there are no votes to count: name the files with --votes FILE")
    for path, found in zip(paths, files.values(), strict=True):
        if set(found.methods) != set(first.methods):
            raise ArgumentError(f"{path} is of other methods than {paths[0]}: count them apart")
    votes = [vote for found in files.values() for vote in found.votes]
    damages = list(dict.fromkeys(vote.damage for vote in votes))
    tables = [
        _table([vote for vote in votes if vote.damage == damage], first.methods, damage) for damage in sorted(damages)
    ]
    whole = _table(votes, first.methods, "")
    undecided = sum(vote.choice is None for vote in votes)
    readers = "1 reader" if len(files) == 1 else f"{len(files)} readers"
    notes = [
        f"{len(votes)} answers of {readers}; {undecided} could not tell, and are in no share. "
        f"Chosen blindly, each method would have {100 / len(first.methods):.0f} %.",
        "95 % interval: Wilson's, as if all answers were independent; those of one reader, or on one picture, are not "
        "quite, so that the true interval is wider.",
    ]
    return Table(whole.headings, whole.rows, notes, more=tables if len(tables) > 1 else ())


def wilson(chosen: int, answers: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927): from 0 to 1 if there are no answers."""
    if not answers:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    share, weight = chosen / answers, z * z / answers
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / answers + weight / (4 * answers))
    return max(0.0, centre - half), min(1.0, centre + half)


def _table(votes: Sequence[_Vote], methods: Sequence[str], title: str) -> Table:
    counts: Mapping[str | None, int] = Counter(vote.choice for vote in votes)
    answers = sum(counts[method] for method in methods)
    rows = []
    for method in sorted(methods, key=lambda method: -counts[method]):
        low, high = wilson(counts[method], answers)
        share = f"{100 * counts[method] / answers:.0f} %" if answers else ""
        rows.append([method, str(counts[method]), share, f"{100 * low:.0f} to {100 * high:.0f} %"])
    return Table(["method", "votes", "share", "95 % interval"], rows, title=title)


def _read(path: Path) -> _Votes:
    again = "give a file that the page saved"
    if not path.is_file():
        raise ArgumentError(f"--votes {path}: no such file: {again}")
    if path.stat().st_size > _MOST_BYTES:
        raise ArgumentError(f"--votes {path}: {path.stat().st_size} bytes are too many for votes: {again}")
    try:
        return _Votes.model_validate_json(path.read_bytes())
    except ValidationError as error:
        details = error.errors()[0]
        place = ".".join(str(part) for part in details["loc"])
        where = f" ({place})" if place else ""
        raise ArgumentError(f"--votes {path}: not a file of votes{where}: {details['msg']}: {again}") from error
