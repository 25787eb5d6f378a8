"""Shell completion, which click supplies: what the shell asks for when Tab is pressed."""

from __future__ import annotations

import pytest
from click.shell_completion import BashComplete

from srflow_apps.commands.cli import upscale


@pytest.mark.parametrize(
    ("words", "last", "expected"),
    [
        ([], "--rep", "plain,--report"),
        (["a.png", "--device"], "te", "plain,tensorrt"),
        ([], "pho", "file,pho"),
        (["a.png", "-o"], "lar", "file,lar"),
        (["a.png", "--model"], "x", "file,x"),
    ],
)
def test_options_choices_and_files_are_completed(words: list[str], last: str, expected: str) -> None:
    shell = BashComplete(upscale, {}, "srflow-upscale", "_SRFLOW_UPSCALE_COMPLETE")
    assert [shell.format_completion(one) for one in shell.get_completions(words, last)] == [expected]
