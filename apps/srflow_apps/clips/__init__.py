"""Enlarges clips: reads and writes them with PyAV, in segments that are jobs of a batch."""
