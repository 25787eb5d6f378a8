"""Build the site: python -m docs.site [-o FOLDER]. A broken link or anchor, or a warning, is an
error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from .navigation import navigation
from .reference import commands_page, project, sdk_page, training_page
from .staging import ROOT, BrokenLinkError, Staging

HERE = Path(__file__).parent
WEB = ROOT / "examples" / "web" / "dist"
TRY = """[**Try it in your browser**](try/index.html): the model runs in the page, and the photo
stays on your machine. (The page needs a web server, as in `python -m http.server -d build/site`.)

"""


def stage(folder: Path) -> list[str]:
    """Fill an empty folder with the pages, as they are and generated; returns their paths. Raises:
    BrokenLinkError.
    """
    staging = Staging(folder)
    generated = {
        "reference/commands.md": commands_page(project()["scripts"]),
        "reference/srflow_sdk.md": sdk_page(),
        "reference/srflow_training.md": training_page(),
    }
    for name, text in generated.items():
        staging.pages[f"docs/{name}"] = name
        staging.write(name, text)
    staging.add_repository()
    if (WEB / "index.html").is_file():  # built by npm
        shutil.copytree(WEB, folder / "try")
        front = (folder / "index.md").read_text(encoding="utf-8")
        staging.write("index.md", front.replace("![bicubic left", TRY + "![bicubic left", 1))
    else:
        click.echo(
            "without the page that runs the model in a browser: examples/web is not built (it "
            "needs npm)",
            err=True,
        )
    return sorted({*generated, *staging.pages.values()})


def configuration(pages: list[str]) -> dict[str, Any]:
    """mkdocs.yml with the navigation and the folders: zensical takes only those beside its
    configuration.
    """
    found: dict[str, Any] = yaml.safe_load((HERE / "mkdocs.yml").read_text(encoding="utf-8"))
    handler = next(entry["mkdocstrings"] for entry in found["plugins"] if "mkdocstrings" in entry)[
        "handlers"
    ]["python"]
    handler["paths"] = [str(ROOT), str(ROOT / "apps"), str(ROOT / "training"), str(ROOT / "export")]
    return {**found, "docs_dir": "source", "site_dir": "site", "nav": navigation(pages)}


def keep_inside(site: Path) -> None:
    """Give pages their own copy of the one script that they would fetch from outside: with it the
    search works from a disk, where browsers start no workers.
    """
    shutil.copy(HERE / "vendor" / "iframe-worker.js", site)
    for page in site.rglob("*.html"):
        here = os.path.relpath(site / "iframe-worker.js", page.parent)
        text = page.read_text(encoding="utf-8")
        page.write_text(
            text.replace("https://unpkg.com/iframe-worker/shim", here), encoding="utf-8"
        )


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=ROOT / "build" / "site",
    help="[build/site]",
)
def main(output: Path) -> None:
    """Build the documentation into a folder that opens without a network."""
    work = output.resolve().with_name(f"{output.name}-work")
    shutil.rmtree(work, ignore_errors=True)
    (work / "source").mkdir(parents=True)
    try:
        pages = stage(work / "source")
    except BrokenLinkError as error:
        click.echo(f"error: broken links:\n{error}", err=True)
        sys.exit(1)
    config = work / "mkdocs.yml"
    config.write_text(yaml.safe_dump(configuration(pages), sort_keys=False), encoding="utf-8")
    program = Path(sys.executable).with_name("zensical")
    if not program.is_file():
        click.echo('error: zensical is not installed: pip install -e ".[docs]"', err=True)
        sys.exit(1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for docstrings.py
    done = subprocess.run(
        [program, "build", "--clean", "--strict", "-f", config], cwd=work, env=environment
    )
    if done.returncode == 0:
        keep_inside(work / "site")
        shutil.rmtree(output, ignore_errors=True)
        (work / "site").rename(output)
        shutil.rmtree(work)
        click.echo(f"open {output / 'index.html'}")
    sys.exit(done.returncode)


main()
