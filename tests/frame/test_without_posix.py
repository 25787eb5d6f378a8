"""The runtime without what only POSIX systems have: what is left of a Windows machine on this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from .bare_environment import ROOT

# Libraries are imported first, since they may use what this system has: only our own modules go without.
HIDE = """
import builtins, importlib, os, pkgutil, signal, sys
import click, numpy, onnxruntime, PIL.Image, platformdirs, psutil, pyvips
import asyncio, concurrent.futures, ctypes, logging, shutil, subprocess, tempfile, threading

HIDDEN = {"fcntl", "grp", "posix", "pwd", "resource", "termios", "tty", "pty", "syslog"}
SIGNALS = ("SIGHUP", "SIGALRM", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "setitimer", "pthread_sigmask")
CALLS = ("fork", "getuid", "geteuid", "fchown", "chown", "mkfifo", "sched_getaffinity", "posix_fadvise", "statvfs")
FLAGS = ("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")
imported = builtins.__import__

def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name.split(".")[0] in HIDDEN and importer.startswith("srflow_"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return imported(name, globals, locals, fromlist, level)

class Without:
    # A module as ours see it: without some of its names.
    def __init__(self, module, names):
        self.__dict__.update(_module=module, _names=names)
    def __getattr__(self, name):
        if name in self._names:
            raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")
        return getattr(self._module, name)
    def __setattr__(self, name, value):
        setattr(self._module, name, value)

builtins.__import__ = without_posix
import srflow_apps, srflow_sdk
from srflow_sdk.system.local_files import LOCKS_EXIST
assert not LOCKS_EXIST
for package in (srflow_sdk, srflow_apps):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name not in ("srflow_sdk.__main__",):
            importlib.import_module(module.name)
hidden = {os: Without(os, {*CALLS, *FLAGS}), signal: Without(signal, set(SIGNALS))}
for name, module in list(sys.modules.items()):
    if name.startswith("srflow_"):
        for key, value in list(vars(module).items()):
            if value is os or value is signal:
                setattr(module, key, hidden[value])
"""


UPSCALE = """
try:
    srflow_apps.commands.cli.upscale()
except SystemExit as ended:
    assert not ended.code, ended
"""


def test_every_module_imports_and_a_folder_is_upscaled_resumed_and_reported(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as photo:
        photo.resize((40, 30)).save(tmp_path / "photos" / "cat.png")
    words = ["photos", "-o", "large", "--device", "cpu", "--report", "report.json", "--resume", "--threads", "1"]
    command = [sys.executable, "-c", HIDE + 2 * UPSCALE, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 skipped" in done.stderr
    with Image.open(tmp_path / "large" / "cat.png") as large:
        assert large.size == (160, 120)
