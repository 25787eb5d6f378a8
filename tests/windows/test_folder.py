"""The folder that Windows users download: its size, and that it starts under Wine beside nothing
else."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from windows.commands.drop import SCRIPT, batches, dropped
from windows.folder import write_zip
from windows.wine import ROOT, command, variables, windows_path, wine

ODD = "100% a&b ü.png"
OTHER = "写真.png"


@pytest.mark.parametrize(
    ("command_line", "names"),
    [
        (
            rf'C:\Windows\system32\cmd.exe /c ""C:\x y\{SCRIPT}" C:\a&b.jpg "C:\c d.jpg""',
            [r"C:\a&b.jpg", r"C:\c d.jpg"],
        ),
        (rf'cmd /c ""C:\x\{SCRIPT}" "C:\c d.jpg" C:\e.jpg"', [r"C:\c d.jpg", r"C:\e.jpg"]),
        (rf'cmd /c "{SCRIPT}" C:\a.jpg', [r"C:\a.jpg"]),
        (rf'cmd /c ""C:\x\{SCRIPT}""', []),
        (r'"C:\Windows\cmd.exe"', []),
    ],
)
def test_the_names_of_what_was_dropped_are_read_whole(command_line: str, names: list[str]) -> None:
    assert dropped(command_line) == names


def test_photos_of_a_folder_go_together_and_a_folder_by_itself(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    one, other, folder, far = (
        str(tmp_path / name) for name in ("a.jpg", "b.jpg", "photos", "photos/c.jpg")
    )
    assert batches([one, folder, other, far]) == [[one, other], [folder], [far]]


@pytest.mark.slow
@pytest.mark.skipif(wine() is None, reason="there is no Wine: apt install wine64")
def test_the_folder_enlarges_what_is_dropped_where_nothing_else_is_installed(
    wheel: Path, tmp_path: Path
) -> None:
    archive = write_zip(wheel, tmp_path / "dist")
    assert archive.stat().st_size <= 80e6
    with zipfile.ZipFile(archive) as opened:
        assert max(map(len, opened.namelist())) <= 130, "Windows' paths have 260 characters"
        opened.extractall(tmp_path / "Jürgens Programme")
    (folder,) = (tmp_path / "Jürgens Programme").iterdir()
    with Image.open(ROOT / "examples" / "photos" / "cat.png") as photo:
        for name in (ODD, OTHER):
            photo.resize((40, 30)).save(tmp_path / name)
    # Without Wine's own runtime of Visual C++: a Windows may have none.
    only_ours = "mscoree,mshtml=;msvcp140,msvcp140_1,vcruntime140,vcruntime140_1=n"
    environment = variables(
        WINEPREFIX=str(tmp_path / "wine"), WINEDLLOVERRIDES=only_ours, PYTHONPATH="nowhere"
    )
    typed = f'cmd /c ""{windows_path(folder / SCRIPT)}" "{windows_path(tmp_path / ODD)}""'
    # Wine does not know cmd's own variable, which has what Explorer started.
    for variable in ({}, {"cmdcmdline": typed.replace(ODD, OTHER)}):
        words = ["-c", "import subprocess, sys; subprocess.run(sys.argv[1])", typed]
        start = command(folder / "python" / "python.exe", *words)
        subprocess.run(start, env=environment | variable, stdin=subprocess.DEVNULL, check=True)
    for name in (ODD, OTHER):
        with Image.open(tmp_path / name.replace(".png", "_x4.png")) as large:
            assert large.size == (160, 120)
