"""How far apart two pictures of one network may be: image-space PSNR in dB, for exports, backends and the doctor."""

FLOAT32_DB = 90.0
"""At least this much between two float32 results: what an export in float32 must reach."""

LEAST_DB = 38.0
"""Below this they are different pictures: what an export in the coarsest precision must reach."""

FINE_DB = 43.0
"""What is hard to see even beside the float32 picture: the int8 encoder of an embedded model reaches it."""
