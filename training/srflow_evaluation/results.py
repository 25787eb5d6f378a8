"""The results of a protocol: `results.csv`, `summary.json`, and what a stopped run continues.

Each picture's rows are a line of JSON, added to `measured.jsonl` when the picture is measured.
results.csv is made of the lines.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.local_files import remove_stale_parts, write_atomically

if TYPE_CHECKING:
    from srflow_evaluation.pictures import PictureFiles

Row = dict[str, str | float]
"""A line of results.csv: `picture`, what was measured of it (text), and its figures."""

_Key = tuple[str, str]  # a picture's name, and the sha256 of its files


class Results:
    """The rows of a protocol in a folder.

    A picture whose files are unchanged is not measured again.

    Args:
        settings: all that the figures depend on except the pictures; JSON-ready.

    Raises:
        ArgumentError: if the folder holds a measurement with other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.out = out
        self._lines = out / "measured.jsonl"
        if out.exists() and not out.is_dir():
            raise ArgumentError(f"-o {out} is a file; the results are a folder: name another")
        out.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(out / "results.csv", out / "settings.json", out / "summary.json")
        self._check_settings(json.loads(json.dumps(dict(settings))))
        self._rows: dict[_Key, list[Row]] = {}
        if self._lines.is_file():
            self._rows = dict(_read_lines(self._lines))
        self._forgotten: set[str] = set()

    def measure(
        self,
        pictures: Sequence[PictureFiles],
        rows_of: Callable[[PictureFiles], list[Row]],
        progress: Callable[[str], None],
    ) -> list[Row]:
        """Measure the pictures that are not yet measured, and write results.csv.

        Returns:
            All rows, in the pictures' order.
        """
        keys = {files.name: (files.name, files.sha256) for files in pictures}
        left = [
            files
            for files in pictures
            if files.name in self._forgotten or keys[files.name] not in self._rows
        ]
        if len(left) < len(pictures):
            progress(
                f"{len(pictures) - len(left)} of {len(pictures)} pictures are already measured"
            )
        start = time.monotonic()
        for number, files in enumerate(left):
            line = f"picture {number + 1} of {len(left)}: {files.name}"
            if number:
                a_picture = (time.monotonic() - start) / number
                line += f", about {_duration(a_picture * (len(left) - number))} left"
            progress(line)
            self._add(keys[files.name], rows_of(files))
        rows = [row for key in keys.values() for row in self._rows[key]]
        text = io.StringIO(newline="")
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.out / "results.csv", text.getvalue().encode())
        return rows

    def forget(self, name: str) -> None:
        """Measure this picture again."""
        self._forgotten.add(name)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json.

        A figure that is not finite becomes null, because JSON has no word for it.
        """
        content = json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.out / "summary.json", (content + "\n").encode())

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Compare with those of the folder, or write them. Raises: ArgumentError."""
        state = self.out / "settings.json"
        if not state.is_file():
            if (self.out / "results.csv").exists():
                raise ArgumentError(
                    f"-o {self.out} holds a results.csv of something else: name another folder"
                )
            write_atomically(state, (json.dumps(settings, indent=2) + "\n").encode())
            return
        try:
            saved = dict(json.loads(state.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ArgumentError(
                f"{state} is damaged: delete {self.out}, or name another folder"
            ) from error
        names = {*saved, *settings}
        different = sorted(name for name in names if saved.get(name) != settings.get(name))
        if different:
            raise ArgumentError(
                f"-o {self.out} holds figures measured otherwise (different: "
                f"{', '.join(different)}): "
                "name another folder, or delete it"
            )

    def _add(self, key: _Key, rows: Sequence[Row]) -> None:
        """Keep a picture's rows."""
        content = json.dumps({"picture": key[0], "sha256": key[1], "rows": rows}, default=float)
        self._rows[key] = json.loads(content)["rows"]  # as they will be read again
        with self._lines.open("ab+") as file:
            if file.tell():
                file.seek(-1, io.SEEK_END)
                # after a line that was cut off
                content = content if file.read() == b"\n" else f"\n{content}"
            file.write(f"{content}\n".encode())


def mean_of(rows: Sequence[Mapping[str, str | float]], names: Sequence[str]) -> dict[str, float]:
    """Means of the figures that the rows have."""
    columns = {name: [float(row[name]) for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items() if values}


def _read_lines(path: Path) -> Iterator[tuple[_Key, list[Row]]]:
    """The rows of pictures in a file of lines; those that are cut off or damaged are left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
                key = (str(entry["picture"]), str(entry["sha256"]))
                yield key, [dict(row) for row in entry["rows"]]
            except (ValueError, KeyError, TypeError):
                continue


def _finite(value: Any) -> Any:
    """JSON-ready data with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{seconds / 3600:.1f} h"
