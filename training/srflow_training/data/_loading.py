"""Prepare batches ahead of training, in worker processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from srflow_sdk.errors import SRFlowError
from srflow_training.data._crops import Batch, Crops, Levels


def loader(crops: Crops, *, start: int, workers: int) -> Iterator[Batch]:
    """Yield the batches of iterations start, start + 1, … up to the last one, in order.

    workers: processes that prepare batches, two ahead and with one thread each, at most one per core; 0: this process
    prepares each batch when asked. The batches are the same for any number. Each problem found is reported once,
    through `Photos.report`.

    Raises: the SRFlowError raised while preparing a batch, e.g. ImageError if no photograph can be decoded.
    """
    workers = min(workers, _cores())
    batches = DataLoader(
        _Outcomes(crops),
        batch_size=None,
        sampler=range(start, len(crops)),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),  # lets copies to a GPU overlap with its work
        worker_init_fn=_leave_interrupts_to_the_main_process,
        generator=torch.Generator(),  # otherwise it draws from PyTorch's global one, which training may use
    )
    reported: set[str] = set()
    for outcome in batches:
        if isinstance(outcome, SRFlowError):
            raise outcome
        for problem in outcome.problems:
            if problem not in reported:
                reported.add(problem)
                crops.photos.report(problem)
        yield outcome.batch() if isinstance(outcome, Levels) else outcome


class _Outcomes(Dataset[Levels | SRFlowError]):
    """Returns errors as values, because a DataLoader would put their traceback into their message."""

    def __init__(self, crops: Crops) -> None:
        self.crops = crops

    def __getitem__(self, iteration: int) -> Levels | SRFlowError:
        try:
            return self.crops.levels(iteration)
        except SRFlowError as error:
            return error


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_GRACE_S = 60


def _leave_interrupts_to_the_main_process(_worker: int) -> None:
    """Terminals, Slurm and systemd send a signal to all processes of a run. The main one ends its step and saves it.

    Until then it needs the workers, which it stops itself. One that it cannot stop ends after a minute.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows, which has no such signals
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, lambda *_: signal.alarm(_GRACE_S))  # ends the process unless it is handled
