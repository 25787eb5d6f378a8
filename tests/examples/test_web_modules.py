"""The modules of examples/web that have an original in srflow_sdk, in node: the same bits, and the same tiles."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk.drawing.temperature import REACH, Temperature, texture
from srflow_sdk.drawing.tiles import Window, plan_tiles
from srflow_sdk.files.provenance import Provenance, provenance_in
from srflow_sdk.latents.random_field import LatentLevel, standard_normal, window_noise

SOURCES = Path(__file__).parents[2] / "examples" / "web" / "src"
NODE = shutil.which("node")
LEVELS = [LatentLevel(level=1, channels=6), LatentLevel(level=2, channels=12), LatentLevel(level=3, channels=48)]

pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine: apt install nodejs")


def in_node(module, program, *values):
    """What a program prints as JSON; `values` is what it was given, and `its` the module's exports."""
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
        (2**64 - 1, 2**64 - 2, {"level": 3, "channels": 48, "top": 0, "left": 5, "height": 9, "width": 11}),
        (2**53 + 1, 0, {"level": 1, "channels": 6, "top": MOST - 1, "left": MOST - 2, "height": 2, "width": 3}),
    ],
)
def test_a_window_of_latents_is_the_sdks_bit_for_bit(seed, sample, place):
    expected = standard_normal(seed, sample, **place)
    assert in_node("latents.js", FIELD, str(seed), str(sample), place) == bits(expected)


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
    page_writes = [field.name for field in dataclasses.fields(Provenance) if field.default is dataclasses.MISSING]
    properties = {name: str(getattr(written, name)) for name in (*page_writes, "auto_tau")}
    packet = in_node("provenance.js", program, {**properties, "part": "0 0 64 64"}).encode()
    assert provenance_in(packet) == written


def test_a_photos_window_has_the_sdks_latents_on_every_level():
    program = """
    const [levels, window] = values;
    const noise = its.windowNoise(levels, { ...window, seed: 5n, sample: 2n });
    console.log(JSON.stringify([...noise].map(([level, field]) => [level, [...new Uint32Array(field.buffer)]])));
    """
    window = {"scale": 4, "top": 6, "left": 10, "height": 8, "width": 12}
    levels = [{"level": entry.level, "channels": entry.channels} for entry in LEVELS]
    expected = window_noise(LEVELS, seed=5, sample=2, **window)
    assert in_node("latents.js", program, levels, window) == [[level, bits(field)] for level, field in expected.items()]


@pytest.mark.parametrize("size", [(45, 61), (1022, 700)])
@pytest.mark.parametrize("core", [None, 64, 16])
def test_large_photos_have_the_sdks_tiles(size, core):
    program = "const [h, w, options] = values;\nconsole.log(JSON.stringify(its.planTiles(h, w, options)));"
    height, width = (side + side % 2 for side in size)
    options = {"core": core, "halo": 11, "multiple": 2}
    found = in_node("tiles.js", program, height, width, options)
    expected = [{"core": vars(tile.core), "window": vars(tile.window)} for tile in plan_tiles(height, width, **options)]
    assert found == expected


def test_tau_auto_is_the_sdks_map():
    generator = np.random.default_rng(0)
    rows, columns = 40, 36
    lr = generator.integers(0, 256, (3, rows, columns)).astype(np.float32) / 255
    lr[:, :20] = lr[:, :1, :1]  # flat
    lr[:, 20:, :18] = np.round(lr[:, 20:, :18].mean(axis=0))  # two levels
    program = """
    const [lr, rows, columns, window] = values;
    const map = its.texture(Float32Array.from(lr), rows, columns, window);
    const levels = [1, 2, 3].map((level) => [...its.onLevel(map, window, level, 4)]);
    console.log(JSON.stringify([[...map], ...levels]));
    """
    window = Window(top=4, left=6, height=32, width=28)
    found = in_node("texture.js", program, lr.ravel().tolist(), rows, columns, vars(window))
    around = np.pad(lr, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    whole = texture(around)
    expected = whole[4:36, 6:34]
    assert 0 <= expected.min() < 0.1
    assert 0.9 < expected.max() <= 1
    np.testing.assert_allclose(found[0], expected.ravel(), atol=1e-6)
    tau = Temperature(whole, default=0, height=rows, width=columns, multiple=2)
    on_levels, left = tau.on_levels((1, 2, 3), window, 4)
    assert left == 1
    for level, values in zip((1, 2, 3), found[1:], strict=True):
        np.testing.assert_allclose(values, on_levels[level].ravel(), atol=1e-6)


def test_durations_are_told_in_seconds_or_minutes():
    program = "console.log(JSON.stringify(values.map(its.about)));"
    told = in_node("duration.js", program, 3, 39_200, 99_000, 99_001, 3_400_000)
    assert told == ["about 1 s", "about 40 s", "about 99 s", "about 2 min", "about 57 min"]
