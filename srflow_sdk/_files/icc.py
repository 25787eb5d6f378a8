"""ICC profiles, as far as their header tells (ICC.1:2022, section 7.2)."""

from __future__ import annotations

HEADER_BYTES = 128
"""The tag table follows."""

VIPS_FIELD = "icc-profile-data"
"""libvips' name for an image's profile."""


def colour_space(profile: bytes) -> bytes | None:
    """The space of the values, e.g. b"RGB " or b"GRAY"; None if this is no profile or has no room for a tag."""
    if len(profile) <= HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    return profile[16:20]


def declared_bytes(profile: bytes) -> int:
    """How long the profile says that it is."""
    return int.from_bytes(profile[:4], "big")
