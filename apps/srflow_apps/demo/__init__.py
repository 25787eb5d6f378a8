"""srflow-demo: a local page on which a photo is enlarged while its temperature, seed and crop
change.
"""
