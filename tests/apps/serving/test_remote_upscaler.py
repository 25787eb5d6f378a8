"""The client's pictures are the local ones, also where a server has a model for each kind of
picture."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from hypothesis import assume, given, strategies as st
from numpy.typing import NDArray
from PIL import Image

from srflow_apps.commands import cli
from srflow_apps.serving.remote_upscaler import ENVELOPE_BYTES, Limits
from srflow_sdk import ArgumentError, RemoteError, Upscaler, read_provenance
from srflow_sdk.files import read_image, write_image
from srflow_sdk.geometry.tiles import MIN_TILE, padded_size, plan_tiles
from srflow_sdk.triton import RemoteUpscaler
from tests.sdk.calibrated import calibrated
from tests.sdk.clean_and_noisy import noisy, smooth
from tests.sdk.tiny_bundle import with_manifest

from .conftest import largest_difference
from .inference_server import InferenceServer

SMALL_MESSAGES = 230_000


def kinds(photo: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    return {
        "rgb": photo,
        "gray": photo[..., 1],
        "alpha": np.dstack([photo, photo[..., 0]]),
        "uint16": photo.astype(np.uint16) * 257,
    }


OPTIONS: list[dict[str, Any]] = [
    {"tau": 0.8, "seed": 3, "sample": 7},
    {"consistent": True},
    {"tau": "auto"},
    {"tau": np.linspace(0, 1.5, 45 * 61).reshape(45, 61)},
    {"scale": 1.5, "reduction": "lanczos"},
    {},
]


@pytest.mark.parametrize(
    ("kind", "tile"),
    [*((kind, 16) for kind in ("rgb", "gray", "alpha", "uint16")), ("rgb", "auto")],
)
def test_picture_is_the_local_one_to_the_bit_with_equal_tiles(
    kind: str, tile: Any, photo: NDArray[np.uint8], server: InferenceServer, tiny_bundle: Path
) -> None:
    image = kinds(photo)[kind]
    with (
        RemoteUpscaler(server.url, tile=tile) as remote,
        Upscaler(tiny_bundle, device="cpu", tile=tile) as local,
    ):
        # a kind of pixels is read, and projected
        for options in OPTIONS if kind == "rgb" else OPTIONS[:2]:
            assert np.array_equal(
                remote.upscale(image, **options), local.upscale(image, **options)
            ), options


def test_samples_of_a_model_that_smooths_them_are_the_local_ones(
    photo: NDArray[np.uint8], server: InferenceServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = with_manifest(tiny_bundle, tmp_path / "smoothed.srflow", smoothed=True)
    server.load(bundle)
    with (
        RemoteUpscaler(server.url, tile=16) as remote,
        Upscaler(bundle, device="cpu", tile=16) as local,
        Upscaler(tiny_bundle, device="cpu", tile=16) as sharp,
    ):
        for tau in (0, 0.8):
            drawn = remote.upscale(photo, tau=tau)
            assert np.array_equal(drawn, local.upscale(photo, tau=tau))
            assert np.array_equal(drawn, sharp.upscale(photo, tau=tau)) == (tau == 0)


def test_samples_share_a_request_as_far_as_they_fit_and_are_what_each_is_alone(
    photo: NDArray[np.uint8], server: InferenceServer, remote: RemoteUpscaler, upscaler: Upscaler
) -> None:
    encoding = remote.encode(photo)
    drawn = encoding.samples(5, sample=2)
    assert [int(request["samples"][0]) for request in server.requests] == [5]
    for number, picture in enumerate(drawn, start=2):
        assert np.array_equal(picture, upscaler.upscale(photo, sample=number))
    server.requests.clear()
    with RemoteUpscaler(server.url, max_message_bytes=1_500_000) as narrow:
        narrow.encode(photo).samples(5)
    assert [int(request["samples"][0]) for request in server.requests] == [2, 2, 1]


def test_file_is_the_local_one_and_names_the_servers_model(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, upscaler: Upscaler, tmp_path: Path
) -> None:
    source = tmp_path / "a.tif"
    write_image(source, photo.astype(np.uint16) * 257)
    (there,) = remote.upscale_file(
        source, tmp_path / "there.tif", report=True, consistent=True
    ).outputs
    (here,) = upscaler.upscale_file(
        source, tmp_path / "here.tif", report=True, consistent=True
    ).outputs
    assert np.array_equal(read_image(there.path).pixels, read_image(here.path).pixels)
    assert there.provenance == here.provenance
    assert there.lr_psnr == here.lr_psnr
    assert there.provenance.model_sha256 == upscaler.bundle.model_sha256


@pytest.mark.parametrize("tile", [None, 44])
def test_tile_that_does_not_fit_a_message_becomes_smaller(
    tile: int | None, photo: NDArray[np.uint8], server: InferenceServer, upscaler: Upscaler
) -> None:
    with RemoteUpscaler(server.url, tile=tile, max_message_bytes=SMALL_MESSAGES) as remote:
        assert largest_difference(remote.upscale(photo), upscaler.upscale(photo)) <= 1


def test_threads_share_one(
    photo: NDArray[np.uint8], server: InferenceServer, tiny_bundle: Path
) -> None:
    with (
        RemoteUpscaler(server.url, tile=32) as remote,
        Upscaler(tiny_bundle, device="cpu", tile=32) as local,
        ThreadPoolExecutor(3) as pool,
    ):
        drawn = pool.map(lambda seed: remote.upscale(photo, seed=seed), range(6))
        for seed, picture in enumerate(drawn):
            assert np.array_equal(picture, local.upscale(photo, seed=seed))


def test_the_servers_calibration_gives_intervals(
    tiny_bundle: Path, tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    bundle = calibrated(tiny_bundle, tmp_path / "calibrated.srflow")
    server = InferenceServer(bundle)
    try:
        with (
            RemoteUpscaler(server.url) as remote,
            Upscaler(bundle, device="cpu", threads=1) as here,
        ):
            there, local = (
                upscaler.encode(photo[:13, :17]).interval(4) for upscaler in (remote, here)
            )
    finally:
        server.stop()
    np.testing.assert_array_equal(there, local)


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    multiple=st.sampled_from([1, 2, 3, 8]),
    halo=st.integers(0, 60),
    scale=st.sampled_from([1, 2, 4, 8]),
    tile=st.one_of(st.none(), st.just("auto"), st.integers(16, 900)),
    message_bytes=st.integers(1 << 16, 1 << 25),
    tile_pixels=st.integers(1000, 1 << 20),
)
def test_no_window_of_any_plan_needs_a_larger_message(
    height: int,
    width: int,
    multiple: int,
    halo: int,
    scale: int,
    tile: int | str | None,
    message_bytes: int,
    tile_pixels: int,
) -> None:
    limits = Limits(
        message_bytes=message_bytes,
        tile_pixels=tile_pixels,
        answer_bytes=1 << 22,
        samples=16,
        scale=scale,
        multiple=multiple,
    )
    least = padded_size(MIN_TILE, multiple) + 2 * padded_size(halo, multiple)
    assume(limits.pixels >= least**2)
    height, width = padded_size(height, multiple), padded_size(width, multiple)
    core = limits.core(tile, height=height, width=width, halo=halo)  # type: ignore[arg-type]
    for one in plan_tiles(height, width, core=core, halo=halo, multiple=multiple):
        pixels = one.window.height * one.window.width
        assert pixels <= tile_pixels
        assert 16 * pixels + ENVELOPE_BYTES <= message_bytes
        samples = limits.samples_at_once(pixels)
        assert 1 <= samples <= limits.samples
        assert 12 * scale**2 * pixels * samples <= min(
            message_bytes - ENVELOPE_BYTES, limits.answer_bytes
        )


MODELS = {"x4-small": "srflow_upscale-x4-small", "x4-photo": "srflow_upscale-x4-photo"}
PICTURES = {"x4-small": smooth(), "x4-photo": noisy(10)}


@pytest.fixture
def both(two_models: Path, tiny_bundle: Path) -> Iterator[InferenceServer]:
    others = {served: two_models / f"{name}.srflow" for name, served in MODELS.items()}
    server = InferenceServer(tiny_bundle, others=others)
    yield server
    server.stop()


def test_each_picture_is_drawn_by_the_model_that_suits_it(
    both: InferenceServer, tmp_path: Path
) -> None:
    Image.fromarray(smooth()).save(tmp_path / "photo.jpg", quality=60)
    with RemoteUpscaler(both.url) as remote, Upscaler(device="cpu", threads=1) as here:
        for picture in (
            *PICTURES.values(),
            Image.open(tmp_path / "photo.jpg"),
            tmp_path / "photo.jpg",
        ):
            assert np.array_equal(
                np.asarray(remote.upscale(picture)), np.asarray(here.upscale(picture))
            )  # type: ignore[call-overload]
        assert set(both.models) == set(MODELS.values())
        with pytest.raises(ArgumentError, match="name 'x4-small' or 'x4-photo'"):
            remote.bundle  # noqa: B018
        assert (remote.scale, remote.device) == (4, both.url)
        done = remote.upscale_file(tmp_path / "photo.jpg", tmp_path / "large.png")
        assert done.outputs[0].provenance.model == "x4-photo"


def test_a_name_is_the_only_model(both: InferenceServer) -> None:
    with RemoteUpscaler(both.url, model=MODELS["x4-photo"]) as remote:
        assert remote.bundle.manifest.name == "x4-photo"
        remote.upscale(smooth())
    assert set(both.models) == {MODELS["x4-photo"]}
    with pytest.raises(
        RemoteError,
        match="no model 'srflow_upscale'; its models are srflow_upscale-x4-photo, "
        "srflow_upscale-x4",
    ):
        RemoteUpscaler(both.url, model="srflow_upscale")


def test_the_command_chooses_too_and_makes_pictures_again_and_numbers_by_the_model_for_clean_ones(
    both: InferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, picture in PICTURES.items():
        write_image(f"{name}.png", picture)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.upscale, [*arguments])
        assert result.exit_code == 0, result.output
        return result

    there = "--server", both.url
    run("x4-photo.png", "x4-small.png", "-o", "out", *there)
    for name in PICTURES:
        assert (made := read_provenance(f"out/{name}.png")) is not None
        assert made.model == name
    run("--from-output", "out/x4-photo.png", "-o", "b.png", *there)
    tifffile.imwrite(
        "in.tif",
        (np.indices((9, 9)).sum(axis=0) * 50 - 400).astype(np.int16),
        photometric="minisblack",
    )
    run("in.tif", "--range", "-400", "400", "-o", "there.tif", *there)
    run("in.tif", "--range", "-400", "400", "-o", "here.tif", "--device", "cpu")
    assert np.array_equal(tifffile.imread("there.tif"), tifffile.imread("here.tif"))


def test_a_server_does_not_wrap_and_says_so(
    remote: RemoteUpscaler, photo: NDArray[np.uint8]
) -> None:
    with pytest.raises(ArgumentError, match="a server does not wrap textures; leave out wrap"):
        remote.upscale(photo, wrap="xy")
