"""Every relative link and #anchor of the pages leads somewhere: in a clone, on GitHub and in the site."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .pages import PAGES, ROOT, anchors, links


def broken(page: str, source: str) -> list[str]:
    """The links of a page that lead nowhere, each with the reason."""
    found = []
    for link in links(source):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        place = (ROOT / page).parent / unquote(parts.path) if parts.path else ROOT / page
        if not place.exists() or not place.resolve().is_relative_to(ROOT):
            found.append(f"{page}: there is no {unquote(link)}")
        elif parts.fragment and unquote(parts.fragment) not in _anchors(place, page, source):
            found.append(f"{page}: {unquote(link)}: no heading has this anchor, on GitHub and in the site")
    return found


def _anchors(place: Path, page: str, source: str) -> set[str]:
    return anchors(source if place == ROOT / page else place.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_and_anchors_of_a_page_lead_somewhere(page: str) -> None:
    wrong = broken(page, (ROOT / page).read_text(encoding="utf-8"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("none.md", "there is no none.md"),
        ("install.md#none", "install.md#none: no heading"),
        ("#τ", "#τ: no heading"),  # on GitHub alone
        ("#a-b", None),
        ("install.md#the-cache", None),
        ("https://arxiv.org/none#none", None),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, says: str | None) -> None:
    for text in (f"[text]({link})", f"| a |\n|---|\n| ![picture]({link}) |"):
        wrong = broken("docs/faq.md", f"# A: `b`\n\n## τ\n\n```\n# none\n[x](none)\n```\n{text}\n")
        assert len(wrong) == (says is not None)
        assert says is None or says in wrong[0]
