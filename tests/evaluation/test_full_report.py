"""`srflow-eval report -o OUT`: a folder that holds every protocol, and one page that needs nothing else."""

import csv
import html
import json
import re
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation.best_of_n import best_of_n
from srflow_evaluation.cli import evaluate
from srflow_evaluation.full_report import full_report
from srflow_evaluation.options import Options
from srflow_evaluation.protocols import PROTOCOLS
from srflow_evaluation.tau_sweep import tau_sweep
from srflow_sdk import __version__
from srflow_sdk.errors import ArgumentError
from srflow_training import save_checkpoint
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

THREE = ["tau-sweep", "perception-distortion", "best-of-n"]


@pytest.fixture
def small(options):
    """Options of a report on the centres of two photographs."""
    return options(centre=64, most=2)


@pytest.fixture(scope="module")
def best_of_ten(photos, checkpoint, tmp_path_factory):
    """Folder of a report with best-of-n alone; tests only read it."""
    out = tmp_path_factory.mktemp("report") / "out"
    full_report(Options(models=[str(checkpoint)], hr=photos, out=out, others={}, centre=64, most=2), ["best-of-n"])
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_the_page_shows_every_protocol_with_its_table_notes_plots_and_sheets(small, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "once-more", replace(PROTOCOLS["restore"], about="a protocol of tomorrow"))
    monkeypatch.setitem(PROTOCOLS, "not-here", replace(PROTOCOLS["best-of-n"], in_report=False))
    report = full_report(small)
    text = report.page.read_text(encoding="utf-8")
    assert report.failed == {}
    headings = re.findall(r'<h2 id="(.*)">', text)
    assert headings == ["crops", *(name for name, found in PROTOCOLS.items() if found.in_report)]
    assert "A protocol of tomorrow." in text
    assert "|---" not in text
    assert "**" not in text
    assert "`" not in text[: text.index("<script>")]
    parts = ["Latents", "Calibration", "Round trip", "Bits per dimension", "Other inputs"]
    assert re.findall(r'<h3 class="part">(.*)</h3>', text) == parts
    drawn = re.findall(r'alt="diagnose: (.*?)"', text)
    assert drawn == ["latents", "calibration", "sheet"], "each plot follows its table"
    captions = re.findall(r"<figcaption>(.*)</figcaption>", text)
    assert len(captions) == text.count('<div class="scroll sheet"')
    assert [line for line in captions if not re.fullmatch(r"[A-Z].{20,} \(\w+\.png\)\.", line)] == ["sheet_1_a.png."], (
        "only the protocol of tomorrow has no words for its sheet"
    )
    assert "of whole pictures; every figure is the mean over pictures" in text
    for name in ("tau-sweep: tau sweep", "tau-sweep: sheet 1 a", "best-of-n: sheet 1 a", "once-more: sheet 1 a"):
        assert text.count(f'alt="{name}"') == 1
    assert text.count('alt="perception-distortion: ') == 1, (
        "its folder is that of tau-sweep, whose files are shown there"
    )
    assert '<th scope="row">best of 10</th>' in text
    assert not (small.out / "perception-distortion").exists()
    for fact in ("×4", "2 from", "a, b", f"srflow-sdk {__version__}", "bicubic reduction, 8 bits"):
        assert html.escape(fact) in text


def test_every_protocol_of_the_report_says_what_to_look_for():
    assert [name for name, protocol in PROTOCOLS.items() if protocol.in_report and not protocol.reading] == []


