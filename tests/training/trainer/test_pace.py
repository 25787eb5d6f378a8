"""A run's pace: the number of CPU threads whose steps are fastest, timed on the run's own steps, and estimates."""

import pytest
import torch

from srflow_training.hardware import Pace


class Machine:
    """A clock, and how long a step takes with each number of threads."""

    def __init__(self, **seconds):
        self.now = 0.0
        self.seconds = {int(count.removeprefix("t")): value for count, value in seconds.items()}
        self.lines = []
        self.used = []

    def run(self, pace, steps):
        self.used.clear()
        for _ in range(steps):
            with pace.timed(left=3600):
                self.used.append(torch.get_num_threads())
                self.now += self.seconds[self.used[-1]]
        return self.used

    def pace(self, *counts):
        return Pace(list(counts), self.lines.append, clock=lambda: self.now)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_fastest_number_of_threads_is_chosen_from_the_runs_own_steps():
    machine = Machine(t1=1.0, t2=0.6, t4=0.5)
    assert machine.run(machine.pace(1, 2, 4), 10) == [1, 1, 2, 4, 2, 4, 4, 4, 4, 4]
    assert machine.lines == [
        "the other 3,600 iterations take about 1.0 hours with 1 thread",
        "threads: 4 (a step takes 1 s with 1, 0.6 s with 2, 0.5 s with 4); the other iterations take about 30 minutes",
    ]


def test_threads_that_wait_for_another_program_are_tried_once():
    machine = Machine(t1=1.0, t2=20.0)
    assert machine.run(machine.pace(1, 2), 6) == [1, 1, 2, 1, 1, 1]
    assert "threads: 1" in machine.lines[-1]


def test_they_are_timed_again_when_steps_become_slower_or_after_a_while():
    machine = Machine(t1=1.0, t2=0.6)
    pace = machine.pace(1, 2)
    machine.run(pace, 20)
    machine.seconds[2] = 9.0  # another program begins
    assert machine.run(pace, 20)[-8:] == [1] * 8
    assert "threads: 1" in machine.lines[-1]
    machine.seconds[2] = 0.6  # it has ended
    assert machine.run(pace, 320)[-1] == 2
    assert len(machine.lines) == 4


def test_a_number_that_the_user_set_stays():
    machine = Machine(t1=1.0)
    assert set(machine.run(machine.pace(), 400)) == {1}
    assert machine.lines == ["the other 3,600 iterations take about 1.0 hours"]


def test_a_difference_that_is_noise_changes_nothing_and_is_looked_at_less_and_less():
    machine = Machine(t1=1.0, t2=0.9)
    with machine.pace(1, 2) as pace:
        machine.run(pace, 400)
        machine.seconds[1] = 0.85
        assert machine.run(pace, 3000).count(1) < 10
    assert torch.get_num_threads() == 1
    assert len(machine.lines) == 2
