"""The gate of every export: a bundle's graphs against the torch network, on patches of real photographs."""
