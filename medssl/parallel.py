"""One way to spread work over items: an ordered map, in this process, in a pool of processes or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any, Literal, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")
Kind = Literal["serial", "process", "dask"]


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    executor: Kind = "serial",
    workers: int = 1,
    address: str | None = None,
    label: str = "",
    total: int | None = None,
    progress: bool = True,
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of ``items``, with a progress bar.

    At most four items per worker are in flight, so that memory does not grow with their number. Results come in
    order whatever the executor, so nothing downstream depends on the worker count.

    Args:
        function: of the module level, where it goes to other processes.
        items: picklable likewise.
        executor: ``dask`` takes the cluster at ``address``, or starts one of ``workers`` processes on this machine.
        workers: processes.
        address: of a Dask scheduler, such as ``tcp://10.0.0.1:8786``.
        label, total, progress: of the bar.
    """
    bar = tqdm(total=total, desc=label, disable=None if progress else True, leave=False)
    with bar:
        if executor == "serial" or (executor == "process" and workers == 1):
            for item in items:
                yield function(item)
                bar.update()
            return
        with ExitStack() as stack:
            submit = _submitter(executor, workers, address, stack)
            waiting: deque[Any] = deque()
            for item in items:
                waiting.append(submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()


def _submitter(executor: Kind, workers: int, address: str | None, stack: ExitStack) -> Callable[..., Any]:
    """Open a pool or a cluster, to be closed by ``stack``, and return its way to take work."""
    if executor == "process":
        # spawn: a forked child of a process that has threads (BLAS, torch) can deadlock.
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        return stack.enter_context(pool).submit
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError("compute.executor = dask needs dask; install medssl[dask], or take process") from None
    cluster: Any = address
    if address is None:
        cluster = stack.enter_context(
            LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
        )
    client = stack.enter_context(Client(cluster))
    # pure=False: two equal items are two pieces of work, and nothing is looked up by its hash.
    return lambda function, item: client.submit(function, item, pure=False)
