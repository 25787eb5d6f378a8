"""What `make bench` runs: speed and memory on a CPU, beside other programs.

    python -m benchmarks.bench                      all parts; prints, writes build/bench/
    python -m benchmarks.bench --only competitors   one part
    python -m benchmarks.bench --quick              small sizes and tiny networks, to try it
    python -m benchmarks.bench --write              also writes tables and figures into docs/

A part is a module with `run(settings)`, which measures, and `tables(result)`, which makes Markdown
of that: `startup`, `competitors`, `growth`, `side_by_side`; `parts.py` lists them, and puts their
tables into pages. What they measure runs in processes of its own (`processes.py`, `variants.py`).
`networks.py` makes networks with random weights.
"""
