"""Packages stay within their budgets of lines, so that what is added is weighed, and what is deleted stays deleted."""

from __future__ import annotations

import pytest

from .bare_environment import ROOT

BUDGETS = {  # lines of Python; nobody raises one: what does not fit deletes something first
    "srflow_sdk": 12_500,
    "apps/srflow_apps": 6_449,
    "training/srflow_training": 5_800,
    "training/srflow_evaluation": 5_200,
    "export/srflow_export": 6_400,
    "benchmarks": 4_500,
    "tests": 39_991,
}
SLACK = 1.02  # so that a fix never needs a raise


def lines(package: str) -> int:
    return sum(
        len(path.read_text("utf-8").splitlines())
        for path in (ROOT / package).rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    )


@pytest.mark.parametrize("package", BUDGETS)
def test_a_package_stays_within_its_budget_of_lines(package: str) -> None:
    assert lines(package) <= BUDGETS[package] * SLACK
