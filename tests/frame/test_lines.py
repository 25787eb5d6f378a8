"""Packages stay within their budgets of lines, so that what is added is weighed, and what is deleted stays deleted."""

from __future__ import annotations

import pytest

from .bare_environment import ROOT

BUDGETS = {  # lines of Python; who raises one says why in the same commit
    "srflow_sdk": 14_599,
    "apps/srflow_apps": 10_437,
    "training/srflow_training": 6_724,
    "training/srflow_evaluation": 7_155,
    "export/srflow_export": 8_024,
}


def lines(package: str) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", BUDGETS)
def test_a_package_stays_within_its_budget_of_lines(package: str) -> None:
    assert lines(package) <= BUDGETS[package]
