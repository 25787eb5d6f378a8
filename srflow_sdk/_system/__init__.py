"""Operating system helpers: atomic file writes, locks, hashes. Imports nothing else from the SDK."""
