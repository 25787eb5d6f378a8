"""Pages of the documentation as lists of blocks and of commands within sentences."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown.extensions.toc import slugify
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "runtime/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md" and "node_modules" not in path.parts
)
SHELL = {"": "shell", "sh": "shell", "bash": "shell", "console": "console", "python": "python"}

_BLOCK = re.compile(
    r"(?P<comments>(?:^[ ]*<!--(?:(?!-->).)*-->[ ]*\n\s*)*)"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block, and what the invisible comments before it say."""

    page: str
    line: int
    """Of its first line of text, from 1."""
    kind: str
    """shell, console, python, or another language, which is not run."""
    text: str
    setup: str = ""
    not_run: str | None = None
    status: int = 0
    unknown_comments: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def script(self) -> str:
        """What runs: of a console, the lines after `$ ` with their continuations."""
        if self.kind != "console":
            return self.text
        commands = re.findall(r"^\$ ((?:.*\\\n)*.*)", self.text, re.MULTILINE)
        return "\n".join(commands) + "\n"


def blocks(page: str, source: str | None = None) -> list[Block]:
    """The blocks of a page, from its file unless `source` is given."""
    source = (ROOT / page).read_text(encoding="utf-8") if source is None else source
    return [_block(page, source, match) for match in _BLOCK.finditer(source)]


def sentences(page: str) -> list[tuple[int, str]]:
    """(line, text) of each `code span` outside blocks, its line breaks replaced by spaces."""
    source = (ROOT / page).read_text(encoding="utf-8")
    emptied = _BLOCK.sub(lambda match: "\n" * match[0].count("\n"), source)
    return [
        (emptied.count("\n", 0, match.start()) + 1, " ".join(match[1].split()))
        for match in _SPAN.finditer(emptied)
    ]


def links(source: str) -> list[str]:
    """Where the links and pictures of a Markdown text lead."""
    inline = (token for token in _tokens(source) if token.type in ("link_open", "image"))
    return [str(token.attrGet("href") or token.attrGet("src")) for token in inline]


def anchors(source: str) -> set[str]:
    """The anchors that both the site and GitHub give to the headings of a text."""
    headings = [match["text"] for match in _HEADING.finditer(_BLOCK.sub("", source))]
    texts = [
        "".join(token.content for token in _tokens(text) if token.type in ("text", "code_inline"))
        for text in headings
    ]
    on_github = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}
    return on_github & {slugify(text, "-") for text in texts}


def _tokens(source: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").parse(source):
        yield from token.children or ()


def _block(page: str, source: str, match: re.Match[str]) -> Block:
    setup = ""
    not_run = None
    status = 0
    unknown = []
    for comment in _COMMENT.findall(match["comments"]):
        key, _, rest = comment.partition(":")
        if key == "setup":
            setup += textwrap.dedent(rest.strip("\n")) + "\n"
        elif key == "not run":
            not_run = rest.strip()
        elif found := re.fullmatch(r"exit status (\d+)", comment):
            status = int(found[1])
        else:
            unknown.append(comment)
    line = source.count("\n", 0, match.start("text")) + 1
    kind = SHELL.get(match["language"], match["language"])
    text = textwrap.dedent(match["text"])
    return Block(page, line, kind, text, setup, not_run, status, tuple(unknown))
