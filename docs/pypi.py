"""Write PYPI.md, the project's page on PyPI, from README.md: `python -m docs.pypi`.

PyPI has no files of the repository. So links to them become text, what stands between `<!-- not on
PyPI -->` and `<!-- end -->` is left out, and `pip install .` names the package.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LEFT_OUT = re.compile(r"<!-- not on PyPI -->\n.*?<!-- end -->\n", re.DOTALL)
_LINK_TO_FILE = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)[^)]+\)")
_INSTALL = re.compile(r"^pip install \. .*$", re.MULTILINE)


def pypi_page(readme: str) -> str:
    """README.md as PyPI shows it."""
    text = _LINK_TO_FILE.sub(r"\1", _LEFT_OUT.sub("", readme))
    return _INSTALL.sub("pip install srflow-sdk", text)


if __name__ == "__main__":
    (ROOT / "PYPI.md").write_text(
        pypi_page((ROOT / "README.md").read_text(encoding="utf-8")), encoding="utf-8"
    )
