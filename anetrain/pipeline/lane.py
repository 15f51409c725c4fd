"""The lane on which weight gradients are computed: beside the device, or in line where there is nothing to gain."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Lane:
    """Tasks run in the order in which they came, so results never depend on timing. `overlaps`: on an own thread."""

    def __init__(self, overlaps: bool) -> None:
        self.overlaps = overlaps
        self._pool = ThreadPoolExecutor(1, "anetrain-weight-gradients") if overlaps else None
        self._running: deque[Future[object]] = deque()
        self.waited_s = 0.0  # time spent waiting for tasks, since somebody last set it to zero

    def submit(self, task: Callable[[], object]) -> None:
        if self._pool is None:
            task()
        else:
            self._running.append(self._pool.submit(task))

    def wait(self, unfinished: int = 0) -> None:
        """Until at most so many tasks are left. An exception of a task is raised here."""
        if len(self._running) <= unfinished:
            return
        begin = time.perf_counter()
        try:
            while len(self._running) > unfinished:
                self._running.popleft().result()
        finally:
            self.waited_s += time.perf_counter() - begin

    def drain(self) -> None:
        """Until nothing runs any more, whatever became of it: for a group that is dropped."""
        while self._running:
            self._running.popleft().exception()

    def close(self) -> None:
        self.drain()
        if self._pool is not None:
            self._pool.shutdown()
