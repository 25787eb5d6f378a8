"""The gate: what it counts, what it refuses, and what its table says."""

import numpy as np
import pytest

from srflow_export.parity.gate import tau_of_finite_pictures
from srflow_export.parity.measure import (
    MARGIN_DB,
    TAUS,
    ParityRow,
    check,
    compare_taus,
    table,
)
from srflow_sdk.errors import ExportError


def values(value):
    """One picture for each tau."""
    return np.full((len(TAUS), 3, 4, 4), value, np.float32)


def rows_of(outputs, references):
    return list(compare_taus("graph", "cat", outputs, references))


def row(**fields):
    ours = {
        "graph": "fused",
        "photo": "cat",
        "tau": 0.8,
        "diverged": False,
        "psnr_db": 120.0,
        "max_abs": 0.0,
    }
    return ParityRow(**{**ours, "nonfinite": 0, "levels_db": {}, **fields})


def refuse(*rows, bound=50):
    with pytest.raises(ExportError) as error:
        check(
            rows,
            bound_db=bound,
            reference="the checkpoint's network",
        )
    return str(error.value)


def test_each_tau_is_compared_with_its_own_reference():
    sr = values(0.5)
    sr[2] = 0.6
    rows = rows_of({"sr": sr}, {"sr": values(0.5)})
    assert [row.tau for row in rows] == list(TAUS)
    assert [row.psnr_db for row in rows] == [200, 200, pytest.approx(20, abs=1e-3), 200]
    assert rows[2].max_abs == pytest.approx(0.1)
    assert rows[0].levels_db == {}


def test_values_that_are_not_finite_are_counted_and_are_the_worst_there_is():
    sr = values(0.5)
    sr[1, 0, 0, :3] = np.nan
    sr[1, 1, 0, 0] = np.inf
    found = rows_of({"sr": sr}, {"sr": values(0.5)})
    assert [row.nonfinite for row in found] == [0, 4, 0, 0]
    assert found[1].psnr_db == -200
    assert "4 values are not finite, unlike those of the checkpoint's network" in refuse(
        *found, row(psnr_db=3.0)
    )


@pytest.mark.parametrize("wild", [np.nan, np.inf, 1e30])
def test_where_the_reference_itself_diverges_there_is_nothing_to_compare(wild):
    references = values(0.5)
    references[3] = wild
    found = rows_of({"sr": values(0.5)}, {"sr": references})
    assert [row.diverged for row in found] == [False, False, False, True]
    check(found, bound_db=90, reference="it")
    assert "left out" in list(table(found))[-1]
    assert "gives no finite picture of any photograph" in refuse(
        row(tau=0.0, diverged=True, comparable=False)
    )


def test_the_level_at_which_it_goes_wrong_is_the_first_below_the_bound():
    levels = {
        "level3_decoded": np.linspace(-5, 5, 4 * 12 * 4, dtype=np.float32).reshape(4, 12, 2, 2)
    }
    levels["level2_decoded"] = np.linspace(-1, 1, 4 * 6 * 16, dtype=np.float32).reshape(4, 6, 4, 4)
    sr = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    wrong = {**levels, "level2_decoded": levels["level2_decoded"] + 0.1, "sr": sr + 0.05}
    found = rows_of(wrong, {**levels, "sr": sr})[0]
    assert list(found.levels_db) == [3, 2, 1]
    assert found.levels_db[3] == 200
    assert found.levels_db[2] < 20
    assert "it goes wrong at level 2" in refuse(row(psnr_db=30.0, levels_db=found.levels_db))
    assert found.worst_level == min(found.levels_db, key=found.levels_db.get)


def test_the_worst_row_is_named_with_its_photograph_and_tau():
    message = refuse(
        row(psnr_db=49.0),
        row(psnr_db=45.0, photo="sky", tau=1.0, graph="encoder+sampler"),
        row(),
    )
    assert message.startswith(
        "encoder+sampler at tau 1 on the photograph 'sky': 45.0 dB against the checkpoint's"
    )
    check([row(psnr_db=50.0)], bound_db=50, reference="it")


def checked(*rows, own):
    return check(rows, bound_db=90, reference="the network", own=lambda _: own)


def test_below_the_bound_graphs_may_be_as_far_from_the_network_as_itself_and_a_margin():
    (found,) = checked(row(psnr_db=70.0), own=row(psnr_db=70.0 + MARGIN_DB))
    assert found.own_db == 70 + MARGIN_DB
    with pytest.raises(ExportError, match=r"69\.0 dB against the network, but 70 dB are needed"):
        checked(row(psnr_db=69.0), own=row(psnr_db=70.0 + MARGIN_DB))
    assert checked(row(), own=None)[0].own_db is None


def test_values_that_are_not_finite_are_excused_where_the_network_itself_has_some():
    overflow = row(nonfinite=3, psnr_db=-200.0)
    found = checked(row(), overflow, own=overflow)
    assert found[1].own_db == -200
    with pytest.raises(ExportError, match="3 values are not finite, unlike those of the network"):
        checked(row(), overflow, own=row(psnr_db=20.0))
    with pytest.raises(
        ExportError, match=r"gives no finite picture in this precision.*--precision fp32"
    ):
        checked(overflow, own=overflow)


def test_pictures_a_thousand_times_out_of_range_are_compared_where_there_are_no_others():
    wild = row(diverged=True, psnr_db=60.0)
    assert checked(row(), wild, own=None)
    with pytest.raises(ExportError, match=r"60\.0 dB"):
        checked(wild, own=None)


@pytest.mark.parametrize(
    ("diverging", "wanted", "expected"),
    [
        ((), 0.8, 0.8),
        ((1.0,), 0.8, 0.8),
        ((0.8, 1.0), 0.8, 0.5),
        ((0.5, 0.8, 1.0), 0.8, 0.0),
        ((0.8, 1.0), 0.7, 0.5),
    ],
)
def test_the_default_tau_is_the_largest_up_to_the_wanted_one_at_which_nothing_diverges(
    diverging, wanted, expected
):
    rows = [row(tau=tau, diverged=tau in diverging) for tau in (0.0, 0.5, 0.8, 1.0)]
    assert tau_of_finite_pictures(rows, wanted) == expected
