"""The lane on which weight gradients are computed: beside the device, or in line where there is nothing to gain."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from anetrain.account import Account


class Lane:
    """Tasks run in the order in which they came, so results never depend on timing. `overlaps`: on a thread of their
    own. What they take of the caller's time goes to its account: "weight_gradients" in line, else "waiting" for them.
    """

    def __init__(self, overlaps: bool, account: Account | None = None) -> None:
        self.overlaps, self.account = overlaps, account or Account()
        self._pool = ThreadPoolExecutor(1, "anetrain-weight-gradients") if overlaps else None
        self._running: deque[Future[object]] = deque()

    def submit(self, task: Callable[[], object]) -> None:
        if self._pool is None:
            with self.account.part("weight_gradients"):
                task()
        else:
            self._running.append(self._pool.submit(task))

    def wait(self, unfinished: int = 0) -> None:
        """Until at most so many tasks are left. An exception of a task is raised here."""
        with self.account.part("waiting"):
            while len(self._running) > unfinished:
                self._running[0].result()  # a task stays in the queue until it has ended, whatever interrupts us
                self._running.popleft()

    def drain(self) -> None:
        """Until nothing runs any more, whatever became of it: for a group that is dropped."""
        with self.account.part("waiting"):
            while self._running:
                self._running[0].exception()
                self._running.popleft()

    def close(self) -> None:
        self.drain()
        if self._pool is not None:
            self._pool.shutdown()
