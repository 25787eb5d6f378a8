"""How far apart two pictures of one network may be: image-space PSNR in dB, for exports, backends and the doctor.

They are what healthy networks reach. One that multiplies rounding is further from itself. An export then takes the
network itself, in the same arithmetic, as its bound (srflow_export.parity), and is not refused; a backend's bound is
what the export wrote of that into the manifest. The doctor upscales with an embedded model: it judges the machine.
"""

FLOAT32_DB = 90.0
"""At least this much between two float32 results: what an export in float32 must reach."""

LEAST_DB = 38.0
"""Below this they are different pictures: what an export in the coarsest precision must reach. A network that is
further off in int8 is one for a finer precision: it gets no int8 encoder. In bf16 its own pictures are the bound."""

FINE_DB = 43.0
"""A difference that is hard to see even beside the float32 picture: int8 encoders of trained networks reach it.
Only bundles whose export recorded it are held to it, so it judges no network."""
