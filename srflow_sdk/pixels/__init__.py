"""Pixels outside the network: colour profiles, transparency, size, consistency."""
