"""The rule by which "fastest" may choose a way to compute."""

from __future__ import annotations

import pytest

from srflow_sdk.backends._precision_ways import Way, is_within_gate, promised_db
from srflow_sdk.model.manifest import Manifest

from ..tiny_bundle import INT8_ROW, tiny_manifest

BF16 = Way(device="openvino", precision="bf16")
INT8 = Way(device="openvino", precision="int8")
FLOAT32 = Way(device="openvino", precision="bundle")


def recorded(*decibels: object) -> Manifest:
    return tiny_manifest(parity=[{**INT8_ROW, "psnr_db": value} for value in decibels])


@pytest.mark.parametrize(
    ("rows", "promised"), [((), 38), ((50.0, 43.0), 43), ((50.0, 42.9), 38), ((50.0, None), 38), ((30.0,), 38)]
)
def test_a_bundle_promises_what_all_its_int8_rows_reach(rows: tuple[object, ...], promised: float) -> None:
    assert promised_db(recorded(*rows)) == promised


def test_rows_of_other_graphs_promise_nothing() -> None:
    assert promised_db(tiny_manifest(parity=[{**INT8_ROW, "graph": "encoder+sampler", "psnr_db": 90.0}])) == 38


@pytest.mark.parametrize(
    ("way", "rows", "decibels", "within"),
    [
        (BF16, (), 38.0, True),
        (BF16, (), 37.9, False),
        (BF16, (45.0,), 42.9, False),
        (BF16, (45.0,), 43.0, True),
        (INT8, (), 60.0, False),
        (INT8, (37.9,), 60.0, False),
        (INT8, (39.0,), 38.0, True),
        (INT8, (39.0,), 37.9, False),
        (INT8, (45.0,), 42.0, True),
        (INT8, (45.0,), 41.9, False),
        (FLOAT32, (), 90.0, True),
        (FLOAT32, (), 89.9, False),
    ],
)
def test_what_is_near_enough(way: Way, rows: tuple[object, ...], decibels: float, within: bool) -> None:
    assert is_within_gate(way, decibels, recorded(*rows)) is within
