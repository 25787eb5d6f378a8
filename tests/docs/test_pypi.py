"""PYPI.md and the site's first page are README.md."""

from __future__ import annotations

from docs.pypi import pypi_page

from .pages import ROOT, links


def test_pypis_page_is_made_from_the_readme() -> None:
    made = pypi_page((ROOT / "README.md").read_text(encoding="utf-8"))
    assert (ROOT / "PYPI.md").read_text(encoding="utf-8") == made, "run python -m docs.pypi"


def test_pypis_page_has_no_file_of_the_repository() -> None:
    readme = "A [file](docs/x.md#y), [site](https://a.b/c).\n<!-- not on PyPI -->\n![x](y.jpg)\n<!-- end -->\n"
    assert pypi_page(readme) == "A file, [site](https://a.b/c).\n"
    assert pypi_page("```\npip install .    # in a clone\n```\n") == "```\npip install srflow-sdk\n```\n"
    found = links((ROOT / "PYPI.md").read_text(encoding="utf-8"))
    assert found
    assert not [link for link in found if not link.startswith("https://")]
