"""Paths that cannot be meant: empty ones, such as those of unset variables, and URLs where there is no store."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from srflow_apps.commands.cli import restore, transfer, upscale

EMPTY, URL = "is empty; name a file", "is a URL; name a file or folder on this machine"


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (upscale, ["", "-o", "x"], EMPTY),
        (upscale, ["a.png", "", "-o", "x"], EMPTY),
        (restore, ["", "-o", "x", "--dry-run"], EMPTY),
        (upscale, ["a.png", "-o", "x.png", "--report", ""], EMPTY),
        (upscale, ["a.png", "-o", "x.png", "--report", "-"], "it must be a file; name it"),
        (upscale, ["a.png", "-o", "x.png", "--model", ""], EMPTY),
        (upscale, ["a.png", "-o", "x.png", "--model", "s3://b/m.srflow"], f"s3://b/m.srflow {URL}"),
        (transfer, ["a.png", "", "a.png", "-o", "x.png"], EMPTY),
        (transfer, ["a.png", "a.png", "a.png", "-o", ""], EMPTY),
        (transfer, ["https://a.b/c.png", "a.png", "a.png", "-o", "x.png"], f"https://a.b/c.png {URL}"),
        (transfer, ["a.png", "a.png", "a.png", "-o", "x.png", "--lr", "s3://b/c.png"], f"s3://b/c.png {URL}"),
        (transfer, ["a.png", "a.png", "a.png", "-o", "x.png", "--model", "auto"], "srflow-transfer needs one model"),
    ],
)
def test_they_are_wrong_usage_in_one_line_and_nothing_is_written(
    command, arguments, says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_files_url_is_its_path(tmp_path: Path) -> None:
    result = CliRunner().invoke(transfer, [f"file://{tmp_path}/a.png"] * 3 + ["-o", "x.png"])
    assert f"error: {tmp_path}/a.png: there is no such file" in result.stderr
    (tmp_path / "a.png").write_bytes(b"")
    result = CliRunner().invoke(upscale, [f"{tmp_path}/a.png", "-o", "x.png", "--model", f"file://{tmp_path}/m.srflow"])
    assert f"error: {tmp_path}/m.srflow: there is no such bundle" in result.stderr
