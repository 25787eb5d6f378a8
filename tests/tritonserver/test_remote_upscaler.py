"""The client against a real server; tests/apps/serving has the rest, with a server in the tests'
own process."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason='pip install "tritonclient[grpc]"')

from srflow_export.triton import write_repository
from srflow_sdk.errors import CancelledError
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.triton import RemoteUpscaler
from srflow_sdk.upscaler import Upscaler
from tests.sdk.clean_and_noisy import noisy, smooth
from tests.sdk.tiny_bundle import write_tiny_bundle
from tests.tritonserver.asking import picture
from tests.tritonserver.conftest import ALONE, CPU
from tests.tritonserver.environment import ServerEnvironment
from tests.tritonserver.server import Server, running_server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tile", ["auto", 16])
def test_pictures_are_the_local_ones_to_the_bit(
    server: Server, tiny_bundle: Path, tile: Any
) -> None:
    image = picture(height=26, width=37)
    kinds = [
        image,
        image[..., 0],
        image.astype(np.uint16) * 257,
        np.dstack([image, image[..., :1]]),
    ]
    with (
        RemoteUpscaler(server.http, tile=tile) as remote,
        Upscaler(tiny_bundle, device="cpu", tile=tile) as local,
    ):
        for kind in kinds:
            for options in (
                {"tau": 0.9, "seed": 5, "sample": 2},
                {"tau": "auto", "consistent": True},
            ):
                assert np.array_equal(
                    remote.upscale(kind, **options), local.upscale(kind, **options)
                )
        there = remote.encode(image)
        here = local.encode(image)
        assert np.array_equal(there.samples(4), here.samples(4))
        assert np.array_equal(there.std(3), here.std(3))


def test_pictures_larger_than_a_message_differ_by_rounding_at_most(
    server: Server, upscaler: Upscaler
) -> None:
    image = picture(height=120, width=150)
    with RemoteUpscaler(server.http, max_message_bytes=400_000) as remote:
        encoding = remote.encode(image)
        assert encoding.tiles > 8
        difference = encoding.sample(tau=0.9).astype(int) - upscaler.upscale(image, tau=0.9)
        assert np.abs(difference).max() <= 1


def test_cancelled_request_ends_and_the_next_one_is_answered(
    server: Server, upscaler: Upscaler
) -> None:
    cancel = threading.Event()
    image = picture(height=150, width=150)
    with RemoteUpscaler(server.http, max_message_bytes=400_000) as remote:
        with pytest.raises(CancelledError):
            remote.upscale(
                image,
                cancel=cancel,
                progress=lambda done, total: cancel.set() if done == 3 else None,
            )
        assert np.array_equal(
            remote.upscale(picture()[:20, :20]), upscaler.upscale(picture()[:20, :20])
        )


def test_command_whose_server_is_killed_keeps_what_is_done_and_continues_with_resume(
    environment: ServerEnvironment,
    tiny_bundle: Path,
    upscaler: Upscaler,
    tmp_path: Path,
) -> None:
    write_repository(tiny_bundle, tmp_path / "models")
    photos = tmp_path / "photos"
    out = tmp_path / "out"
    photos.mkdir()
    for number in range(12):
        write_image(photos / f"{number:02}.png", picture(number))
    code = """
from srflow_apps.commands.cli import upscale
from srflow_sdk.triton import RemoteUpscaler
RemoteUpscaler.__init__.__kwdefaults__["retry_for"] = 1
upscale()
"""

    def command(server: Server, *more: str) -> subprocess.Popen[str]:
        arguments = [photos, "-o", out, "--server", server.http, "--tile", "16", *more]
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with running_server(environment, tmp_path / "models", tmp_path, *ALONE) as server:
        running = command(server)
        assert running.stdout is not None
        first = [running.stdout.readline().strip() for _ in range(3)]
        server.kill()
        _, said = running.communicate(timeout=120)
    assert running.returncode == 1
    # either may be said at any time: by a thread that draws another picture
    aside = re.compile("does not match the input|trying again for")
    lines = [line for line in said.splitlines() if not aside.search(line)]
    assert [line.split(":")[0] for line in lines if "%" not in line][-2:] == [
        "error",
        "stopped because the server is lost",
    ]
    done = sorted(path.name for path in out.iterdir())  # no parts of others
    assert done == [f"{number:02}.png" for number in range(len(done))]
    assert [Path(name).name for name in first] == done[:3]
    assert len(done) < 12
    second = tmp_path / "second"
    second.mkdir()
    with running_server(environment, tmp_path / "models", second, *ALONE) as server:
        again = command(server, "--resume")
        _, said = again.communicate(timeout=300)
    assert f"{12 - len(done)} done, {len(done)} skipped, 0 failed" in said
    with Upscaler(tiny_bundle, device="cpu", tile=16) as local:
        for number in range(12):
            path = out / f"{number:02}.png"
            assert np.array_equal(read_image(path).pixels, local.upscale(picture(number)))
            made = read_provenance(path)
            assert made is not None
            assert made.model_sha256 == upscaler.bundle.model_sha256


def test_of_several_bundles_each_picture_gets_the_one_that_suits_it(
    environment: ServerEnvironment, tmp_path: Path
) -> None:
    gains = {"x4-small": 1.0, "x4-photo": 0.9}
    bundles = {
        name: write_tiny_bundle(
            tmp_path / name, name=name, gain=gain, removes_damage=name == "x4-photo"
        )
        for name, gain in gains.items()
    }
    write_repository(list(bundles.values()), tmp_path / "models")
    with running_server(environment, tmp_path / "models", tmp_path, CPU) as server:
        with RemoteUpscaler(server.http) as remote:
            for name, pixels in {"x4-small": smooth(), "x4-photo": noisy(10)}.items():
                with Upscaler(bundles[name], device="cpu") as local:
                    assert np.array_equal(remote.upscale(pixels), local.upscale(pixels)), name
        with RemoteUpscaler(server.http, model="srflow_upscale-x4-photo") as remote:
            assert remote.bundle.manifest.name == "x4-photo"
