"""Shell completion, which click supplies: what the shell asks for when Tab is pressed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sdk.conftest import UPSCALE


def completions(*words: str) -> list[str]:
    environ = {"_SRFLOW_UPSCALE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words)}
    done = subprocess.run(
        [sys.executable, "-c", UPSCALE.replace("upscale()", 'upscale(prog_name="srflow-upscale")')],
        env={**os.environ, **environ, "COMP_CWORD": str(len(words) - 1)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("srflow-upscale", "--rep"), ["plain,--report"]),
        (("srflow-upscale", "a.png", "--device", "te"), ["plain,tensorrt"]),
        (("srflow-upscale", "pho"), ["file,pho"]),
        (("srflow-upscale", "a.png", "-o", "lar"), ["file,lar"]),
        (("srflow-upscale", "a.png", "--model", "x"), ["file,x"]),
    ],
)
def test_options_choices_and_files_are_completed(words: tuple[str, ...], expected: list[str]) -> None:
    assert completions(*words) == expected
