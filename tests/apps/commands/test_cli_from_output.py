"""srflow-upscale --from-output: a picture is made again from what its file says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk.files import Provenance, read_image, read_provenance, write_image
from tests.sdk.tiny_bundle import write_tiny_bundle

Run = Callable[..., Result]
_CONFLICTS = (
    "--tau=0.8",
    "--seed=0",
    "--samples=1",
    "--tile=auto",
    "--consistent",
    "--precision=int8",
)


def test_a_picture_is_made_again_from_itself_alone(run: Run) -> None:
    arguments = ["--tau", "0.3", "--seed", "9", "--sample", "4", "--consistent", "--tile", "16"]
    run("a.png", "-o", "big.png", *arguments)
    result = run("--from-output", "big.png", "-o", "again.png")
    assert (result.exit_code, result.stdout) == (0, "again.png\n")
    assert np.array_equal(read_image("again.png").pixels, read_image("big.png").pixels)
    assert read_provenance("again.png") == read_provenance("big.png")


def test_a_temperature_from_the_picture_is_drawn_again_and_told_apart_from_its_number(
    run: Run,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    noise[:, 20:] = 255
    write_image("half.png", noise)
    run("half.png", "-o", "big.png", "--tau", "auto")
    run("half.png", "-o", "fixed.png", "--tau", "0.8")
    result = run("--from-output", "big.png", "-o", "again.png")
    assert (result.exit_code, result.stdout) == (0, "again.png\n")
    assert np.array_equal(read_image("again.png").pixels, read_image("big.png").pixels)
    assert not np.array_equal(read_image("fixed.png").pixels, read_image("big.png").pixels)
    for target, tau, expected in (
        ("big.png", "auto", 0),
        ("fixed.png", "auto", 1),
        ("big.png", "0.8", 1),
    ):
        made = run("half.png", "-o", target, "--tau", tau, "--resume").stdout
        assert made.count("\n") == expected, "made again only if the temperature was another"


def changed(name: str, **changes: object) -> Provenance:
    """Let a picture say something else of how it was made; what it said."""
    provenance = read_provenance(name)
    assert provenance is not None
    said = dataclasses.replace(provenance, **changes)  # type: ignore[arg-type]
    write_image(name, read_image(name).pixels, provenance=said)
    return provenance


def test_auto_is_drawn_again_with_the_temperature_that_it_had(run: Run) -> None:
    run("a.png", "-o", "gentle.png", "--tau", "auto")
    provenance = changed("gentle.png", tau=0.125)
    assert run("--from-output", "gentle.png", "-o", "again.png").exit_code == 0
    assert (made := read_provenance("again.png")) is not None
    assert (made.tau, made.auto_tau) == (0.125, provenance.auto_tau)


def test_the_source_is_looked_for_beside_the_picture_and_here_and_known_by_its_bytes(
    run: Run,
) -> None:
    Path("sub").mkdir()
    run("a.png", "-o", "sub/big.png")
    again = ["--from-output", "sub/big.png", "-o", "sub/again.png"]
    assert run(*again).exit_code == 0
    Path("a.png").rename("sub/a.png")
    assert run(*again).exit_code == 0
    Path("sub/a.png").rename("renamed.png")
    Path("b.png").rename("a.png")
    result = run(*again)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "was made from a.png" in result.stderr
    assert run("renamed.png", *again).exit_code == 0
    result = run("a.png", *again)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "a.png (sha256" in result.stderr


def test_no_folders_are_taken_from_the_recorded_name(run: Run) -> None:
    Path("sub/deep").mkdir(parents=True)
    run("a.png", "-o", "sub/big.png")
    Path("a.png").rename("sub/deep/a.png")
    changed("sub/big.png", source="sub/deep/a.png")
    result = run("--from-output", "sub/big.png", "-o", "again.png")
    assert result.exit_code == 1
    assert "was made from a.png" in result.stderr


def test_a_picture_of_another_model_names_both(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run("a.png", "-o", "big.png")
    other = write_tiny_bundle(
        tmp_path_factory.mktemp("bundles") / "other.srflow", gain=0.5, name="other"
    )
    arguments = [
        "--from-output",
        "big.png",
        "-o",
        "again.png",
        "--model",
        str(other),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli.upscale, arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert all(word in result.stderr for word in ("tiny", "other", "--model"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tau": None}, "map of temperatures"),
        ({"latent_scheme": 99}, "scheme 99"),
        ({"auto_tau": 1}, "version 1 of --tau auto"),
        (None, "does not say"),
    ],
)
def test_a_picture_that_cannot_be_made_again_says_why(
    run: Run, change: dict[str, object] | None, says: str
) -> None:
    run("a.png", "-o", "big.png", "--tau", "auto")
    if change is None:
        write_image("big.png", read_image("big.png").pixels)
    else:
        changed("big.png", **change)
    result = run("--from-output", "big.png", "-o", "again.png")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert says in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *(
            (["--from-output", "big.png", "-o", "x.png", one], one.partition("=")[0])
            for one in _CONFLICTS
        ),
        (["--from-output", "big.png", "-o", "big.png"], "would overwrite"),
        (["a.png", "b.png", "--from-output", "big.png", "-o", "x.png"], "name one input, not 2"),
    ],
)
def test_what_the_picture_says_cannot_be_chosen(run: Run, arguments: list[str], says: str) -> None:
    run("a.png", "-o", "big.png")
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not Path("x.png").exists()
