"""One model: its bundle and manifest, its engines and graphs, and which of the embedded ones suits
a picture.
"""
