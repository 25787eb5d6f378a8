"""Where a page stands in the site's menu.

A new page under docs/ appears by itself, at the end, under "More". To give it a place, name it
here. A name whose file does not exist is left out, so that a page may come and go without a change
here. Notes are not in the menu: the pages that rest on their figures link to them.
"""

from __future__ import annotations

from collections.abc import Collection

START = [
    "index.md",
    "concepts.md",
    "install.md",
    "windows.md",
    "demo.md",
    "web.md",
    "faq.md",
    "troubleshooting.md",
]
HOW_TO = [
    "upscaling.md",
    "clips.md",
    "files.md",
    "restoring.md",
    "transferring.md",
    "embedding.md",
    "examples.md",
    "training.md",
    "training-data.md",
    "experiments.md",
    "publication.md",
    "scaling.md",
    "plain.md",
    "triton.md",
    "tensorrt.md",
    "native.md",
    "backends.md",
]
KNOW = ["models.md", "performance.md", "bundle.md", "licences.md"]
REFERENCE = ["reference/commands.md", "reference/srflow_sdk.md", "reference/srflow_training.md"]
PROJECT = [
    "architecture.md",
    "project/contributing.md",
    "project/changelog.md",
    "project/security.md",
    "project/release.md",
]
SECTIONS = {
    "Start": START,
    "How to": HOW_TO,
    "To know": KNOW,
    "Reference": REFERENCE,
    "The project": PROJECT,
}


def navigation(pages: Collection[str]) -> list[dict[str, list[str]]]:
    """mkdocs' nav of these pages (paths in the site); their titles are their first headings."""
    named = {name for names in SECTIONS.values() for name in names}
    sections = {
        title: [name for name in names if name in pages] for title, names in SECTIONS.items()
    }
    elsewhere = ("source/", "notes/")
    sections["More"] = sorted(
        name for name in pages if name not in named and not name.startswith(elsewhere)
    )
    return [{title: names} for title, names in sections.items() if names]
