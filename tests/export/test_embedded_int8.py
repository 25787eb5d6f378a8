"""x4-small's int8 encoder: what its bundle records, and what its file gives."""

import pytest

from srflow_export.parity import prove_int8_encoder
from srflow_export.parity._gate import INT8_GRAPHS
from srflow_sdk import Bundle

LEAST_DB = 52
"""On every photograph and at every tau of the gate: more than the 43 that users are promised, to notice a loss."""


@pytest.fixture
def bundle():
    return Bundle.embedded("x4-small")


def int8_rows(bundle):
    return [row for row in bundle.manifest.parity if row["graph"] == INT8_GRAPHS]


def test_the_recorded_rows_keep_their_promise(bundle):
    rows = int8_rows(bundle)
    assert len(rows) == 16
    assert min(row["psnr_db"] for row in rows) >= LEAST_DB


@pytest.mark.slow
def test_the_recorded_rows_are_what_the_files_give(bundle):
    recorded = {(row["photo"], row["tau"]): row["psnr_db"] for row in int8_rows(bundle)}
    found = prove_int8_encoder(bundle, bundle, size=(24, 32))
    for row in found:
        # other processors round sums otherwise, and a rounding step more or less moves the finest rows most
        assert row.psnr_db == pytest.approx(recorded[row.photo, row.tau], abs=3)
        assert row.psnr_db >= LEAST_DB
