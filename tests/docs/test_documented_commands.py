"""Every command and code block of the documentation is one that works, as far as that shows without
running it."""

from __future__ import annotations

import ast
import re

import pytest

from .commands import commands, problem
from .pages import PAGES, ROOT, Block, blocks, sentences

RUN = {"shell", "console", "python"}
SHOWN = {
    "text",
    "json",
    "toml",
    "yaml",
    "c",
    "cpp",
    "dockerfile",
    "bibtex",
    "javascript",
    "typescript",
    "html",
    "xml",
}
_OURS = re.compile(
    r"^(?:OMP_NUM_THREADS=\d+ )?"
    r"(srflow-[a-z]+|python (?:benchmarks|examples|-m tests)|make|pytest|pip install) ?"
)


def eval_table() -> list[tuple[int, str]]:
    """Commands of the table of the publication's figures; `srflow-eval` and `-o OUT` are left to
    its heading."""
    page = (ROOT / "docs/publication.md").read_text("utf-8")
    found = []
    for match in re.finditer(r"^\| ([^|]+) \| `([a-z0-9-]+ --[^`]+)`", page, re.MULTILINE):
        more = "" if "without `--convention`" in match[1] else " --convention published"
        found.append(
            (page.count("\n", 0, match.start()) + 1, f"srflow-eval {match[2]}{more} -o OUT")
        )
    return found


def examples() -> dict[str, list[str]]:
    """The commands in the last column of the table of examples, by the example's file or folder."""
    rows = re.findall(
        r"^\| (.+?) \| .+ \| (.+) \|$",
        (ROOT / "examples/README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {
        name: re.findall(r"`([^`]+)`", how)
        for names, how in rows
        for name in re.findall(r"\]\(([^)]+)\)", names)
    }


def test_the_table_of_examples_has_each_with_commands_that_exist() -> None:
    found = examples()
    places = (path for path in (ROOT / "examples").iterdir() if path.suffix in ("", ".py"))
    assert set(found) == {
        path.name for path in places if path.name not in ("photos", "__pycache__")
    }
    written = [
        words for scripts in found.values() for script in scripts for words in commands(script)
    ]
    assert len(written) > 10
    assert not [why for words in written if (why := problem(words) or missing_file(words))]


def missing_file(words: list[str]) -> str | None:
    """What is wrong with the paths of a command in a clone, or None."""
    paths = [word for word in words[1:] if word.startswith(("examples/", "srflow_sdk/"))]
    return next((f"there is no {path}" for path in paths if not (ROOT / path).exists()), None)


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_have_options_that_exist(page: str) -> None:
    shells = [block for block in blocks(page) if block.kind in ("shell", "console")]
    # others are meant to fail
    written = [(block.line, block.script, False) for block in shells if block.status == 0]
    written += [(line, text, True) for line, text in sentences(page) if _OURS.match(text)]
    written += [(line, text, False) for line, text in eval_table() if page == "docs/publication.md"]
    wrong = [
        f"{page}:{line}: {' '.join(words)}\n    {found}"
        for line, script, named in written
        for words in commands(script)
        if (found := problem(words, named=named))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_a_page_can_be_run_or_say_why_not(page: str) -> None:
    wrong = [f"{block.place}: {found}" for block in blocks(page) if (found := _unclear(block))]
    assert not wrong, "\n".join([*wrong, "tests/docs/__init__.py says how blocks are written"])


def _unclear(block: Block) -> str | None:
    if block.unknown_comments:
        return f"nothing knows the comment <!-- {block.unknown_comments[0]} -->"
    if block.kind not in RUN | SHOWN:
        return (
            f"nothing knows the language {block.kind}: name one of {', '.join(sorted(SHOWN))}, or "
            "none for shell"
        )
    if block.not_run is not None and len(block.not_run.split()) < 2:
        return "<!-- not run: … --> has no reason"
    if block.kind == "console" and not block.script.strip():
        return "a console has no line that begins with `$ `: call it text"
    if block.kind == "python":
        try:
            ast.parse(block.setup + block.text)
        except SyntaxError as error:
            return f"this is not Python: {error}"
    return None
