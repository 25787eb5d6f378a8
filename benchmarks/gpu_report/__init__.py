"""What `make gpu-report` runs: a verdict on a machine with an NVIDIA GPU, in one file.

    python -m benchmarks.gpu_report gpu-report.md           at full size
    python -m benchmarks.gpu_report gpu-report.md --quick   tiny: does everything run?

A check is a function that returns rows of a table (`checks.py`). `report.py` runs them in the order
of their importance, each engine's in a process of its own, and writes what they find at once.
`network.py` has the network and what the CPU makes of it; `torch_engine.py` has our kernels and the
exported graphs in torch, and `sdk_engine.py` the SDK's engines. An engine that is not installed is
a row, not an error.
"""
