"""Work spread over processes: in order, whatever dies."""

from __future__ import annotations

import os
import signal
import time

import pytest

from medssl.parallel import ordered_map


def square(item: int) -> int:
    if item < 0:
        raise ValueError(item)
    time.sleep(0.002 * (item % 3))
    return item * item


def fatal(item: int) -> int:
    if item in (5, 17):
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.parametrize("executor", ["serial", "process"])
def test_results_come_in_order(executor: str) -> None:
    done = ordered_map(square, range(40), executor=executor, workers=2, progress=False)  # type: ignore[arg-type]
    assert list(done) == [i * i for i in range(40)]


def test_an_item_that_ends_its_worker_costs_no_other_its_result() -> None:
    done = ordered_map(fatal, range(20), executor="process", workers=2, progress=False, died=-1)
    assert list(done) == [-1 if i in (5, 17) else i * i for i in range(20)]


def test_a_dead_worker_is_an_error_where_nothing_stands_for_its_result() -> None:
    with pytest.raises(RuntimeError, match="some work: a worker process died"):
        list(ordered_map(fatal, range(8), executor="process", workers=2, progress=False, label="some work"))


def test_errors_of_the_work_itself_pass() -> None:
    with pytest.raises(ValueError, match="-1"):
        list(ordered_map(square, [1, -1, 2], executor="process", workers=2, progress=False))
