"""Uses that only a flow has: invert pictures, restore them, transfer content, choose the best of
several samples.
"""
