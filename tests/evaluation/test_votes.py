"""Votes: how they are added up, and which files are no votes."""

import json

import pytest
from click.testing import CliRunner

from srflow_evaluation.cli import evaluate
from srflow_evaluation.votes import FORMAT, count_votes, wilson
from srflow_sdk.errors import ArgumentError

METHODS = ["one", "two"]


@pytest.fixture
def file_of(tmp_path):
    """Write a reader's file: a choice for each picture, "one", "two" or None."""

    def write(reader, choices, **changes):
        votes = [
            {
                "picture": f"p{number}",
                "damage": "jpeg:30" if number % 2 else "clean",
                "order": METHODS,
                "choice": choice,
            }
            for number, choice in enumerate(choices)
        ]
        path = tmp_path / f"{reader}.json"
        content = {"format": FORMAT, "page": "a" * 64, "reader": reader, "methods": METHODS, "votes": votes, **changes}
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def test_files_are_added_up_and_those_who_could_not_tell_are_in_no_share(file_of):
    table = count_votes([file_of("r1", ["one", "one", "two", None]), file_of("r2", ["one", "two", None, "one"])])
    assert table.rows[0][:3] == ["one", "4", "67 %"]
    assert table.rows[1][:3] == ["two", "2", "33 %"]
    assert "8 answers of 2 readers; 2 could not tell" in table.notes[0]
    assert "would have 50 %" in table.notes[0]
    assert {part.title: [row[:2] for row in part.rows] for part in table.more} == {
        "clean": [["one", "2"], ["two", "1"]],
        "jpeg:30": [["one", "2"], ["two", "1"]],
    }


@pytest.mark.parametrize(
    ("chosen", "answers", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (20, 20, 0.8389, 1), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_is_wilsons(chosen, answers, low, high):
    """The last is an example of Newcombe (1998), table I."""
    assert wilson(chosen, answers) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


def test_a_reader_counts_once_and_methods_must_be_the_same(file_of, tmp_path):
    one = file_of("r1", ["one"])
    again = tmp_path / "copy.json"
    again.write_bytes(one.read_bytes())
    with pytest.raises(ArgumentError, match=r"copy\.json: the votes of this reader are given twice"):
        count_votes([one, again])
    other = file_of("r2", [], methods=["one", "three"])
    with pytest.raises(ArgumentError, match=r"r2\.json is of other methods than .*r1\.json"):
        count_votes([one, other])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a file of votes .format."),
        ({"votes": [{"picture": "p", "damage": "clean", "order": METHODS, "choice": "three"}]}, "'three' was chosen"),
        ({"votes": [{"picture": "p", "damage": "clean", "order": ["one"], "choice": "one"}]}, "other methods than"),
        ({"votes": 2 * [{"picture": "p", "damage": "clean", "order": METHODS, "choice": "one"}]}, "voted on twice"),
        ({"more": 1}, "not a file of votes .more."),
    ],
)
def test_what_the_page_did_not_save_is_refused(file_of, changes, message):
    with pytest.raises(ArgumentError, match=message) as error:
        count_votes([file_of("r1", ["one"], **changes)])
    assert "\n" not in str(error.value)


def test_the_command_counts_and_needs_no_photographs(file_of, tmp_path):
    path = file_of("r1", ["two", "two"])
    counted = CliRunner().invoke(evaluate, ["count-votes", "--votes", str(path)])
    assert counted.exit_code == 0, counted.output
    assert "| two | 2 | 100 % | 34 to 100 % |" in counted.output
    for arguments, message in (
        (["count-votes"], "no votes to count: name the files with --votes FILE"),
        (["count-votes", "--votes", str(tmp_path / "none")], "no such file"),
        (["count-votes", "--votes", str(path), "--hr", "photos"], "count-votes has no --hr"),
        (["compare", "--hr", "photos", "--votes", str(path)], "compare has no --votes"),
    ):
        refused = CliRunner().invoke(evaluate, arguments)
        assert refused.exit_code == 1
        assert message in refused.output
    (tmp_path / "text.json").write_text("no json")
    refused = CliRunner().invoke(evaluate, ["count-votes", "--votes", str(tmp_path / "text.json")])
    assert refused.exit_code == 1
    assert "not a file of votes" in refused.output
