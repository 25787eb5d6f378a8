"""Tables as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table, without a newline at its end."""
    lines = [f"| {' | '.join(line)} |" for line in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format an HTML table of text; the first column names the rows."""
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    body = [
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    ]
    return "\n".join([f"<table><thead><tr>{head}</tr></thead><tbody>", *body, "</tbody></table>"])


@dataclass(frozen=True)
class Table:
    """A table of plain text with sentences below it; as a string, Markdown with `more` below.

    title: a heading, none if empty. more: further tables that belong to it, each with a title. figure: the name of the
    plot that draws the table, without `.png`.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())
    title: str = ""
    more: Sequence[Table] = field(default=())
    figure: str = ""

    def __str__(self) -> str:
        heading = [f"### {self.title}"] if self.title else []
        below = (str(table) for table in self.more)
        return "\n\n".join([*heading, markdown_table(self.headings, self.rows), *self.notes, *below])

    @property
    def parts(self) -> list[Table]:
        """The table itself, and those below it, in their order."""
        return [self, *(part for table in self.more for part in table.parts)]

    @property
    def html(self) -> str:
        """The table itself as HTML, without its title, its sentences and `more`."""
        return html_table(self.headings, self.rows)
