"""Shards of a folder, put together, are exactly what one run gives."""

import json

import pytest
from click.testing import CliRunner

from srflow_evaluation.best_of_n import best_of_n
from srflow_evaluation.cli import evaluate
from srflow_evaluation.pictures import Cut, picture_files
from srflow_evaluation.results import Results, Shard, ShardMeasuredError
from srflow_sdk.errors import ArgumentError
from tests.evaluation.test_results import Measuring, run


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_shards_put_together_are_the_bytes_of_one_run(options, tmp_path):
    best_of_n(options(out=tmp_path / "whole", samples=2))
    sharded = tmp_path / "sharded"
    lines = []
    for number in (3, 1, 2):
        with pytest.raises(ShardMeasuredError, match=f"shard {number}/3: 1 of 3 pictures are measured"):
            best_of_n(options(out=sharded, samples=2, shard=Shard(number=number, count=3)))
    assert not (sharded / "results.csv").exists()
    best_of_n(options(out=sharded, samples=2, progress=lines.append))
    assert lines == ["3 of 3 pictures are already measured"]
    written = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in sharded.iterdir()} == written >= {"results.csv", "summary.json", "sheet_1_a.png"}
    for name in written:
        assert (sharded / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_command_says_what_is_next(photos, checkpoint, tmp_path):
    arguments = ["samples", "--model", str(checkpoint), "--hr", str(photos), "--samples", "2", "--metrics", "psnr"]
    arguments += ["-o", str(tmp_path / "out")]
    result = CliRunner().invoke(evaluate, [*arguments, "--shard", "2/2"])
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "shard 2/2: 1 of 3 pictures are measured. When all shards are, the same command without --shard puts them "
        "together\n"
    )
    result = CliRunner().invoke(evaluate, arguments)
    assert "1 of 3 pictures are already measured" in result.stderr
    assert result.stdout.startswith("| method | PSNR, dB ↑ | diversity, /255 |\n")


@pytest.fixture
def pictures(photos):
    return picture_files(photos, lr=None, others={}, cut=Cut(scale=4, multiple=8))


def test_a_shard_that_is_killed_continues_where_it_was(pictures, tmp_path):
    whole = run(tmp_path / "whole", pictures, Measuring())
    shard = Shard(number=1, count=2)  # a and c

    def run_shard(measuring):
        Results(tmp_path / "out", {"tau": 1}, shard=shard).measure(pictures, measuring, lambda _: None)

    with pytest.raises(KeyboardInterrupt):
        run_shard(Measuring(stop_at="c"))
    lines = tmp_path / "out" / "measured-1-of-2.jsonl"
    kept = lines.read_bytes()
    assert [json.loads(line)["picture"] for line in kept.splitlines()] == ["a"]
    lines.write_bytes(kept + kept[:40])  # a kill in the middle of a line
    rest = Measuring()
    with pytest.raises(ShardMeasuredError):
        run_shard(rest)
    assert rest.seen == ["c"]
    assert lines.read_bytes().startswith(kept + kept[:40] + b"\n")
    last = Measuring()
    assert run(tmp_path / "out", pictures, last) == whole
    assert last.seen == ["b"]
    assert (tmp_path / "out" / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_shards_with_other_settings_are_refused(pictures, tmp_path):
    with pytest.raises(ShardMeasuredError):
        Results(tmp_path, {"tau": 1}, shard=Shard(number=1, count=2)).measure(pictures, Measuring(), lambda _: None)
    with pytest.raises(ArgumentError, match=r"different: tau\)"):
        Results(tmp_path, {"tau": 2}, shard=Shard(number=2, count=2))


def test_shards_of_another_division_are_refused(pictures, tmp_path):
    def run_shard(number, count):
        Results(tmp_path, {"tau": 1}, shard=Shard(number=number, count=count)).measure(
            pictures, Measuring(), lambda _: None
        )

    with pytest.raises(ShardMeasuredError):
        run_shard(1, 2)
    with pytest.raises(ArgumentError, match=r"holds shards of 2, and --shard 1/3 divides .* otherwise: give i/2, or"):
        run_shard(1, 3)
    with pytest.raises(ShardMeasuredError):
        run_shard(2, 2)
    assert run(tmp_path, pictures, Measuring())


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", ""])
def test_shards_that_are_none_are_refused_in_one_line(text):
    with pytest.raises(ArgumentError, match=r"it must be i/n, from 1/n to n/n, such as 2/4$"):
        Shard.parse(text)


def test_every_picture_is_in_one_shard():
    pictures = list(range(11))
    found = [Shard.parse(f"{number}/4").of(pictures) for number in range(1, 5)]
    assert sorted(number for shard in found for number in shard) == pictures
    assert max(map(len, found)) - min(map(len, found)) == 1
