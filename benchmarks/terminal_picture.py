"""Draw a terminal in which real commands ran, for the docs (needs pyte: pip install pyte).

    python benchmarks/terminal_picture.py -o docs/images/terminal.svg

Each command of SESSION runs in a pseudo-terminal, in a folder of photographs; the picture shows what it printed.
"""

from __future__ import annotations

import argparse
import os
import pty
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import pyte
import unseen_photos

SESSION = (
    "srflow-upscale photos -o large --dry-run",
    "srflow-upscale photos/cat.png -o large.png --scale 2",
    "srflow-upscale photos -o large --max-size 1024 --format jpg --report large.json",
    "srflow-upscale broken.jpg -o fixed.png",
)
COLUMNS, LINES = 122, 40
CHARACTER, LINE = 8.4, 19.0  # of a 14 px monospaced font
COLOURS = {"default": "#d4d4d4", "red": "#f48771", "green": "#89d185", "brown": "#e2c08d", "yellow": "#e2c08d"}


def prepare(folder: Path) -> None:
    """Three photographs, and a file that is none."""
    photos = folder / "photos"
    unseen_photos.main(photos)
    for path in sorted(photos.iterdir())[3:]:
        path.unlink()
    (photos / "chelsea.png").rename(photos / "cat.png")
    (folder / "broken.jpg").write_bytes(b"<html>404 Not Found</html>")


def shown(command: str, folder: Path, screen: pyte.Screen, stream: pyte.ByteStream) -> None:
    """Run a command in a terminal of the screen's size, and feed what it prints to the screen."""
    stream.feed(f"\x1b[32m$\x1b[0m {command}\r\n".encode())
    parent, child = pty.openpty()
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "TERM": "xterm", "PATH": places, "COLUMNS": str(screen.columns)}
    process = subprocess.Popen(
        command, shell=True, cwd=folder, env=environment, stdin=child, stdout=child, stderr=child, close_fds=True
    )
    os.close(child)
    while True:
        try:
            data = os.read(parent, 1 << 16)
        except OSError:  # Linux: the other side was closed
            break
        if not data:
            break
        stream.feed(data)
    process.wait()
    os.close(parent)


def as_svg(screen: pyte.Screen) -> str:
    """The screen's lines as text, up to the last one that is not empty."""
    lines = [line.rstrip() for line in screen.display]
    count = max(index for index, line in enumerate(lines) if line) + 1
    width, height = COLUMNS * CHARACTER + 32, count * LINE + 32
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">',
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#1e1e1e"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">',
    ]
    for row in range(count):
        runs: list[tuple[str, str, int]] = []
        for column, character in sorted(screen.buffer[row].items()):
            colour = COLOURS.get(character.fg, COLOURS["default"])
            if runs and runs[-1][0] == colour and runs[-1][2] + len(runs[-1][1]) == column:
                runs[-1] = (colour, runs[-1][1] + character.data, runs[-1][2])
            else:
                runs.append((colour, character.data, column))
        for colour, text, column in runs:
            if text.strip():
                place = f'x="{16 + column * CHARACTER:.1f}" y="{30 + row * LINE:.1f}"'
                length = f'textLength="{len(text.rstrip()) * CHARACTER:.1f}"'
                parts.append(f'<text {place} fill="{colour}" {length}>{escape(text.rstrip())}</text>')
    return "\n".join([*parts, "</g></svg>"]) + "\n"


def main(output: Path) -> None:
    """Run the session and write the picture."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for command in SESSION:
            shown(command, Path(folder), screen, stream)
    output.write_text(as_svg(screen))
    print(f"{output}: {len(SESSION)} commands")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    main(parser.parse_args().output)
