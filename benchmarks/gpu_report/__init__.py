"""What `make gpu-report` runs: all of this project on a machine with an NVIDIA GPU, in one file to send back.

    python -m benchmarks.gpu_report gpu-report.md           about half an hour, at full size
    python -m benchmarks.gpu_report gpu-report.md --quick   tiny networks, minutes: does everything run here?

| change | where |
|---|---|
| what is known about the card | `card.py` |
| a precision, a kind of engine, plugins | `builds.py`: its options of srflow-export, and the device that runs it |
| what is compared and timed | `pictures.py` |
| the file's text | `report.py` |

The kernels alone are built, checked against torch and timed by `benchmarks/gpu.py`, whose output the file ends with.
"""
