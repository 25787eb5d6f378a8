"""Copy pages into the site's source, with links that lead within the site.

Pages link to each other and to files of the repository by relative paths, as GitHub and editors
want it. In the site, a link to a page leads to that page, and one to another file of the repository
to a page that shows it.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "RELEASE.md": "project/release.md",
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "examples/web/README.md": "web.md",
}
"""Pages that lie outside docs/, and where they are in the site."""

_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_COMMENT = re.compile(r"^ *<!--.*?-->[ ]*\n", re.MULTILINE | re.DOTALL)
_LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".h": "c",
    ".cpp": "cpp",
    ".cff": "yaml",
    ".toml": "toml",
}


class BrokenLinkError(Exception):
    """Links that lead nowhere, one a line."""


class Staging:
    """The folder from which the site is built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: dict[str, str] = {}
        """Site path of every page, by its path in the repository."""
        self._shown: list[str] = []
        self._broken: list[str] = []

    def add_repository(self) -> None:
        """Copy docs/ and the pages outside it. Raises: BrokenLinkError."""
        docs = {
            f"docs/{path.relative_to(ROOT / 'docs').as_posix()}": path
            for path in (ROOT / "docs").rglob("*.md")
        }
        self.pages = {name: name.removeprefix("docs/") for name in docs}
        self.pages |= {name: target for name, target in OUTSIDE.items() if (ROOT / name).is_file()}
        shutil.copytree(ROOT / "docs" / "images", self.folder / "images")
        shutil.copy(ROOT / "docs" / "site" / "site.css", self.folder)
        for figures in ("performance.json", "photographs.tsv"):
            shutil.copy(ROOT / "docs" / figures, self.folder)
        for name, target in list(self.pages.items()):
            if (ROOT / name).is_file():
                self.write(
                    target, self.moved((ROOT / name).read_text(encoding="utf-8"), name, target)
                )
        while self._shown:
            self._show(self._shown.pop())
        if self._broken:
            raise BrokenLinkError("\n".join(self._broken))

    def write(self, target: str, text: str) -> None:
        """Write a page by its path in the site."""
        path = self.folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def moved(self, text: str, name: str, target: str) -> str:
        """The text of the page `name` for its place `target`: links rewritten, invisible comments
        dropped.
        """
        parts = []
        end = 0
        for fence in [*_FENCE.finditer(text), None]:
            prose = text[end : fence.start() if fence else len(text)]
            prose = _COMMENT.sub("", prose)
            parts.append(_LINK.sub(lambda match: self._link(match, name, target), prose))
            if fence:
                parts.append(fence[0])
                end = fence.end()
        return "".join(parts)

    def _link(self, match: re.Match[str], name: str, target: str) -> str:
        before, link, anchor, after = match.groups(default="")
        if re.match(r"[a-z]+:", link):
            return match[0]
        path = os.path.normpath(Path(name).parent / link)
        if path in self.pages:
            goal = self.pages[path]
        elif path.startswith("docs/") and (ROOT / path).is_file():
            goal = path.removeprefix("docs/")
        elif (ROOT / path).exists():
            goal = f"source/{path}.md"
            anchor = ""
            if goal not in self.pages.values():
                self.pages[path] = goal
                self._shown.append(path)
        else:
            self._broken.append(f"{name}: there is no {link}")
            return match[0]
        return f"{before}{os.path.relpath(goal, Path(target).parent)}{anchor}{after}"

    def _show(self, path: str) -> None:
        """Write the page that shows a file of the repository, or names the files of a folder."""
        place = ROOT / path
        target = self.pages[path]
        if place.is_dir():
            names = sorted(
                child.name for child in place.iterdir() if not child.name.startswith(("_", "."))
            )
            text = "\n".join(["", *(f"- `{name}`" for name in names)])
        elif place.suffix == ".md":
            text = self.moved(place.read_text(encoding="utf-8"), path, target)
        else:
            source = place.read_text(encoding="utf-8")
            text = f"\n````{_LANGUAGES.get(place.suffix, 'text')}\n{source.rstrip()}\n````\n"
        title = "" if place.suffix == ".md" else f"# `{path}`\n"
        # Whoever searches wants pages about the project, not its files.
        self.write(target, f"---\nsearch:\n  exclude: true\n---\n{title}{text}")
