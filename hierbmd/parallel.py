"""The one way to spread tasks: over processes, of this machine or of a Dask cluster, or over threads behind a loop."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from hierbmd.errors import BadConfig, MissingExtra, ProcessDied

Item = TypeVar("Item")
Result = TypeVar("Result")

_CONNECT_S = 10


def in_processes(
    do: Callable[[Item], Result], items: Sequence[Item], *, workers: int, limit_s: float | None = None
) -> Iterator[tuple[Item, Result | ProcessDied]]:
    """Each item with what `do` gives for it, in the order in which they are done; a ProcessDied if its process died.

    `workers` 0 takes every CPU that this process may use, and 1 works in this process unless there is a limit. An item
    that takes longer than `limit_s` has its process killed, which is a death like any other. `do` and the items are
    pickled. What `do` raises goes on to the caller, and the items not begun are left.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), max(len(items), 1))
    if workers == 1 and limit_s is None:
        for item in items:
            yield item, do(item)
        return
    # Spawned, not forked: a fork of a process whose libraries run threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPool(workers, initializer=_be_a_worker, context=context) as pool:
        # Pickled here, so that an item whose unpickling ends a process does so inside its own task.
        futures: dict[Future[Any], Item] = {
            pool.schedule(_do_pickled, args=[pickle.dumps((do, item))], timeout=limit_s): item for item in items
        }
        try:
            for future in as_completed(futures):
                yield futures[future], _result_of(future, limit_s)
        finally:
            for future in futures:
                future.cancel()


def _do_pickled(task: bytes) -> Any:
    do, item = pickle.loads(task)
    return do(item)


def _result_of(future: Future[Result], limit_s: float | None) -> Result | ProcessDied:
    try:
        return future.result()
    except ProcessExpired:
        return _died()
    except TimeoutError:
        if limit_s is None:
            raise
        return ProcessDied(
            f"it took longer than {limit_s:g} s and was stopped", mend="is a file damaged? raise the limit"
        )


def on_cluster(
    do: Callable[[Item], Result], items: Sequence[Item], *, address: str
) -> Iterator[tuple[Item, Result | ProcessDied]]:
    """As `in_processes`, on the workers of an existing Dask cluster, which see the same files.

    BadConfig when no scheduler answers at `address`; MissingExtra without dask and distributed.
    """
    try:
        from distributed import Client, KilledWorker
        from distributed import as_completed as as_cluster_completed
    except ImportError:
        raise MissingExtra("a Dask scheduler needs dask and distributed", mend="pip install hierbmd[scale]") from None
    try:
        client = Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise BadConfig(f"no Dask scheduler answers ({error})", where=address, mend="check --scheduler") from None
    with client:
        # Not pure: the files may have changed under the same names.
        futures = {client.submit(do, item, pure=False): item for item in items}
        for future in as_cluster_completed(list(futures)):
            try:
                yield futures[future], future.result()
            except KilledWorker:
                yield futures[future], _died()


def behind(tasks: Iterable[Callable[[], Result]], *, workers: int, waiting: int) -> Iterator[Result]:
    """What each task gives, in their order; threads do the tasks while the loop that makes them goes on.

    With `waiting` tasks not done the loop stops until the oldest is. What a task raises goes on to the caller when its
    turn comes; tasks in hand are then finished, and those not begun are left.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="hierbmd-behind") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(task))
                while pending and (len(pending) >= waiting or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _be_a_worker() -> None:
    """One thread, as the processes share the machine; and no life after the parent's, were it killed."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _died() -> ProcessDied:
    return ProcessDied("the process that worked on it died: a damaged file, or too little memory")
