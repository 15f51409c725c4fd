"""The array that a lock gives: it knows the arrays made of it, so that all become read-only when the lock closes."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np


class SurfaceView(np.ndarray[Any, np.dtype[Any]]):
    """Bytes of a locked surface, or an array made of them (slice, reshape, view, also a result computed from them)."""

    _family: WeakValueDictionary[int, SurfaceView] | None
    """All of one lock, by ``id``; weakly, since an array that is gone needs no closing."""

    @classmethod
    def of(cls, memory: memoryview) -> SurfaceView:
        view: SurfaceView = cls(memory.nbytes, np.uint8, memory)
        view.setflags(write=not memory.readonly)
        view._family = WeakValueDictionary({id(view): view})
        return view

    def __array_finalize__(self, source: object) -> None:
        self._family = getattr(source, "_family", None)
        if self._family is not None:
            self._family[id(self)] = self

    def close(self) -> None:
        """Everything that shows this memory is read-only from now on; copies and results are left alone."""
        for array in list((self._family or {}).values()):
            if np.may_share_memory(array, self):
                array.setflags(write=False)
