"""Which functions of ours one photograph passes.

``python benchmarks/path.py [--list] [srflow-upscale's arguments]``

It upscales a photograph of 160×120, or what the arguments name, in this process, with a profiler in
every thread. It counts the functions that ran and the modules that they stand in, by package;
lambdas, comprehensions and what runs when a module is imported are left out. ``--list`` prints the
functions in the order of their first calls.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

from PIL import Image

import srflow_apps
import srflow_sdk
from srflow_apps.commands.cli import upscale

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "srflow_sdk", ROOT / "apps" / "srflow_apps")


def trace_functions(arguments: list[str]) -> list[tuple[str, str]]:
    """Run srflow-upscale; return its functions in the order of their first calls."""
    for package in (srflow_sdk, srflow_apps):
        for part in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not part.name.endswith("__main__"):
                importlib.import_module(part.name)
    seen: dict[tuple[str, str], None] = {}
    starts = {f"{folder}/": f"{folder.parent}/" for folder in FOLDERS}

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        for start, parent in starts.items():
            if event == "call" and code.co_filename.startswith(start) and code.co_name[0] != "<":
                module = code.co_filename.removeprefix(parent).removesuffix(".py").replace("/", ".")
                seen.setdefault((module, f"{code.co_name}:{code.co_firstlineno}"))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        upscale(arguments, standalone_mode=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(seen)


def main() -> None:
    listed = "--list" in sys.argv[1:]
    arguments = [word for word in sys.argv[1:] if word != "--list"]
    with tempfile.TemporaryDirectory() as folder:
        if not arguments:
            photo = Path(folder) / "photo.png"
            Image.open(ROOT / "examples" / "photos" / "cat.png").convert("RGB").resize(
                (160, 120)
            ).save(photo)
            arguments = [str(photo), "-o", str(Path(folder) / "large.png")]
        seen = trace_functions(arguments)
    if listed:
        print(*(f"{module}.{name}" for module, name in seen), sep="\n")
    for house in ("srflow_sdk", "srflow_apps", ""):
        ours = [(module, name) for module, name in seen if module.startswith(house)]
        parts = Counter(".".join(module.split(".")[:2]) for module, _ in ours)
        named = ", ".join(
            f"{part.removeprefix(f'{house}.')} {count}"
            for part, count in parts.most_common()
            if house
        )
        print(
            f"{house or 'all'}: {len(ours)} functions in {len({module for module, _ in ours})} "
            f"modules  {named}"
        )


if __name__ == "__main__":
    main()
