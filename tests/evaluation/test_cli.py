"""srflow-eval: its help, and what is refused, in one line and before anything is written."""

import pytest
from click.testing import CliRunner

from srflow_evaluation import sampling
from srflow_evaluation.cli import evaluate
from srflow_evaluation.options import LevelTaus
from srflow_evaluation.restore import restore
from srflow_evaluation.transfer import transfer
from srflow_sdk.errors import SRFlowError

ZERO = [LevelTaus((0.0,))]
TWO = [LevelTaus((0.5,)), LevelTaus((0.6,))]
AUTO = [LevelTaus(())]


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hr", "photos", "report"], "No such option '--hr'"),
        (
            ["resample", "--hr", "photos"],
            "there is no protocol 'resample': choose one of report, default-tau, ",
        ),
        ([], "Usage: evaluate PROTOCOL [OPTIONS]"),
        (["https://somebody:s3cr3t@h/a?sig=s1gned"], "there is no protocol 'https://h/a': "),
        (
            ["samples", "--hr", "photos", "--samples", "https://somebody:s3cr3t@h/a?sig=s1gned"],
            "https://h/a",
        ),
        (["samples"], "Missing option '--hr'"),
        (["samples", "--hr", "photos", "--smaples", "2"], "No such option '--smaples'"),
    ],
)
def test_what_no_protocol_takes_is_a_usage_error_without_secrets(arguments, says):
    result = run(*arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output
    assert not [secret for secret in ("somebody", "s3cr3t", "s1gned") if secret in result.output]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "report --only best-of-n",
            "report takes --only only with a folder for its page: add -o OUT",
        ),
        (
            "report -o OUT.html",
            "OUT.html: report writes a folder with report.html in it: name a folder",
        ),
        ("report --crop 65 -o OUT", "--crop is 65; with this model it must be a multiple of"),
        (
            "report --tau 0.9:0.8:0.7",
            "a bundle takes one tau for all levels: give one, or name a checkpoint",
        ),
        ("report -o HR/out", "is inside --hr"),
        ("report --metrics psnr,best", "'best'; there are psnr, lpips, y_psnr"),
        ("tau-sweep", "tau-sweep writes a folder of results: name it with -o OUT"),
        ("tau-sweep -o OUT --other gan", "--other is 'gan'; it must be NAME=DIR"),
        ("tau-sweep -o OUT --model x4-smal", "no such file: name "),
        (
            "standard -o OUT",
            "has no SET/HR with photographs: make it by benchmarks/standard_sets.py",
        ),
        (
            "restore -o OUT --degradation jpeg:30 --degradation noise:5",
            "has one degradation, not 2: ",
        ),
        ("default-tau", "default-tau changes a bundle: name it with --model BUNDLE"),
        ("default-tau --model nothing.srflow", "there is no such bundle"),
        ("calibrate", "intervals are a bundle's: name it with --model BUNDLE"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(photos, arguments, message, tmp_path):
    name, *words = (
        word.replace("OUT", str(tmp_path / "out")).replace("HR", str(photos))
        for word in arguments.split()
    )
    result = run(name, "--hr", photos, *words)
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert result.output.startswith("error: ")
    assert message.replace("OUT.html", f"{tmp_path}/out.html") in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        (sampling.best_of_n, {"samples": 1}, "at least 2"),
        (sampling.random_samples, {"taus": ZERO}, "all samples are the same"),
        (sampling.ntire21, {"taus": TWO}, "one temperature"),
        (sampling.ntire21, {"metrics": ("psnr",)}, "add lr_psnr"),
        (sampling.random_samples, {"models": ["a", "b"]}, "has one model, not 2"),
        (
            sampling.random_samples,
            {"metrics": ("lpips",)},
            "lpips: it cannot be measured here: its weights are not on",
        ),
        (sampling.tau_sweep, {"taus": AUTO}, "auto is a bundle's: export the checkpoint"),
        (sampling.tau_sweep, {"taus": [LevelTaus((0.1,) * 9)]}, r"the network has \d levels"),
        (restore, {"models": [], "taus": AUTO}, "--tau auto is for samples"),
        (transfer, {"models": [], "most": 1}, "there is only one: name another with --source"),
        (transfer, {"models": [], "taus": AUTO}, "--tau auto is for samples"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    options,
    protocol,
    changes,
    message,
    tmp_path,
):
    with pytest.raises(SRFlowError, match=message):
        protocol(options(**changes))
    assert not (tmp_path / "out").exists()
