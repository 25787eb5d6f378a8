"""Content transfer: part of one picture put into another, and made to look as if it had always been there."""
