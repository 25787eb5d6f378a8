"""What a release says of itself is true: versions, citation, licences, security, deprecations."""

from __future__ import annotations

import re

import yaml

from docs.site.licences import PAGE, requirements
from docs.site.reference import project
from srflow_sdk import __version__

from .bare_environment import ROOT


def test_the_citation_has_the_version() -> None:
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == __version__


def test_every_test_that_security_names_exists() -> None:
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text("utf-8")


def test_the_page_of_licences_names_every_dependency() -> None:
    page = PAGE.read_text("utf-8")
    written = re.findall(r"^\| ([\w-]+) \| (?:the plain|`\[)", page, re.MULTILINE)
    assert {*written} == {*requirements()}, "run python -m docs.site.licences"


def test_the_table_of_extras_names_each_one() -> None:
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    rows = re.findall(r"^\| `srflow-sdk\[([\w-]+)\]` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(project()["optional-dependencies"])
