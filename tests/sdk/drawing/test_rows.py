from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pytest

from srflow_sdk.drawing.low_resolution import RowBuffer

PIXELS = np.arange(40 * 3 * 2).reshape(40, 3, 2).astype(np.uint8)


class Decoder:
    def __init__(self) -> None:
        self.row = 0
        self.threads: set[str] = set()
        self.ahead = threading.Event()

    def read(self, count: int) -> np.ndarray:
        self.threads.add(threading.current_thread().name)
        self.row += count
        assert self.row <= 40, "no more rows than there are"
        if self.row >= 12:
            self.ahead.set()
        return PIXELS[self.row - count : self.row]


@pytest.mark.parametrize("ahead", [1, 7, 40, 1000])
def test_streamed_rows_are_the_images(ahead: int) -> None:
    with closing(RowBuffer(Decoder().read, height=40, ahead=ahead)) as rows:
        for top, bottom, forget in [(0, 9, 0), (3, 12, 5), (5, 30, 20), (20, 40, 39), (39, 40, 40)]:
            np.testing.assert_array_equal(rows.rows(top, bottom), PIXELS[top:bottom])
            rows.forget(forget)


def test_rows_are_decoded_ahead_in_another_thread() -> None:
    decoder = Decoder()
    with closing(RowBuffer(decoder.read, height=40, ahead=8)) as rows:
        rows.rows(0, 4)
        assert decoder.ahead.wait(30)
    assert threading.current_thread().name not in decoder.threads


def test_an_error_of_the_decoder_reaches_the_reader() -> None:
    def fail(count: int) -> np.ndarray:
        raise ValueError("damaged")

    with closing(RowBuffer(fail, height=40, ahead=8)) as rows, pytest.raises(ValueError, match="damaged"):
        rows.rows(0, 4)


def test_many_threads_read_the_same_rows() -> None:
    wrong = []
    with closing(RowBuffer(Decoder().read, height=40, ahead=3)) as rows:

        def read() -> None:
            wrong.extend(
                top for top in range(0, 36, 4) if not np.array_equal(rows.rows(top, top + 4), PIXELS[top : top + 4])
            )

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_forgotten_rows_are_gone_and_their_memory_with_them() -> None:
    buffer = RowBuffer()
    buffer.append(PIXELS[:20])
    buffer.append(PIXELS[20:30])
    buffer.forget(18)
    assert buffer.bottom == 30
    np.testing.assert_array_equal(buffer.rows(18, 30), PIXELS[18:30])
    assert buffer.rows(18, 30).base.nbytes == PIXELS[18:30].nbytes
    with pytest.raises(IndexError):
        buffer.rows(17, 20)
    with pytest.raises(IndexError):
        buffer.rows(18, 31)


def test_what_failed_fails_again_for_everyone_who_asks() -> None:
    requests = []

    def fail(count: int) -> np.ndarray:
        requests.append(count)
        raise ValueError("damaged")

    with closing(RowBuffer(fail, height=40, ahead=40)) as rows:
        for _ in range(3):
            with pytest.raises(ValueError, match="damaged"):
                rows.rows(0, 4)
    assert requests == [40]
