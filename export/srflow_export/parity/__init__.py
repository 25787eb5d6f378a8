"""The gate of every export: compare a bundle's graphs with the torch network on patches of real
photographs.
"""
