"""The gate compares graphs with the network and never judges the network: bad networks export, bad
exports do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import Result

from srflow_export import exporter, onnx_models
from srflow_export.flow_ops import exact_sigmoid
from srflow_export.parity.gate import (
    InverseRow,
    _check_rows,
    _difference_of_squares,
    _Inverse,
)
from srflow_sdk import Bundle, Upscaler
from srflow_sdk.errors import BundleError, ExportError
from srflow_training import SRFlow, load_checkpoint
from srflow_training.model import SRFlowConfig
from tests.export.running import run
from tests.published_checkpoints import LAYOUTS, SMALL, published_state, write_published

HALO = ("--halo", "12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poor")


def write(path: Path, **statistics: float) -> Path:
    config = SRFlowConfig.of_variant("published", **SMALL)
    return write_published(path, state=published_state(config, **statistics))


def export(checkpoint: Path, name: str, *arguments: str) -> tuple[Result, Path]:
    target = checkpoint.with_name(name)
    return run(checkpoint, "-o", target, *HALO, *arguments), target


@pytest.fixture(scope="module")
def smallest_scales(folder: Path) -> tuple[Result, Bundle, SRFlow]:
    """Scales near 1e-4: the network's own round trip is 60 to 80 dB, and its samples overflow from
    tau 0.5 on."""
    checkpoint = write(folder / "scales.pth", scales=12.0, heads=0.1)
    result, target = export(checkpoint, "scales.srflow")
    assert result.exit_code == 0, result.output
    model = load_checkpoint(checkpoint)
    assert isinstance(model, SRFlow)
    return result, Bundle.open(target), model


@pytest.mark.slow
def test_an_inverter_as_exact_as_the_network_is_kept_though_the_networks_round_trip_is_poor(
    smallest_scales: tuple[Result, Bundle, SRFlow],
) -> None:
    result, bundle, _ = smallest_scales
    manifest = bundle.manifest
    assert "inverter.onnx" in manifest.files
    assert manifest.round_trip_db is not None
    assert 60 < manifest.round_trip_db < 90
    rows = manifest.provenance["inverter"]
    assert min(row["latents_db"] for row in rows) > 120
    assert min(row["own_round_trip_db"] for row in rows) < 90
    (line,) = [
        line
        for line in result.output.splitlines()
        if line.startswith("the network itself comes back")
    ]
    assert f"to {manifest.round_trip_db:.1f} dB" in line


@pytest.mark.slow
def test_graphs_of_scales_near_their_smallest_are_the_network(
    smallest_scales: tuple[Result, Bundle, SRFlow],
) -> None:
    """ONNX Runtime's Sigmoid made them 82 dB of it."""
    _, bundle, _ = smallest_scales
    assert min(row["psnr_db"] for row in bundle.manifest.parity if not row["diverged"]) > 120
    x = torch.linspace(-12, 6, 500, dtype=torch.float64)
    np.testing.assert_allclose(exact_sigmoid(x), torch.sigmoid(x), rtol=1e-12)
    assert float(exact_sigmoid(torch.tensor(-200.0))) == 0.0


def test_where_the_networks_samples_overflow_the_default_tau_is_one_at_which_they_do_not(
    smallest_scales: tuple[Result, Bundle, SRFlow],
) -> None:
    result, bundle, _ = smallest_scales
    assert bundle.manifest.default_tau == 0
    assert {row["tau"] for row in bundle.manifest.parity if row["diverged"]} == {0.5, 0.8, 1.0}
    assert (
        "the network itself diverges on more photographs at tau 0.8 than at 0, which becomes"
        in result.output
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "precision"),
    [("x4-wrapped", "fp16"), ("x8", "fp16"), ("x8-faces", "bf16"), ("x4", "int8")],
)
def test_checkpoints_of_the_published_layouts_keep_their_inverter_in_every_precision(
    folder: Path, layout: str, precision: str
) -> None:
    blocks = {"blocks": 3, "stacked_blocks": (0, 1, 2)} if layout == "x8-faces" else {}
    config = SRFlowConfig.of_variant("published", **{**LAYOUTS[layout], **SMALL, **blocks})
    checkpoint = write_published(
        folder / f"{layout}.pth", layout, state=published_state(config, heads=0.05)
    )
    arguments = (
        () if layout == "x4-wrapped" else ("--blocks", ",".join(map(str, config.stacked_blocks)))
    )
    result, target = export(checkpoint, f"{layout}.srflow", "--precision", precision, *arguments)
    assert result.exit_code == 0, result.output
    assert "inverter.onnx" in Bundle.open(target).manifest.files, result.output


