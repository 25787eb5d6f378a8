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
    """A table of text with sentences below it; as a string, Markdown. `html` leaves the sentences out."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def __str__(self) -> str:
        return "\n\n".join([markdown_table(self.headings, self.rows), *self.notes])

    @property
    def html(self) -> str:
        """The table as HTML, without its sentences."""
        return html_table(self.headings, self.rows)
