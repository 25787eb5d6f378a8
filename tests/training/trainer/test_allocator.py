"""Memory that a step frees stays with the process."""

import sys

import numpy as np
import pytest

from srflow_training._allocator import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="counts Linux's page faults")
def test_a_second_step_maps_no_memory_again():
    import resource

    keep_freed_memory()
    faults = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        tensors = [np.ones(3 << 20, np.uint8) for _ in range(20)]
        del tensors
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
    # the least: the system may take pages away in the meantime
    assert min(faults[1:]) < 20 * (3 << 20) / 4096 / 10  # a tenth of the pages