def test_the_page_needs_nothing_but_itself(best_of_ten):
    text = (best_of_ten / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]*)""", text)
    assert len(sources) > 10
    assert {source.split(":")[0] if ":" in source else source[0] for source in sources} == {"data", "#"}
    assert "default-src 'none'; img-src data:" in text


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_what_was_measured_before_is_used_and_pages_are_equal_to_the_byte(small, options):
    tau_sweep(replace(small, out=small.out / "tau-sweep"))
    said = []
    first = full_report(replace(small, progress=said.append), THREE)
    assert "tau-sweep (2 of 4): 2 of 2 pictures are already measured" in said
    assert "perception-distortion (3 of 4): 2 of 2 pictures are already measured" in said
    assert "best-of-n (4 of 4): picture 1 of 2: a" in said
    content = first.page.read_bytes()
    assert b'alt="perception-distortion: perception distortion"' in content
    assert b'alt="tau-sweep: perception distortion"' not in content
    said.clear()
    # now the folder of tau-sweep has the plot of perception-distortion before the page comes to it
    assert full_report(replace(small, progress=said.append), THREE).page.read_bytes() == content
    assert len(said) == 4
    assert all(line.endswith("2 of 2 pictures are already measured") for line in said)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_a_report_that_was_stopped_continues_to_the_same_bytes(small, best_of_ten):
    def stop(line):
        if line.startswith("best-of-n (2 of 2): picture 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        full_report(replace(small, progress=stop), ["best-of-n"])
    assert not (small.out / "report.html").exists()
    said = []
    stopped = full_report(replace(small, progress=said.append), ["best-of-n"])
    assert said[0] == "crops (1 of 2): 2 of 2 pictures are already measured"
    assert said[1] == "best-of-n (2 of 2): 1 of 2 pictures are already measured"
    assert stopped.page == small.out / "report.html"
    for name in ("report.html", "results.csv", "summary.json", "best-of-n/results.csv"):
        assert (small.out / name).read_bytes() == (best_of_ten / name).read_bytes()


def test_the_page_has_one_notation_and_explains_its_words(best_of_ten):
    text = (best_of_ten / "report.html").read_text(encoding="utf-8")
    shown = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    shown = re.sub(r"base64,[^\"]*|--?tau|best-of-n", "", shown)
    assert re.findall(r".{0,20}\btau [\d.a]+", shown) == []
    assert "RGB PSNR" not in shown
    assert "Y PSNR" not in shown
    assert '<option value="τ 0.8" selected>τ 0.8, ' in shown
    introduction = shown[: shown.index("<main>")]
    headings = re.findall(r'<th scope="col">([A-Z][\w-]*)', shown)
    assert "GMSD" in headings
    assert [name for name in headings if name not in introduction] == []
    for word in ("FLIP", "Diversity", "seed"):
        assert word in introduction


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_only_chooses_protocols(options):
    small = options(centre=64, most=1)
    report = full_report(small, ["perception-distortion"])
    assert re.findall(r'<h2 id="(.*)">', report.page.read_text(encoding="utf-8")) == ["crops", "perception-distortion"]
    assert {path.name for path in small.out.iterdir() if path.is_dir()} == {"crops", "tau-sweep"}


def test_texts_are_escaped(small, tmp_path):
    shutil.copytree(small.hr, tmp_path / "photos")
    (tmp_path / "photos" / "a.png").rename(tmp_path / "photos" / "a<b> & 'c'.png")
    text = full_report(replace(small, hr=tmp_path / "photos", most=1), ["samples"]).page.read_text(encoding="utf-8")
    assert "a<b>" not in text
    assert "a&lt;b&gt; &amp; &#39;c&#39;" in text


def test_a_protocol_that_fails_is_named_with_the_reason_and_the_others_stay(small, checkpoint):
    best_of_n(replace(small, out=small.out / "best-of-n", samples=2, most=1))
    arguments = ["report", "--model", str(checkpoint), "--hr", str(small.hr), "--crop", "64", "--pictures", "1"]
    arguments += ["--only", "samples", "--only", "best-of-n"]
    result = CliRunner().invoke(evaluate, [*arguments, "-o", str(small.out)])
    assert result.exit_code == 1
    assert result.stdout.startswith("| method | PSNR, dB ↑ |")
    reason = f"-o {small.out}/best-of-n holds figures measured otherwise (different: samples)"
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {small.out}/report.html is written without best-of-n: {reason}")
    assert last.endswith("Choose the others with --only")
    text = (small.out / "report.html").read_text(encoding="utf-8")
    assert f"Not measured: {html.escape(reason)}" in text
    assert 'alt="samples: ' in text


def keep(monkeypatch, *names):
    """Let a report know only these protocols: it is faster."""
    kept = {name: PROTOCOLS[name] for name in names}
    monkeypatch.setattr("srflow_evaluation.full_report.PROTOCOLS", kept)


def test_what_one_photograph_cannot_have_is_one_note_and_no_failure(small, monkeypatch):
    keep(monkeypatch, "samples", "transfer")
    said = []
    report = full_report(replace(small, most=1, progress=said.append))
    text = report.page.read_text(encoding="utf-8")
    note = "transfer: it takes content from the next photograph, and there is only one"
    assert report.failed == {}
    assert re.findall(r'<h2 id="(.*)">', text) == ["crops", "samples"]
    assert text.count(note) == 1
    assert said[0] == f"left out: {note}"
    asked = full_report(replace(small, most=1), ["transfer"])
    assert "there is only one: name another with --source" in asked.failed["transfer"]


def test_what_a_bundle_without_an_inverter_cannot_have_is_one_note_and_no_failure(small, monkeypatch, tmp_path):
    keep(monkeypatch, "restore", "transfer", "samples", "diagnose")
    bundle = write_tiny_bundle(tmp_path / "tiny.srflow")
    report = full_report(replace(small, models=[str(bundle)]))
    text = report.page.read_text(encoding="utf-8")
    assert report.failed == {}
    assert re.findall(r'<h2 id="(.*)">', text) == ["crops", "samples"]
    assert "<dd>restore, transfer, diagnose: " in text
    assert text.count("has no inverter") == 1


def test_photographs_without_a_whole_crop_have_a_page_without_crops(photos, checkpoint, tmp_path):
    arguments = ["report", "--model", str(checkpoint), "--hr", str(photos), "--pictures", "1", "--only", "samples"]
    result = CliRunner().invoke(evaluate, [*arguments, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{tmp_path}/out/report.html: ")
    assert "crops (1 of 2): not measured: no photograph is at least 256×256 pixels" in result.stderr
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="(.*)">', text) == ["crops", "samples"]
    assert "Not measured: no photograph is at least 256×256 pixels: name a folder with larger ones" in text


def test_an_rrdb_has_a_page_of_crops(small, tmp_path):
    path = tmp_path / "rrdb.safetensors"
    save_checkpoint(path, random_srflow(tiny_config()).encoder)
    text = full_report(replace(small, models=[str(path)])).page.read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="(.*)">', text) == ["crops"]
    assert '<option value="encoder (L1)" selected>' in text
    with pytest.raises(ArgumentError, match=r"is an RRDB, .*: leave out --only, --lr"):
        full_report(replace(small, models=[str(path)], lr=small.hr), ["best-of-n"])


def test_the_command_writes_a_folder_and_says_how_large_the_page_is(checkpoint, photos, tmp_path):
    arguments = ["report", "--model", str(checkpoint), "--hr", str(photos), "--crop", "64", "--tau", "0.9:0.8:0.7"]
    result = CliRunner().invoke(evaluate, [*arguments, "--only", "samples", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "| τ 0.9:0.8:0.7 |" in result.stdout
    size = (tmp_path / "out" / "report.html").stat().st_size / 1e6
    assert result.stdout.splitlines()[-1] == f"{tmp_path}/out/report.html: {size:.1f} MB; open it in a browser"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["rows"][-1]["method"] == "tau 0.9:0.8:0.7"
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 * 2
    with Image.open(tmp_path / "out" / "crops" / "a" / "tau-0.9-0.8-0.7.png") as image:
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "best-of-n"], "report takes --only only with a folder for its page: add -o OUT"),
        (["--pictures", "2"], "report takes --pictures only with a folder for its page: add -o OUT"),
        (["--samples", "2", "-o", "OUT"], "report has no --samples: leave it out, or take one of "),
        (["-o", "OUT.html"], "OUT.html: report writes a folder with report.html in it: name a folder"),
        (["--crop", "65", "-o", "OUT"], "--crop is 65; with this model it must be a multiple of"),
        (["--tau", "0.9:0.8:0.7", "-o", "OUT"], "a bundle takes one tau for all levels"),
        (["--reference", "none.pth", "-o", "OUT"], "none.pth"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(photos, arguments, message, tmp_path):
    arguments = [argument.replace("OUT", str(tmp_path / "out")) for argument in arguments]
    result = CliRunner().invoke(evaluate, ["report", "--hr", str(photos), *arguments])
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    assert message.replace("OUT.html", f"{tmp_path}/out.html") in result.output
    assert list(tmp_path.iterdir()) == []


def test_results_among_the_photographs_are_refused(photos):
    result = CliRunner().invoke(evaluate, ["report", "--hr", str(photos), "-o", str(photos / "out")])
    assert result.exit_code == 1
    assert "is inside --hr" in result.output
