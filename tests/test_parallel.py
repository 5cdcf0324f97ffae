"""Work spread over processes: in order, whatever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

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
@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_results_come_in_order(executor: str, at_once: int) -> None:
    done = ordered_map(
        square, range(40), executor=executor, workers=2, progress=False, at_once=at_once  # type: ignore[arg-type]
    )  # fmt: skip
    assert list(done) == [i * i for i in range(40)]


@pytest.mark.parametrize("at_once", [1, 3, 20])
@pytest.mark.parametrize("executor", ["process", "dask"])
def test_an_item_that_ends_its_worker_costs_no_other_its_result(executor: str, at_once: int) -> None:
    done = ordered_map(
        fatal, range(20), executor=executor, workers=2, progress=False, died=-1, at_once=at_once  # type: ignore[arg-type]
    )  # fmt: skip
    assert list(done) == [-1 if i in (5, 17) else i * i for i in range(20)]


@pytest.mark.parametrize("at_once", [1, 5])
def test_no_more_is_taken_than_is_under_way(at_once: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 201):  # noqa: B007
            yield 0

    done = ordered_map(square, items(), executor="process", workers=2, progress=False, at_once=at_once)
    for _ in range(50):
        next(done)
    assert 50 <= taken <= 50 + 8 * at_once
    done.close()  # type: ignore[attr-defined]


def test_a_dead_worker_is_an_error_where_nothing_stands_for_its_result() -> None:
    with pytest.raises(RuntimeError, match="some work: a worker process died"):
        list(ordered_map(fatal, range(8), executor="process", workers=2, progress=False, label="some work"))


def test_errors_of_the_work_itself_pass() -> None:
    with pytest.raises(ValueError, match="-1"):
        list(ordered_map(square, [1, -1, 2], executor="process", workers=2, progress=False))
