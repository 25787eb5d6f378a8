"""Readers of what a protocol wrote into its folder, for tests."""

import csv
import json


def summary_of(folder):
    """summary.json."""
    return json.loads((folder / "summary.json").read_text())


def lines_of(folder, **chosen):
    """The rows of results.csv, or those with these texts."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[name] == value for name, value in chosen.items())]


def rows_of(folder):
    """Rows of results.csv, by picture and method."""
    return {(row["picture"], row["method"]): row for row in lines_of(folder)}
