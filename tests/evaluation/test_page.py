"""The protocol `report` with a folder: every protocol that applies, and one page that needs nothing
else."""

import html
import re
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation.cli import evaluate
from srflow_evaluation.page import report
from srflow_evaluation.protocols import PROTOCOLS
from srflow_evaluation.sampling import best_of_n
from srflow_sdk import __version__
from srflow_sdk.errors import ArgumentError
from tests.evaluation.outputs import lines_of, summary_of
from tests.sdk.tiny_bundle import write_tiny_bundle


@pytest.fixture
def small(options):
    """Options of a report on the centres of two photographs."""
    return options(centre=64, most=2, metrics=("psnr", "gmsd"))


def page_of(options, **changes):
    """Make a report; its page."""
    report(replace(options, **changes))
    return (options.out / "report.html").read_text(encoding="utf-8")


def run_report(arguments):
    return CliRunner().invoke(evaluate, ["report", *arguments.split()])


def sections(text):
    return re.findall(r'<h2 id="(.*)">', text)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_the_page_shows_every_protocol_with_its_table_notes_plots_and_sheets(options, monkeypatch):
    monkeypatch.setitem(
        PROTOCOLS, "once-more", replace(PROTOCOLS["restore"], about="a protocol of tomorrow")
    )
    small = options(centre=64, most=2)
    text = page_of(small)
    in_report = [name for name, protocol in PROTOCOLS.items() if protocol.in_report]
    assert sections(text) == ["crops", *in_report]
    assert [name for name in in_report if not PROTOCOLS[name].reading] == []
    assert "A protocol of tomorrow." in text
    assert "|---" not in text
    assert "`" not in text[: text.index("<script>")]
    captions = re.findall(r"<figcaption>(.*)</figcaption>", text)
    assert len(captions) == text.count('<div class="scroll sheet"')
    assert [
        line for line in captions if not re.fullmatch(r"[A-Z].{20,} \(\w+\.png\)\.", line)
    ] == []
    for name in (
        "tau-sweep: tau sweep",
        "tau-sweep: sheet 1 a",
        "best-of-n: sheet 1 a",
        "once-more: sheet 1 a",
    ):
        assert text.count(f'alt="{name}"') == 1
    assert text.count('alt="tau-sweep: perception distortion"') == 1
    assert '<th scope="row" role="rowheader">best of 10</th>' in text
    for fact in ("×4", "2 from", "a, b", f"srflow-sdk {__version__}", "bicubic reduction, 8 bits"):
        assert html.escape(fact) in text


@pytest.mark.usefixtures("drawn_plots")
def test_the_page_needs_nothing_but_itself(small):
    text = page_of(small, samples=2, only=["best-of-n"])
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]*)""", text)
    assert len(sources) > 10
    assert {source.split(":")[0] if ":" in source else source[0] for source in sources} == {
        "data",
        "#",
    }
    assert "default-src 'none'; img-src data:" in text


@pytest.mark.usefixtures("drawn_plots")
def test_what_was_measured_before_is_used_and_pages_are_equal_to_the_byte(small):
    small = replace(small, samples=2)
    best_of_n(replace(small, output=small.out / "best-of-n"))
    said = []
    content = page_of(small, progress=said.append, only=["best-of-n"])
    assert "best-of-n (2 of 2): 2 of 2 pictures are already measured" in said
    assert "crops (1 of 2): picture 1 of 2: a" in said
    assert sections(content) == ["crops", "best-of-n"]
    said.clear()
    assert page_of(small, progress=said.append, only=["best-of-n"]) == content
    assert [line.partition(": ")[2] for line in said] == [
        "2 of 2 pictures are already measured"
    ] * 2


def test_texts_are_escaped(small, tmp_path):
    shutil.copytree(small.hr, tmp_path / "photos")
    (tmp_path / "photos" / "a.png").rename(tmp_path / "photos" / "a<b> & 'c'.png")
    text = page_of(small, hr=tmp_path / "photos", most=1, only=["samples"])
    assert "a<b>" not in text
    assert "a&lt;b&gt; &amp; &#39;c&#39;" in text


def test_a_protocol_that_fails_is_named_with_the_reason_and_the_others_stay(small, checkpoint):
    best_of_n(replace(small, output=small.out / "best-of-n", samples=2, most=1))
    result = run_report(
        f"--model {checkpoint} --hr {small.hr} --crop 64 --pictures 1 --only samples "
        f"--only best-of-n --metrics psnr,gmsd -o {small.out}"
    )
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
    monkeypatch.setattr(
        "srflow_evaluation.page.PROTOCOLS", {name: PROTOCOLS[name] for name in names}
    )


def test_what_one_photograph_cannot_have_is_one_note_and_no_failure(small, monkeypatch):
    keep(monkeypatch, "samples", "transfer")
    said = []
    text = page_of(small, most=1, progress=said.append)
    note = "transfer: it takes content from the next photograph, and there is only one"
    assert sections(text) == ["crops", "samples"]
    assert text.count(note) == 1
    assert said[0] == f"left out: {note}"
    with pytest.raises(ArgumentError, match="there is only one: name another with --source"):
        report(replace(small, most=1, only=["transfer"]))


def test_what_a_bundle_without_an_inverter_cannot_have_is_one_note_and_no_failure(
    small, monkeypatch, tmp_path
):
    keep(monkeypatch, "restore", "transfer", "samples")
    text = page_of(small, models=[str(write_tiny_bundle(tmp_path / "tiny.srflow"))])
    assert sections(text) == ["crops", "samples"]
    assert "<dd>restore, transfer: " in text
    assert text.count("has no inverter") == 1


def test_photographs_without_a_whole_crop_have_a_page_without_crops(small):
    said = []
    text = page_of(small, centre=None, only=["samples"], progress=said.append)
    assert "crops (1 of 2): not measured: no photograph is at least 256×256 pixels" in said[0]
    assert sections(text) == ["crops", "samples"]
    assert (
        "Not measured: no photograph is at least 256×256 pixels: name a folder with larger ones"
        in text
    )


def test_the_command_writes_a_folder_and_the_page(checkpoint, photos, tmp_path):
    result = run_report(
        f"--model {checkpoint} --hr {photos} --crop 64 --tau 0.9:0.8:0.7 --only samples "
        f"--metrics psnr -o {tmp_path}/out"
    )
    assert result.exit_code == 0, result.output
    assert "| τ 0.9:0.8:0.7 |" in result.stdout
    assert (tmp_path / "out" / "report.html").is_file()
    assert summary_of(tmp_path / "out")["rows"][-1]["method"] == "tau 0.9:0.8:0.7"
    assert len(lines_of(tmp_path / "out")) == 3 * 2
    with Image.open(tmp_path / "out" / "crops" / "a" / "tau-0.9-0.8-0.7.png") as image:
        assert image.size == (64, 64)