@pytest.mark.slow
def test_an_inverter_that_differs_is_left_out_and_the_export_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = onnx_models.inverter_model

    def broken(model: SRFlow, precision: str = "fp32") -> onnx.ModelProto:
        proto = original(model, precision)  # type: ignore[arg-type]
        weight = next(w for w in proto.graph.initializer if list(w.dims) == [12, 12, 1, 1])
        values = onnx.numpy_helper.to_array(weight) * 1.001
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
        return proto

    monkeypatch.setattr(onnx_models, "inverter_model", broken)
    result, target = export(write(folder / "good.pth"), "no-inverter.srflow")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "left out" in line]
    assert line.startswith("inverter.onnx is left out: on the photograph '")
    bundle = Bundle.open(target)
    assert "inverter.onnx" not in bundle.manifest.files
    assert not (target / "inverter.onnx").exists()
    assert bundle.manifest.provenance["left_out"]["inverter.onnx"] in line
    with (
        Upscaler(bundle, device="cpu") as upscaler,
        pytest.raises(BundleError, match="has no inverter"),
    ):
        upscaler.restore(np.zeros((16, 16, 3), np.uint8))


def test_optional_parts_that_were_asked_for_and_fail_leave_the_bundle_and_end_with_status_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("a library's\nown error")

    monkeypatch.setattr(exporter, "prove_fused", fail)
    monkeypatch.setattr(exporter, "int8_encoder", fail)
    checkpoint = write(folder / "good.pth")
    result, target = export(
        checkpoint, "parts.srflow", "--fused", "--also", "int8", "--no-inverter"
    )
    assert result.exit_code == 1
    assert result.output.count("left out: a library's own error\n") == 2
    assert f"wrote {target}\n" in result.output
    for name in ("fused.onnx", "encoder.int8.onnx"):
        assert f"error: {name} was asked for, and was left out" in result.output
    assert {*Bundle.open(target).manifest.files} == {"encoder.onnx", "sampler.onnx"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statistics", "arguments"),
    [
        # a 1×1 and its inverse are rounded apart
        ({"scales": 12.0, "heads": 0.1}, ("--weights", "fp16")),
        ({"heads": 0.6}, ("--precision", "fp16")),  # latents in the hundreds
    ],
)
def test_rounding_that_a_bad_network_multiplies_leaves_no_inverter_out(
    folder: Path, statistics: dict[str, float], arguments: tuple[str, str]
) -> None:
    result, target = export(write(folder / "bad.pth", **statistics), "bad.srflow", *arguments)
    assert result.exit_code == 0, result.output
    assert "inverter.onnx" in Bundle.open(target).manifest.files, result.output


def test_a_round_trip_is_compared_only_where_the_networks_own_gives_the_picture(
    golden_bundle: Path,
) -> None:
    manifest = Bundle.open(golden_bundle).manifest

    def checked_back(graphs_db: float, own_db: float) -> None:
        values: dict[str, Any] = {
            "photo": "cat",
            "latents_db": 120.0,
            "nats": 0.0,
            "nonfinite": 0,
            "diverged": False,
        }
        found = InverseRow(round_trip_db=graphs_db, own_round_trip_db=own_db, **values)
        _check_rows([found], manifest, lambda _: found)

    checked_back(61.0, 70.0)
    checked_back(-30.9, 6.6)  # a bad network in bf16
    with pytest.raises(
        ExportError, match=r"the round trip is 59\.0 dB, but the network's own is 70\.0 dB"
    ):
        checked_back(59.0, 70.0)


def test_nats_may_differ_as_the_networks_squares_do_even_where_those_cancel() -> None:
    hr = np.zeros((1, 3, 2, 2), np.float32)
    latents = np.full((1, 12, 1, 1), 300.0, np.float32)
    apart = np.where(np.arange(12) % 2, 0.01, -0.01).astype(np.float32).reshape(latents.shape)
    one, other = (
        _Inverse(latents=[z], log_density=np.zeros(1, np.float32), back=hr)
        for z in (latents, latents + apart)
    )
    assert _difference_of_squares(one, other, hr) == pytest.approx(3.0, rel=1e-3)
    assert _difference_of_squares(one, one, hr) == 0


@pytest.mark.slow
@pytest.mark.parametrize("statistics", [{"condition": 1e4}, {"heads": 1.5}])
def test_a_network_without_a_single_finite_picture_is_refused_in_one_line(
    folder: Path, statistics: dict[str, float]
) -> None:
    result, target = export(
        write(folder / "wild.pth", **statistics), "wild.srflow", "--no-inverter"
    )
    assert result.exit_code == 1
    assert (
        "itself gives no finite picture of any photograph, at any tau"
        in result.output.splitlines()[-1]
    )
    assert not target.exists()
