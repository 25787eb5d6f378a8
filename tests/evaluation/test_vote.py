"""The page on which people vote: what it holds, and, in a browser, that it is blind and saves what was clicked."""

import json
import re

import pytest
from click.testing import CliRunner

from srflow_evaluation.cli import evaluate
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.vote import DAMAGES, PAGE, vote
from srflow_evaluation.votes import count_votes
from srflow_sdk.errors import ArgumentError
from srflow_training import save_checkpoint
from tests.chromium import in_chromium, running_chromium
from tests.networks import random_srflow, tiny_config

METHODS = ["gan", "tiny, τ 0.8", "x4-small, τ auto"]


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    path = tmp_path_factory.mktemp("gan") / "gan.safetensors"
    save_checkpoint(path, random_srflow(tiny_config(), seed=3).encoder)
    return path


@pytest.fixture
def three(options, checkpoint, gan):
    def make(**changes):
        return options(models=[str(checkpoint), "x4-small"], references=[gan], centre=64, **changes)

    return make


def data_of(folder):
    text = (folder / PAGE).read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.mark.slow
def test_each_photograph_and_damage_is_a_question_and_the_seed_gives_the_order(three, tmp_path):
    vote(three(seed=1, most=2))
    data = data_of(tmp_path / "out")
    asked = {(question["picture"], question["damage"]) for question in data["questions"]}
    assert asked == {(name, damage) for name in "ab" for damage in DAMAGES}
    assert len(data["questions"]) == len(asked)
    assert data["methods"] == METHODS
    by_method = {}
    for question in data["questions"]:
        assert sorted(question["order"]) == [0, 1, 2]
        key = question["picture"], question["damage"]
        by_method[key] = dict(zip(question["order"], question["images"], strict=True))
    assert len({tuple(question["order"]) for question in data["questions"]}) > 1
    first = (tmp_path / "out" / PAGE).read_bytes()
    vote(three(seed=1, most=2, out=tmp_path / "again"))
    assert (tmp_path / "again" / PAGE).read_bytes() == first
    vote(three(seed=2, most=2, out=tmp_path / "other"))
    other = data_of(tmp_path / "other")
    assert [question["order"] for question in other["questions"]] != [q["order"] for q in data["questions"]]
    assert other["page"] != data["page"]
    for question in other["questions"]:  # the same pictures of the same methods
        key = question["picture"], question["damage"]
        assert dict(zip(question["order"], question["images"], strict=True)) == by_method[key]


def test_bicubic_is_there_only_if_a_method_would_be_alone(options, tmp_path):
    vote(options(models=["x4-small"], centre=64, most=1, degradations=["jpeg:30"]))
    assert data_of(tmp_path / "out")["methods"] == ["bicubic", "x4-small, τ auto"]


