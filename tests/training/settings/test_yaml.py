"""Settings files that others have written: refused in one line, before they take memory or time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from srflow_sdk.errors import ArgumentError
from srflow_training._yaml import MAX_BYTES, parse_yaml, read_yaml
from srflow_training.settings import load_settings
from tests.irregular import KINDS, make_irregular


def test_plain_values_are_read_as_yaml_reads_them() -> None:
    text = "a: {b: [1, 0x10, 2.5, 1_000, off, null, text], c: -3}"
    assert parse_yaml(text, where="x") == {"a": {"b": [1, 16, 2.5, 1000, False, None, "text"], "c": -3}}


def laughs() -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(), "aliases"),
        ("network: &n {nf: 8}\ndata: {<<: *n}", "aliases"),
        ("a: " + "9" * 100, "a number is far too large"),
        ("a: 0x" + "f" * 100_000, "a number is far too large"),
        ("a: " + "59:" * 1000 + "59", "a number is far too large"),
        ("[" * 20_000, "nested too deeply"),
        ("a: 2001-99-99", "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_what_can_take_gigabytes_or_fail_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ArgumentError, match=message) as caught:
        load_settings(str(tmp_path / "run.yaml"))
    assert "run.yaml" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", ["*a", "9" * 5000, "[" * 20_000, "2001-99-99"])
def test_values_of_overrides_are_held_to_the_same(value: str) -> None:
    with pytest.raises(ArgumentError, match="--set"):
        load_settings("x4-small", [f"network.nf={value}"])


def test_large_files_are_not_read_to_their_end(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").touch()
    os.truncate(tmp_path / "run.yaml", 100 << 30)  # sparse
    with pytest.raises(ArgumentError, match="less than 1 MB"):
        read_yaml(tmp_path / "run.yaml")
    assert MAX_BYTES == 1_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs in folders")
@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.yaml"
    make_irregular(path, kind)
    with pytest.raises(ArgumentError, match="not a regular file"):
        load_settings(str(path))


@pytest.mark.parametrize(
    "override",
    [
        "data.crop=1000000000",
        "data.batch=10000000000",
        "data.workers=100000",
        "schedule.iterations=10000000000000",
        "schedule.validate_size=1000000",
        "hardware.devices=1000000000",
        "objective.l1_every=10000000000",
        "network.nf=1000000000",
        "network.blocks=1000000000",
        "network.levels=40",
        "network.transition_steps=1000000000",
    ],
)
def test_numbers_that_no_machine_could_use_name_the_field(override: str) -> None:
    field = override.partition("=")[0].partition(".")[2]
    with pytest.raises(ArgumentError, match=rf"{field} is \d+[:;] .*(at most|less than or equal to)"):
        load_settings("x4-small", [override])
