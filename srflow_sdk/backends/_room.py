"""True if there is address space for the work, before it begins."""

from __future__ import annotations

import os
import sys

from srflow_sdk.system.memory import check_address_space

# Where less is left, upscaling a file works sometimes, and sometimes a library ends the process: measured with the
# embedded model, for 1 and 2 threads. Most of it is only reserved, for the stacks and heaps of threads.
_ADDRESS_SPACE, _ADDRESS_SPACE_PER_THREAD = 750_000_000, 200_000_000
# Restoring 900×900 pixels with 2 threads: 1.4 GB were too little, 1.5 GB enough.
_ADDRESS_SPACE_TO_RESTORE = 1_100_000_000


def check_room(threads: int | None, *, restoring: bool = False) -> None:
    """Raises: DeviceError unless there is address space to upscale files, or to restore them, with so many threads."""
    count = min(threads or sys.maxsize, os.cpu_count() or 1)
    what = f"this command with {count} {'thread' if count == 1 else 'threads'}"
    fixed = _ADDRESS_SPACE_TO_RESTORE if restoring else _ADDRESS_SPACE
    check_address_space(fixed + count * _ADDRESS_SPACE_PER_THREAD, what)
