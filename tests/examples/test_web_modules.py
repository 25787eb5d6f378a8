"""The modules of examples/web that have an original in srflow_sdk, in node: the same bits, and the
same tiles."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.files.provenance import Provenance, parse_provenance
from srflow_sdk.geometry.tiles import plan_tiles
from srflow_sdk.latents.random_field import standard_normal
from srflow_sdk.pixels.conservative_smoothing import smooth

SOURCES = Path(__file__).parents[2] / "examples" / "web" / "src"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine: apt install nodejs")


def in_node(module, program, *values):
    """What a program prints as JSON; `values` is what it was given, and `its` the module's
    exports."""
    path = json.dumps((SOURCES / module).as_uri())
    script = f"import * as its from {path};\nconst values = JSON.parse(process.argv[1]);\n{program}"
    command = [NODE, "--input-type=module", "-e", script, json.dumps(values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FIELD = """
const [seed, sample, place] = values;
const noise = its.standardNormal({ seed: BigInt(seed), sample: BigInt(sample), ...place });
console.log(JSON.stringify([...new Uint32Array(noise.buffer)]));
"""
MOST = 2**32 - 1


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32).ravel().tolist()


@pytest.mark.parametrize(
    ("seed", "sample", "place"),
    [
        (3, 1, {"level": 2, "channels": 12, "top": 7, "left": 13, "height": 31, "width": 40}),
        (
            2**64 - 1,
            2**64 - 2,
            {"level": 3, "channels": 48, "top": 0, "left": 5, "height": 9, "width": 11},
        ),
        (
            2**53 + 1,
            0,
            {"level": 1, "channels": 6, "top": MOST - 1, "left": MOST - 2, "height": 2, "width": 3},
        ),
    ],
)
def test_a_window_of_latents_is_the_sdks_bit_for_bit(seed, sample, place):
    expected = standard_normal(seed, sample, **place)
    assert in_node("latents.js", FIELD, str(seed), str(sample), place) == bits(expected)


SMOOTHING = """
const [picture, rows, columns] = values;
console.log(JSON.stringify([...its.smooth(Float32Array.from(picture), rows, columns)]));
"""


@pytest.mark.parametrize("size", [(1, 1), (13, 8)])
def test_samples_are_smoothed_as_the_sdk_does(size):
    picture = np.random.default_rng(3).normal(0.5, 0.3, (*size, 3)).astype(np.float32)
    values = in_node("pixels.js", SMOOTHING, picture.transpose(2, 0, 1).ravel().tolist(), *size)
    got = np.reshape(values, (3, *size)).transpose(1, 2, 0)
    expected = smooth(picture, slice(0, size[0]), slice(0, size[1]))
    assert np.abs(expected - picture).max() > 0.1 or size == (1, 1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_record_is_read_as_the_sdk_writes_it():
    written = Provenance(
        model="x4 <&\"'> 100 %",
        model_sha256="ab" * 32,
        tau=0.85,
        auto_tau=2,
        seed=2**64 - 1,
        sample=0,
        latent_scheme=1,
        sdk_version="0.1.0",
        tile=None,
        consistent=False,
        source="Kätzchen\n\u2028 \U0001f408\x7f.png",
        source_sha256="",
    )
    program = "console.log(JSON.stringify(its.packet(values[0])));"
    page_writes = [
        field.name
        for field in dataclasses.fields(Provenance)
        if field.default is dataclasses.MISSING
    ]
    properties = {name: str(getattr(written, name)) for name in (*page_writes, "auto_tau")}
    packet = in_node("provenance.js", program, {**properties, "part": "0 0 64 64"}).encode()
    assert parse_provenance(packet) == written


@pytest.mark.parametrize("size", [(45, 61), (1022, 700)])
@pytest.mark.parametrize("core", [None, 64, 16])
def test_large_photos_have_the_sdks_tiles(size, core):
    program = (
        "const [h, w, options] = values;\nconsole.log(JSON.stringify(its.planTiles(h, w, "
        "options)));"
    )
    height, width = (side + side % 2 for side in size)
    options = {"core": core, "halo": 11, "multiple": 2}
    found = in_node("tiles.js", program, height, width, options)
    expected = [
        {"core": vars(tile.core), "window": vars(tile.window)}
        for tile in plan_tiles(height, width, **options)
    ]
    assert found == expected