def test_too_many_methods_are_refused(options, tmp_path):
    taus = [LevelTaus((tenths / 10,)) for tenths in range(1, 11)]
    with pytest.raises(ArgumentError, match="10 pictures a row is too much"):
        vote(options(models=["x4-small"], centre=64, taus=taus))
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_page_and_says_where(photos, tmp_path):
    arguments = ["vote", "--hr", str(photos), "--pictures", "1", "--crop", "64", "--degradation", "jpeg:30"]
    result = CliRunner().invoke(evaluate, [*arguments, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'out' / PAGE}: 0." in result.output


@pytest.fixture(scope="module")
def asked(photos, checkpoint, gan, tmp_path_factory):
    """The folder with the page of three questions."""
    out, models = tmp_path_factory.mktemp("vote") / "out", [str(checkpoint), "x4-small"]
    common = {"references": [gan], "others": {}, "centre": 64, "degradations": ["jpeg:30"]}
    vote(Options(models=models, hr=photos, out=out, **common))
    return out


@pytest.fixture(scope="module")
def chromium():
    with running_chromium() as browser:
        yield browser


class TestInABrowser:
    pytestmark = in_chromium

    @pytest.fixture
    def page(self, asked, chromium):
        """The page, open; at the end, nothing was asked of a network and nothing went wrong."""
        context = chromium.new_context()  # whose votes are its own
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        address = (asked / PAGE).as_uri()
        page.goto(address)
        yield page
        assert complaints == []
        assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {address}
        context.close()

    def test_no_name_is_seen_before_the_end(self, page):
        for _ in range(3):
            assert page.locator("#choices img").count() == 4
            sizes = page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth)")
            assert sizes == [16, 64, 64, 64]
            seen = page.locator("body").inner_text() + " ".join(
                image.get_attribute("alt") for image in page.locator("img").all()
            )
            assert [name for name in ("small", "tiny", "gan") if name in seen.replace("small picture", "")] == []
            page.keyboard.press("1")
        assert page.locator("#question").is_hidden()
        assert page.locator("#names").is_hidden()
        page.locator("#reveal").click()
        assert all(name in page.locator("#counts").inner_text() for name in METHODS)

    def test_what_is_clicked_is_counted_saved_and_added_up(self, page, asked, tmp_path):
        data = data_of(asked)
        chosen = []
        for question in data["questions"][:2]:
            place = question["order"].index(1)
            page.locator("button.choice").nth(place).click()
            chosen.append(data["methods"][1])
        page.locator("#back").click()
        assert page.locator("button.choice[aria-pressed=true]").count() == 1
        page.keyboard.press(str(data["questions"][1]["order"].index(2) + 1))
        chosen[1] = data["methods"][2]
        page.keyboard.press("0")
        assert '3 of 3 pictures answered, 1 of them "cannot tell".' in page.locator("#thanks").inner_text()
        page.locator("#reveal").click()
        cells = [row.split() for row in page.locator("#counts tr").all_inner_texts()]
        assert sorted(row[-3] for row in cells) == ["0", "1", "1"]
        with page.expect_download() as download:
            page.locator("#save").click()
        path = tmp_path / "votes.json"
        download.value.save_as(path)
        saved = json.loads(path.read_text(encoding="utf-8"))
        assert [answer["choice"] for answer in saved["votes"]] == [*chosen, None]
        assert saved["page"] == data["page"]
        table = count_votes([path])
        assert {row[0]: row[1] for row in table.rows} == dict(zip(METHODS, "011", strict=True))

    def test_it_can_be_ended_early_and_taken_up_again(self, page):
        page.keyboard.press("2")
        page.locator("#finish").click()
        assert "1 of 3 pictures answered" in page.locator("#thanks").inner_text()
        assert page.locator("#names").is_hidden()
        page.locator("#resume").click()
        assert page.locator("#number").inner_text() == "Picture 2 of 3"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_who_has_seen_the_names_votes_no_more(self, page):
        page.keyboard.press("2")
        page.locator("#finish").click()
        page.locator("#reveal").click()
        for _ in range(2):
            assert page.locator("#names").is_visible()
            assert page.locator("#question").is_hidden()
            assert page.locator("#resume").is_hidden()
            page.keyboard.press("1")
            assert "1 of 3 pictures answered" in page.locator("#thanks").inner_text()
            page.reload()
        page.locator("#anew").click()
        assert page.locator("#number").inner_text() == "Picture 1 of 3"

    def test_names_that_were_seen_in_another_tab_end_the_votes_here(self, page):
        page.keyboard.press("2")
        with page.expect_popup() as opened:
            page.evaluate("open(location.href)")
        other = opened.value
        other.locator("#finish").click()
        other.locator("#reveal").click()
        page.keyboard.press("1")
        page.locator("#names").wait_for(state="visible")
        assert "1 of 3 pictures answered" in page.locator("#thanks").inner_text()
        assert page.locator("#resume").is_hidden()

    def test_a_page_that_is_loaded_again_goes_on(self, page, tmp_path):
        def saved(name):
            with page.expect_download() as download:
                page.locator("#save").click()
            download.value.save_as(tmp_path / name)
            return json.loads((tmp_path / name).read_text(encoding="utf-8"))

        page.keyboard.press("2")
        page.keyboard.press("0")
        page.goto(page.url)
        assert page.locator("#number").inner_text() == "Picture 3 of 3"
        page.keyboard.press("1")
        first = saved("first.json")
        assert len(first["votes"]) == 3
        page.goto(page.url)
        assert saved("again.json") == first, "by the same reader, so that it cannot be counted twice"
        page.locator("#anew").click()
        assert page.locator("#number").inner_text() == "Picture 1 of 3"
        assert page.locator("button.choice[aria-pressed=true]").count() == 0
        page.locator("#finish").click()
        other = saved("other.json")
        assert (other["reader"] != first["reader"], other["votes"]) == (True, [])

    def test_a_key_that_is_held_answers_once(self, page):
        page.keyboard.down("1")
        page.keyboard.down("1")  # Chromium takes it for a repetition
        assert page.locator("#number").inner_text() == "Picture 2 of 3"

    def test_the_next_question_begins_at_its_top(self, page):
        page.set_viewport_size({"width": 120, "height": 300})
        assert page.evaluate("document.activeElement === document.body"), "the heading is read first"
        page.locator("button.choice").nth(2).click()
        assert page.evaluate("scrollY") == 0
        assert page.evaluate("document.activeElement.id") == "number"
