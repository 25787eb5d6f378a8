"""The gate of every export: a bundle's graphs beside the torch network, on real photographs."""
