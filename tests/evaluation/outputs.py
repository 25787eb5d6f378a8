"""Readers of what a protocol wrote into its folder, for tests."""

import csv
import json


def summary_of(folder):
    """summary.json."""
    return json.loads((folder / "summary.json").read_text())


def rows_of(folder):
    """Rows of results.csv, by picture and method."""
    with (folder / "results.csv").open(newline="") as file:
        return {(row["picture"], row["method"]): row for row in csv.DictReader(file)}
