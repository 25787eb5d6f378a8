"""The commands in docs/experiments.md are ones that `srflow-eval` takes."""

import re
import shlex
from pathlib import Path

import pytest

from srflow_training._eval_command import _refuse_others, evaluate
from srflow_training._protocols import PROTOCOLS

DOCS = Path(__file__).resolve().parents[3] / "docs" / "experiments.md"


def documented():
    """Commands of the table of the publication's figures, with the options that its heading adds."""
    for figure, command in re.findall(r"^\| ([^|]+) \| `([a-z0-9-]+ --[^`]+)`", DOCS.read_text(encoding="utf-8"), re.M):
        more = "" if "without `--convention`" in figure else " --convention published"
        yield f"{command}{more} -o OUT"


def test_all_tables_and_figures_that_have_a_command_are_documented():
    assert {command.split()[0] for command in documented()} >= set(PROTOCOLS) - {"diagnose", "perception-distortion"}


@pytest.mark.parametrize("command", list(documented()))
def test_a_documented_command_has_options_that_its_protocol_takes(command):
    parameters = evaluate.make_context("srflow-eval", shlex.split(command)).params
    protocol = parameters.pop("protocol")
    _refuse_others(protocol, parameters)
