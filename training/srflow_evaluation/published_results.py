"""The figures of the publication (and of the NTIRE 2021 challenge), for the column beside one's own figures.

SRFlow, ECCV 2020: table 1 (faces), table 2 (DIV2K) and the supplement's tables 1 and 2; NTIRE 2021, "Learning the
Super-Resolution Space", the test phase. PSNR and LR-PSNR in dB, LPIPS with AlexNet, diversity in 8-bit levels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Figures = Mapping[str, str]
"""By the metric's name, as they are printed."""

METHODS, ENCODERS, RESTORATION, SPACE = "methods", "encoders", "restoration", "space"
"""Tables: of methods; of the encoder's initialisation; of degraded pictures; of the learned super-resolution space."""

PRETRAINED, SCRATCH = "from a trained encoder", "from scratch"
DEGRADED, SUPERRESOLVED, RESTORED = "degraded", "super-resolved", "restored"
S10 = "diversity_score_lpips"
"""Lines and the diversity score that only one table has."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published figures of a data set at a scale.

    pictures: how many were measured; 0 if that is not published. what: the pictures, in words. tau: SRFlow's.
    tables: by their names, with their lines by name. side: of the square pictures; 0: they have many sizes.
    """

    scale: int
    pictures: int
    what: str
    tau: float
    tables: Mapping[str, Mapping[str, Figures]]
    side: int = 0

    def line(self, table: str, name: str, tau: object = None) -> Figures:
        """The figures to stand beside a line: a known method's by its name, SRFlow's by tau; empty if there are none.

        name: bicubic, RRDB, that of a reference's file or of another's folder, or a line's of the table; "" for none.
        tau: of a flow's line; None for another method.
        """
        lines = self.tables.get(table, {})
        if not name or name in lines:
            return lines.get(name, {})
        if tau is not None:
            return lines.get("SRFlow", {}) if tau == self.tau else {}
        return lines.get(_known_method(name), {})

    def without(self, metric: str) -> Published:
        """The same figures without those of one metric."""
        tables = {
            table: {name: {key: text for key, text in row.items() if key != metric} for name, row in lines.items()}
            for table, lines in self.tables.items()
        }
        return replace(self, tables=tables)

    def differences(
        self, *, convention: str, scale: int, reduction: str, centre: int | None, sizes: Sequence[tuple[int, int]]
    ) -> Sequence[str]:
        """Why a measurement's figures do not compare with these; empty if they do."""
        found = []
        if convention != "published":
            found.append(f"it has the {convention} convention (take --convention published)")
        if scale != self.scale:
            found.append(f"the model enlarges ×{scale}, not ×{self.scale}")
        if reduction != "bicubic":
            found.append(f"its LR images are {reduction} reductions, not bicubic ones")
        if centre is not None:
            found.append("it measures the centres of the pictures (leave out --crop)")
        if self.side and {*sizes} != {(self.side, self.side)}:
            found.append(f"its pictures are not all {self.side}×{self.side} faces, as docs/training-data.md makes them")
        pictures = len(sizes)
        if self.pictures and pictures != self.pictures:
            found.append(
                f"it measures {pictures} picture{'' if pictures == 1 else 's'}, not {self.what} "
                f"(take --pictures {self.pictures})"
            )
        return found


def _known_method(name: str) -> str:
    """RRDB_ESRGAN_x4 → ESRGAN; Real-ESRGAN and others that were not measured → ""."""
    words = re.split(r"[^A-Z]+", name.upper())
    if "REAL" in words:
        return ""
    known = {"RANKSRGAN": "RankSRGAN", "NCSR": "NCSR", "ESRGAN": "ESRGAN", "EDSR": "EDSR", "RRDB": "RRDB"}
    if "SRFLOW" in words:
        return "SRFlow-DA" if "DA" in words else ""
    return next((method for word, method in known.items() if word in words), "")


def _figures(text: str, names: str = "psnr ssim lpips lr_psnr diversity") -> Figures:
    return dict(zip(names.split(), text.split(), strict=False))


_RESTORED = "psnr ssim lpips"
_SPACE = f"lpips lr_psnr {S10}"

PUBLISHED: Mapping[str, Published] = {
    "div2k-x4": Published(
        scale=4,
        pictures=100,
        what="the 100 validation photographs of DIV2K",
        tau=0.9,
        tables={
            METHODS: {
                "bicubic": _figures("26.70 .77 .409 38.70"),
                "EDSR": _figures("28.98 .83 .270 54.89"),
                "RRDB": _figures("29.44 .84 .253 49.20"),
                "ESRGAN": _figures("26.22 .75 .124 39.03"),
                "RankSRGAN": _figures("26.55 .75 .128 42.33"),
                "SRFlow": _figures("27.09 .76 .120 49.96"),
            },
            RESTORATION: {
                DEGRADED: _figures("22.48 .49 .370", _RESTORED),
                SUPERRESOLVED: _figures("23.19 .51 .364", _RESTORED),
                RESTORED: _figures("27.81 .73 .255", _RESTORED),
            },
        },
    ),
    "div2k-x8": Published(
        scale=8,
        pictures=100,
        what="the 100 validation photographs of DIV2K",
        tau=0.9,
        tables={
            METHODS: {
                "bicubic": _figures("23.74 .63 .584 37.16"),
                "RRDB": _figures("25.50 .70 .419 45.43"),
                "ESRGAN": _figures("22.18 .58 .277 31.35"),
                "SRFlow": _figures("23.05 .57 .272 50.00"),
            },
        },
    ),
    "celeba-x8": Published(
        scale=8,
        pictures=5000,
        what="5,000 test faces of CelebA",
        tau=0.8,
        side=160,
        tables={
            METHODS: {
                "bicubic": _figures("23.15 .63 .517 35.19"),
                "RRDB": _figures("26.59 .77 .230 48.22"),
                "ESRGAN": _figures("22.88 .63 .120 34.04"),
                "SRFlow": _figures("25.24 .71 .110 50.85 5.21"),
            },
            ENCODERS: {
                PRETRAINED: _figures("25.24 .71 .110"),
                SCRATCH: _figures("25.06 .70 .108"),
            },
            RESTORATION: {
                DEGRADED: _figures("22.52 .48 .326", _RESTORED),
                SUPERRESOLVED: _figures("24.25 .63 .172", _RESTORED),
                RESTORED: _figures("27.62 .78 .143", _RESTORED),
            },
        },
    ),
    "ntire21-x4": Published(
        scale=4,
        pictures=0,
        what="the challenge's test photographs",
        tau=0.9,
        tables={
            SPACE: {
                "SRFlow": _figures(".122 49.86 25.01", _SPACE),
                "SRFlow-DA": _figures(".121 50.70 23.09", _SPACE),
                "NCSR": _figures(".117 50.54 26.04", _SPACE),
                "ESRGAN": _figures(".124 38.74 0", _SPACE),
            }
        },
    ),
    "ntire21-x8": Published(
        scale=8,
        pictures=0,
        what="the challenge's test photographs",
        tau=0.9,
        tables={
            SPACE: {
                "SRFlow": _figures(".282 47.72 25.58", _SPACE),
                "NCSR": _figures(".259 48.64 26.94", _SPACE),
            }
        },
    ),
}
"""By the names that `--published` takes."""
