"""Settings files that cannot be read, and numbers that no machine could use: refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from srflow_sdk.errors import ArgumentError
from srflow_training.settings import load_settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 20_000, "nested too deeply"),
        ("a: 2001-99-99", "cannot be read as YAML"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_yaml_of_plain_values_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ArgumentError, match=message) as caught:
        load_settings(str(tmp_path / "run.yaml"))
    assert "run.yaml" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_values_of_overrides_are_held_to_the_same() -> None:
    with pytest.raises(ArgumentError, match="--set"):
        load_settings("x4-small", ["network.nf=2001-99-99"])


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
