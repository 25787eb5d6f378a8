"""What `make gpu-report` runs: a verdict on a machine with an NVIDIA GPU, in ten minutes and one file to send back.

    python -m benchmarks.gpu_report gpu-report.md           at full size
    python -m benchmarks.gpu_report gpu-report.md --quick   a tiny network: does everything run here?

Everything is a check: a function that returns rows of a table, each with a value, a limit and a verdict. Checks run in
the order of their importance, each engine's in a process of its own, and what they find is in the file at once. An
engine that is not installed is a row, not an error: with torch, nvcc and cuda-bindings alone, torch's graphs and our
kernels are judged.

| change | where |
|---|---|
| what is known about the card | `card.py` |
| which checks run, in which order and for how long | `order.py` |
| a check | `checks.py`; of kernels alone: `kernel_checks.py`, `drawing_checks.py`; of training: `training.py` |
| an engine, and the stages of a picture that are timed | `engines.py`, `torch_engine.py`, `sdk_engine.py` |
| the network, the pictures and what is expected of them | `network.py` |
| the kernels as torch sees them | `kernels.py` |
| rows, the file and the exit status | `rows.py` |
"""
