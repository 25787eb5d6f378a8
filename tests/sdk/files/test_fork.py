"""libvips has threads, and a forked process does not: it would wait for them for ever."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

SCRIPT = """
import faulthandler, os, sys, warnings
import numpy as np
from srflow_sdk import Upscaler
from srflow_sdk.errors import SRFlowError

bundle, folder, parent, child = sys.argv[1:]
array = np.full((20, 24, 3), 90, np.uint8)
upscaler = Upscaler(bundle, device="cpu", threads=2)
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads

def use(what):
    if what == "file":
        upscaler.upscale_file(f"{folder}/lying.png", f"{folder}/{os.getpid()}.png")
    elif what == "rotated":
        upscaler.upscale(f"{folder}/rotated.jpg")
    else:
        upscaler.upscale(array)

use(parent)
expected = upscaler.upscale(array)
pid = os.fork()
if pid == 0:
    faulthandler.dump_traceback_later(40, exit=True)  # instead of hanging for ever
    try:
        use(child)
        same = np.array_equal(upscaler.upscale(array), expected)
        print("works" if same else "other pixels", flush=True)
    except SRFlowError as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
sys.exit(os.waitpid(pid, 0)[1] != 0)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not fork")


@pytest.fixture
def folder(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8))
    image.save(tmp_path / "lying.png")
    exif = Image.Exif()
    exif[0x112] = 6
    image.save(tmp_path / "rotated.jpg", exif=exif)
    return tmp_path


def forked(bundle, folder, parent, child):
    command = [sys.executable, "-c", SCRIPT, str(bundle), str(folder), parent, child]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("parent", "child"), [("array", "rotated"), ("file", "array")])
def test_a_forked_process_works(tiny_bundle, folder, parent, child):
    assert forked(tiny_bundle, folder, parent, child) == "works\n"


@pytest.mark.parametrize(("parent", "child"), [("file", "rotated"), ("rotated", "file")])
def test_or_says_at_once_what_to_do(tiny_bundle, folder, parent, child):
    said = forked(tiny_bundle, folder, parent, child)
    assert said.startswith("DeviceError this process was forked")
    assert 'multiprocessing.get_context("spawn")' in said
    assert said.count("\n") == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
