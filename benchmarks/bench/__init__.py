"""What `make bench` runs: every claim about speed and memory on a CPU.

    python -m benchmarks.bench                      all parts; prints tables, writes build/bench/performance.json
    python -m benchmarks.bench --only competitors   one part
    python -m benchmarks.bench --quick              small sizes and tiny networks, to try it
    python -m benchmarks.bench --write              also writes these tables and docs/performance.json (make bench)

Where a change belongs:

| change | where |
|---|---|
| a new part, or how long a part may take | `parts.py`; a module with `run(settings)` and `tables(result)` |
| a variant of the network, a runtime, a precision | `variants.py`, which the child processes run |
| which sizes, samples and threads are compared | `side_by_side.py` |
| a tool that users would run instead | `competitors.py`, and `other_tools.py`, which runs it in a child process |
| the convolution rate of this processor, and the share of it | `limit.py`; the convolution itself in `convolution.py` |
| how time and memory grow | `growth.py`; straight lines in `fits.py` |
| start-up and loading | `startup.py` |
| an aim | `aims.py` |
| how tables reach the pages | `page.py` |
| networks with random weights, and their cache | `networks.py` |
| processes, times and peaks of memory | `worker.py` (here) and `child.py` (there) |
"""
