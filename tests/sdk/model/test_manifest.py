"""What a manifest may say of its engines, intervals and model, to this SDK and to a server's
clients."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from srflow_sdk import plain_text
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import (
    RTX_SMS,
    EngineRecord,
    LrProfile,
)
from srflow_sdk.model.manifest import Manifest, _read_record, manifest_digest
from srflow_sdk.model.serving_config import described
from tests.sdk.calibrated import INTERVALS, calibrated

RECORD = EngineRecord(
    runtime="tensorrt_rtx",
    version="1.7.1.116",
    precision="fp16",
    compute_capabilities=("8.9", "12.0"),
    gpu="",
    profile=LrProfile(min=(16, 16), opt=(88, 120), max=(256, 256)),
    encoder="engines/encoder.engine",
    sampler="engines/sampler.engine",
    graphs={"encoder.onnx": "0" * 64, "sampler.onnx": "1" * 64},
)


def raw(**changes):
    return json.loads(json.dumps({**dataclasses.asdict(RECORD), **changes}))


def test_a_record_is_read_as_it_was_written():
    assert _read_record(EngineRecord, raw()) == RECORD
    older = raw()  # from before inverters
    del older["inverter"]
    assert _read_record(EngineRecord, older) == RECORD
    assert RECORD.files == ("engines/encoder.engine", "engines/sampler.engine")
    inverter = raw(
        inverter="engines/inverter.engine", graphs={**RECORD.graphs, "inverter.onnx": "2" * 64}
    )
    assert _read_record(EngineRecord, inverter).files == (*RECORD.files, "engines/inverter.engine")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inverter": None}, "inverter has the wrong type"),
        ({"graphs": {"encoder.onnx": "0", "sampler.onnx": 1}}, "wrong type"),
        ({"precision": "bf16"}, "precision is 'bf16'"),
        ({"runtime": "onnx"}, "runtime is 'onnx'"),
    ],
)
def test_a_record_that_would_pass_a_check_unseen_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        _read_record(EngineRecord, raw(**changes))


@pytest.mark.parametrize(
    ("system", "line"), [("posix", "a 'b c' 'C:\\d'"), ("nt", 'a "b c" C:\\d')]
)
def test_a_command_suits_the_systems_shell(monkeypatch, system, line):
    monkeypatch.setattr(plain_text, "os", SimpleNamespace(name=system))
    assert plain_text.command_line(["a", "b c", "C:\\d"]) == line


def test_the_gpus_of_tensorrt_rtx_are_those_that_it_names():
    trt = pytest.importorskip(
        "tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13"
    )
    names = set(trt.ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert {f"SM{sm}" for sm in RTX_SMS} <= names


# The calibration in a manifest: what it says of a pixel, and that it changes neither the model nor
# older bundles.


def test_a_calibration_comes_back_and_the_model_stays_the_same(tiny_bundle, tmp_path):
    before = Bundle.open(tiny_bundle)
    after = Bundle.open(calibrated(tiny_bundle, tmp_path / "calibrated.srflow"))
    assert before.manifest.intervals is None
    assert after.manifest.intervals == INTERVALS
    assert after.model_sha256 == before.model_sha256
    without = dataclasses.replace(after.manifest, intervals=None)
    assert without.to_json() == (tiny_bundle / "manifest.json").read_text(encoding="utf-8")
    # as examples/web reads it
    content = json.loads((after.path / "manifest.json").read_text("utf-8"))
    assert content["digest"] == manifest_digest(content) == before.model_sha256
    assert Manifest.from_description(described(after)).intervals == INTERVALS, "as a server tells"


def test_each_class_has_its_factor():
    deviation = np.array([0.0, 0.5, 3.0, 9.0], np.float32) / 255
    wanted = [5.0 * 1, 5.0 * 1.5, 2.8 * 4, 2.4 * 10]
    np.testing.assert_allclose(INTERVALS.band(8, 0.9)(deviation) * 255, wanted, rtol=1e-6)


def test_factors_are_those_of_the_next_smaller_number_of_samples_and_between_two_coverages():
    assert INTERVALS.factors_of(7, 0.9) == INTERVALS.factors_of(4, 0.9) == [6.0, 3.0, 3.0, 2.5]
    assert INTERVALS.factors_of(100, 0.9) == INTERVALS.factors_of(8, 0.9)
    np.testing.assert_allclose(INTERVALS.factors_of(8, 0.85), [4.0, 2.3, 2.3, 1.9])


@pytest.mark.parametrize(
    ("n", "coverage"), [(3, 0.9), (8, 0.4), (8, 0.95), (8, float("nan")), (8, 90)]
)
def test_what_was_not_calibrated_is_refused(n, coverage):
    with pytest.raises(ArgumentError, match=r"^(n|coverage) is .*; it must be"):
        INTERVALS.band(n, coverage)


# What a server tells of a bundle.


def test_description_has_all_that_drawing_needs(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    told = Manifest.from_description(described(bundle))
    whole = bundle.manifest
    flags = ("auto_tau", "removes_damage")
    for name in (
        "name",
        "scale",
        "size_multiple",
        "halo",
        "latent_levels",
        "default_tau",
        "reduction",
        *flags,
    ):
        assert getattr(told, name) == getattr(whole, name)
    assert told.digest == bundle.model_sha256
    assert not told.files


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scale": "4"}, "scale has the wrong type"),
        ({"latent_scheme": 2}, "pip install -U srflow-sdk"),
        ({"name": "a/b"}, "could be the path of a file"),
        ({"name": "\x1b[2J"}, "no plain text"),
        ({"model_sha256": "xyz"}, "model_sha256 is malformed"),
        ({"schema": 99}, "written by a newer SDK"),
    ],
)
def test_description_that_cannot_be_is_refused(change, reason, tiny_bundle):
    content = json.loads(described(Bundle.open(tiny_bundle))) | change
    with pytest.raises(BundleError, match=reason):
        Manifest.from_description(json.dumps(content))
