"""Several tasks at once, bounded; the first that fails ends the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


class Stopped(Exception):  # Not an error: another task's is the one that is told.
    """This task ended because another one failed."""


def run_all(tasks: Iterable[Callable[[], None]], *, most: int, stop: threading.Event) -> None:
    """Runs every task, `most` at once, and returns when all have ended.

    The first error is raised; it sets `stop`, which every task looks at and raises Stopped for.
    """
    waiting = _Shared(iter(tasks))
    if most == 1:
        _work(waiting, stop)
        return
    with ThreadPoolExecutor(max_workers=most, thread_name_prefix="fetch") as pool:
        results = [pool.submit(_work, waiting, stop) for _ in range(most)]
    errors = [error for result in results if (error := result.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _work(waiting: Iterator[Callable[[], None]], stop: threading.Event) -> None:
    try:
        for task in waiting:
            if stop.is_set():
                raise Stopped
            task()
    except BaseException:  # Whatever it was, the others must not go on for nothing.
        stop.set()
        raise


class _Shared:
    """An iterator that several threads may ask."""

    def __init__(self, tasks: Iterator[Callable[[], None]]) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Callable[[], None]]:
        return self

    def __next__(self) -> Callable[[], None]:
        with self._lock:
            return next(self._tasks)
