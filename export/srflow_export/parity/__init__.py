"""The gate of every export: compare a bundle's graphs with the torch network on patches of real photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srflow_sdk._lazy_names import lazy_names

if TYPE_CHECKING:
    from srflow_export.parity._compare import compare
    from srflow_export.parity._gate import min_psnr_db, prove, prove_fused, prove_int8_encoder, tau_of_finite_pictures
    from srflow_export.parity._inverse import InverseRow, inverse_table, poor_round_trip, prove_inverse
    from srflow_export.parity._measure import ParityRow
    from srflow_export.parity._photos import LrPhoto, photographs

__all__ = [
    "InverseRow",
    "LrPhoto",
    "ParityRow",
    "compare",
    "inverse_table",
    "min_psnr_db",
    "photographs",
    "poor_round_trip",
    "prove",
    "prove_fused",
    "prove_int8_encoder",
    "prove_inverse",
    "tau_of_finite_pictures",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "InverseRow": "_inverse",
        "LrPhoto": "_photos",
        "ParityRow": "_measure",
        "compare": "_compare",
        "inverse_table": "_inverse",
        "min_psnr_db": "_gate",
        "photographs": "_photos",
        "poor_round_trip": "_inverse",
        "prove": "_gate",
        "prove_fused": "_gate",
        "prove_int8_encoder": "_gate",
        "prove_inverse": "_inverse",
        "tau_of_finite_pictures": "_gate",
    },
)
