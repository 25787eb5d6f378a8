"""Load on a server: clients that ask for pictures of mixed sizes, and compare every answer with the
local one."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from srflow_sdk.upscaler import Upscaler
from tests.tritonserver.asking import ask
from tests.tritonserver.server import Server

SIZES = ((16, 16), (16, 16), (24, 32), (24, 32), (40, 56), (64, 48))
"""Heights and widths of the pictures; some twice, so that equal tiles meet."""

_SEEDS = 3


@dataclass(frozen=True)
class Question:
    """A picture to ask for, and what the answer must be."""

    image: np.ndarray
    seed: int
    answer: np.ndarray


@dataclass
class Load:
    """What happened. seconds: of each answer, in the order in which they came. memory: bytes, once
    a second."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    duration: float = 0.0

    def growth(self) -> float:
        """How much larger the memory's median was in the last quarter of the time than in the
        second one."""
        quarter = max(len(self.memory) // 4, 1)
        return (
            statistics.median(self.memory[-quarter:])
            / statistics.median(self.memory[quarter : 2 * quarter])
            - 1
        )


def questions(upscaler: Upscaler) -> list[Question]:
    """Noise of every size with several seeds, answered by the SDK in this process."""
    generator = np.random.default_rng(0)
    found = []
    for height, width in SIZES:
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        found += [
            Question(image, seed, upscaler.upscale(image, seed=seed)) for seed in range(_SEEDS)
        ]
    return found


def served(
    server: Server,
    asked: Sequence[Question],
    *,
    clients: int,
    seconds: float = math.inf,
    answers: float = math.inf,
) -> Load:
    """The same pictures from a server, by this many clients at a time.

    Until so many seconds have passed, or so many answers have come.
    """
    load = Load()
    ended = threading.Event()
    lock = threading.Lock()

    def client(number: int) -> None:
        for question in _for_ever(asked, number):
            if ended.is_set():
                return
            before = time.perf_counter()
            try:
                (answer,) = ask(server.grpc, image=question.image, seed=question.seed)["upscaled"]
                wrong = "" if np.array_equal(answer, question.answer) else "another picture"
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            with lock:
                load.seconds.append(time.perf_counter() - before)
                load.wrong += [wrong] if wrong else []

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(client, number) for number in range(clients)]
        while time.perf_counter() - start < seconds and len(load.seconds) < answers:
            load.memory.append(server.memory())
            ended.wait(1)
        ended.set()
        for work in working:
            work.result()
    load.duration = time.perf_counter() - start
    return load


def _for_ever(asked: Sequence[Question], first: int) -> Iterator[Question]:
    while True:
        yield asked[first % len(asked)]
        first += 5  # no two clients ask in the same order, and every size comes at once
