"""Metadata that image files hold beside their pixels: EXIF, XMP, IPTC and colour profiles."""
