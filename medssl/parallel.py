"""One way to spread work over items: an ordered map, in this process, in a pool of processes or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from itertools import islice
from typing import Any, Literal, TypeVar

from threadpoolctl import ThreadpoolController, threadpool_limits
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")
Kind = Literal["serial", "process", "dask"]


def cores() -> int:
    """Return how many cores this process may use, which a scheduler may make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    died: Result | None = None,
    at_once: int = 1,
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of ``items``, with a progress bar.

    At most four batches per worker are in flight, so that memory does not grow with their number. Results come in
    order whatever the executor, so nothing downstream depends on the worker count.

    A worker process that dies (killed, out of memory, a fault in a compiled library) costs no other item its result:
    what was under way is tried again, and an item that ends its worker each time yields ``died``.

    Args:
        function: of the module level, where it goes to other processes.
        items: picklable likewise.
        executor: ``dask`` takes the cluster at ``address``, or starts one of ``workers`` processes on this machine.
        address: of a Dask scheduler, such as ``tcp://10.0.0.1:8786``.
        label, total, progress: of the bar.
        died: stands for a result that no worker lives to give.
        at_once: items that a worker is given in one batch, where each takes little time.

    Raises:
        RuntimeError: a worker died each time, and ``died`` is None.
    """
    with tqdm(total=total, desc=label, disable=None if progress else True, leave=False) as bar:
        if executor == "serial" or (executor == "process" and workers == 1):
            blas = ThreadpoolController()
            for item in items:
                with blas.limit(limits=1):
                    result = function(item)
                yield result
                bar.update()
            return
        batches = iter(items)
        waiting: Waiting = deque()
        with closing(
            _Pool(function, workers) if executor == "process" else _Cluster(function, workers, address)
        ) as work:
            while True:
                while len(waiting) < 4 * workers and (batch := list(islice(batches, at_once))):
                    waiting.append((batch, work.submit(batch)))
                if not waiting:
                    return
                for result in work.result(waiting):
                    if result is DEAD:
                        if died is None:
                            raise RuntimeError(f"{label}: a worker process died; it may need more memory")
                        result = died
                    yield result
                    bar.update()


DEAD: Any = object()  # in place of a result: the item ends its worker each time
Waiting = deque[tuple[list[Any], "Future[list[Any]]"]]  # batches under way, the first one first


def _each(function: Callable[[Item], Result], batch: list[Item]) -> list[Result]:
    """Return the results of a batch. Runs in a worker."""
    return [function(item) for item in batch]


class _Pool:
    """Processes of this machine, replaced when one of them dies."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self.function, self.workers = function, workers
        self.pool = self._fresh(workers)

    def _fresh(self, workers: int) -> ProcessPoolExecutor:
        # A forked child of a process that has threads (BLAS, torch) can deadlock. The server that forks has none, and
        # imports once for all workers; where there is no fork, each starts from nothing.
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            context.set_forkserver_preload([str(getattr(self.function, "func", self.function).__module__)])
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def submit(self, batch: list[Any]) -> Future[list[Any]]:
        try:
            return self.pool.submit(_each, self.function, batch)
        except BrokenProcessPool as error:  # the next call to `result` will replace it
            broken: Future[list[Any]] = Future()
            broken.set_exception(error)
            return broken

    def result(self, waiting: Waiting) -> list[Any]:
        """Return the results of the batch that waits first."""
        if not isinstance(waiting[0][1].exception(), BrokenProcessPool):
            return waiting.popleft()[1].result()
        # Which of those under way ended the process is unknown, so each that has no result is tried by itself.
        self.close()
        self.pool = self._fresh(1)
        for place, (batch, future) in enumerate(waiting):
            if not future.done() or future.cancelled() or isinstance(future.exception(), BrokenProcessPool):
                waiting[place] = (batch, self._alone(batch))
        self.pool.shutdown()
        self.pool = self._fresh(self.workers)
        return waiting.popleft()[1].result()

    def _alone(self, batch: list[Any]) -> Future[list[Any]]:
        """Return the results of a batch, item by item in the one worker of the pool, or what says that it died."""
        done: Future[list[Any]] = Future()
        results = []
        try:
            for item in batch:
                try:
                    results.append(self.pool.submit(self.function, item).result())
                except BrokenProcessPool:
                    self.pool = self._fresh(1)
                    results.append(DEAD)
            done.set_result(results)
        except Exception as error:
            done.set_exception(error)
        return done


def _start_worker() -> None:
    """Have this worker end when its parent is killed, as it would wait for work for ever, and take one core.

    BLAS on every core is of no use to pieces this small, and workers whose BLAS does so wait for one another: two of
    them were slower than one.
    """
    threadpool_limits(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Cluster:
    """A Dask cluster, by its address or of this machine; it replaces its dead workers itself."""

    def __init__(self, function: Callable[[Any], Any], workers: int, address: str | None) -> None:
        try:
            from distributed import Client, KilledWorker, LocalCluster
        except ImportError:
            raise ValueError("compute.executor = dask needs dask; install medssl[dask], or take process") from None
        self.function, self.killed, self.stack = function, KilledWorker, ExitStack()
        local = {"n_workers": workers, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
        cluster = self.stack.enter_context(LocalCluster(**local)) if address is None else address
        self.client = self.stack.enter_context(Client(cluster))

    def close(self) -> None:
        self.stack.close()

    def submit(self, batch: list[Any]) -> Future[list[Any]]:
        # pure=False: two equal items are two pieces of work, and nothing is looked up by its hash.
        return self.client.submit(_each, self.function, batch, pure=False)

    def result(self, waiting: Waiting) -> list[Any]:
        """Return the results of the batch that waits first."""
        batch, future = waiting.popleft()
        try:
            return future.result()
        except self.killed:
            if len(batch) == 1:
                return [DEAD]
        return [self.result(deque([([item], self.submit([item]))]))[0] for item in batch]
