"""What a protocol has measured: `results.csv`, which a killed run continues, and `summary.json`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from srflow_sdk._system.atomic import remove_stale_parts, write_atomically
from srflow_sdk.errors import ArgumentError
from srflow_training.evaluation.pictures import PictureFiles

Row = dict[str, str | float]
"""A line of results.csv: `picture`, what was measured of it (text), and its figures."""

_TEXT = ("picture", "crop", "method", "tau", "sample", "part", "level", "input")


class Results:
    """The rows of a protocol in a folder.

    settings: all that the figures depend on except the pictures; JSON-ready. A picture whose files are unchanged is
    not measured again, unless its rows in results.csv are not those that were written.
    Raises: ArgumentError if the folder holds a measurement with other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.out = out
        self.settings = json.loads(json.dumps(dict(settings)))
        if out.exists() and not out.is_dir():
            raise ArgumentError(f"-o {out} is a file; the results are a folder: name another")
        out.mkdir(parents=True, exist_ok=True)
        remove_stale_parts(*(out / name for name in ("results.csv", "settings.json", "summary.json")))
        self._done: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._rows: dict[str, list[Row]] = {}
        self._open()

    def measure(
        self,
        pictures: Sequence[PictureFiles],
        rows_of: Callable[[PictureFiles], list[Row]],
        progress: Callable[[str], None],
    ) -> list[Row]:
        """Measure the pictures that are not yet measured; return the rows of all, in their order."""
        digests = {files.name: files.sha256 for files in pictures}
        left = [files for files in pictures if self._done.get(files.name) != digests[files.name]]
        if len(left) < len(pictures):
            progress(f"{len(pictures) - len(left)} of {len(pictures)} pictures are already measured")
        start = time.monotonic()
        for number, files in enumerate(left):
            rest = (
                f", about {_duration((time.monotonic() - start) / number * (len(left) - number))} left"
                if number
                else ""
            )
            progress(f"picture {number + 1} of {len(left)}: {files.name}{rest}")
            self._done.pop(files.name, None)
            self._rows[files.name] = rows_of(files)
            self._digests[files.name] = _digest(self._rows[files.name])
            self._write(pictures)
            self._done[files.name] = digests[files.name]
            self._write_state()
        self._write(pictures)
        return [row for files in pictures for row in self._rows[files.name]]

    def forget(self, name: str) -> None:
        """Measure this picture again."""
        self._done.pop(name, None)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json; a figure that is not finite becomes null, because JSON has no word for it."""
        content = json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.out / "summary.json", (content + "\n").encode())

    def _open(self) -> None:
        state, table = self.out / "settings.json", self.out / "results.csv"
        if not state.is_file():
            if table.exists():
                raise ArgumentError(f"-o {self.out} holds a results.csv of something else: name another folder")
            self._write_state()
            return
        try:
            found = json.loads(state.read_text(encoding="utf-8"))
            settings, done, digests = found["settings"], dict(found["pictures"]), dict(found.get("rows", {}))
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"{state} is damaged: delete {self.out}, or name another folder") from error
        if settings != self.settings:
            names = sorted(key for key in {*settings, *self.settings} if settings.get(key) != self.settings.get(key))
            raise ArgumentError(
                f"-o {self.out} holds figures measured otherwise (different: {', '.join(names)}): name another folder, "
                "or delete it"
            )
        lines: dict[str, list[dict[str, str]]] = {}
        if table.is_file():
            with table.open(encoding="utf-8", errors="replace", newline="") as file:
                for line in csv.DictReader(file):
                    lines.setdefault(line.get("picture") or "", []).append(line)
        for name, digest in digests.items():
            if name in done and name in lines and _digest(lines[name]) == digest:
                self._done[name], self._digests[name] = done[name], digest
                self._rows[name] = [_read(line) for line in lines[name]]

    def _write(self, pictures: Sequence[PictureFiles]) -> None:
        rows = [row for files in pictures for row in self._rows.get(files.name, [])]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.out / "results.csv", text.getvalue().encode())

    def _write_state(self) -> None:
        content = json.dumps({"settings": self.settings, "pictures": self._done, "rows": self._digests}, indent=2)
        write_atomically(self.out / "settings.json", (content + "\n").encode())


def mean_of(rows: Sequence[Row], names: Sequence[str]) -> dict[str, float]:
    """Means of the figures that the rows have."""
    columns = {name: [float(row[name]) for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items() if values}


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of rows, the same before they are written and after they are read: empty cells do not count."""
    cells = [sorted((str(name), str(value)) for name, value in row.items() if value != "") for row in rows]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _read(line: Mapping[str, str]) -> Row:
    return {name: value if name in _TEXT else float(value) for name, value in line.items() if name in _TEXT or value}


def _finite(value: Any) -> Any:
    """JSON-ready data with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{round(seconds)} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
