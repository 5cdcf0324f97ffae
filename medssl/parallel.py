"""One way to spread work over records: an ordered map, in this process or in a pool of processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Literal, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    executor: Literal["serial", "process"] = "serial",
    workers: int = 1,
    label: str = "",
    total: int | None = None,
    progress: bool = True,
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of ``items``, with a progress bar.

    At most four items per worker are in flight, so that memory does not grow with their number. Results come in
    order whatever the executor, so nothing downstream depends on the worker count.
    """
    bar = tqdm(total=total, desc=label, disable=None if progress else True, leave=False)
    with bar:
        if executor == "serial" or workers == 1:
            for item in items:
                yield function(item)
                bar.update()
            return
        # spawn: a forked child of a process that has threads (BLAS, torch) can deadlock.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            waiting: deque[Future[Result]] = deque()
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
