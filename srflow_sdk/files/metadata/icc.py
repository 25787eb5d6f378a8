"""The header of ICC profiles (ICC.1:2022, section 7.2)."""

from __future__ import annotations

HEADER_BYTES = 128
"""Length of the header; the tag table follows."""

VIPS_FIELD = "icc-profile-data"
"""libvips' name for an image's profile."""


def colour_space(profile: bytes) -> bytes | None:
    """The values' colour space, e.g. b"RGB " or b"GRAY"; None if this is not a profile or has no room for a tag."""
    if len(profile) <= HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    return profile[16:20]


def declared_bytes(profile: bytes) -> int:
    """The length in bytes that the profile declares."""
    return int.from_bytes(profile[:4], "big")
