"""Memory that a step frees stays with the process."""

import subprocess
import sys

import pytest

# In a process of its own: where the heap of an older one cannot grow any more, some tensors are mapped anyway.
PROGRAM = """
import resource
import numpy as np
from srflow_training.hardware import keep_freed_memory

keep_freed_memory()
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    tensors = [np.ones(3 << 20, np.uint8) for _ in range(20)]
    del tensors
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts Linux's page faults")
def test_a_second_step_maps_no_memory_again():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    faults = [int(line) for line in done.stdout.split()]
    # the least: the system may take pages away in the meantime
    assert min(faults[1:]) < 20 * (3 << 20) / 4096 / 10  # a tenth of the pages
