"""How far two pictures of one network may be apart: image-space PSNR in dB, for exports, backends and the doctor."""

FLOAT32_DB = 90.0
"""From here on both may be float32's: what an export in float32 must reach."""

LEAST_DB = 38.0
"""Below this they are different pictures: what an export in the coarsest precision must reach."""
