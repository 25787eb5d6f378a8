"""How the threads of OpenMP, torch's among them, wait for work."""

from __future__ import annotations

import os


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, for a command that may run beside other work.

    They spin otherwise, which makes such a command several times slower on a busy machine. OpenMP reads this when it is
    loaded, so call it before the first import of torch. A policy that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
