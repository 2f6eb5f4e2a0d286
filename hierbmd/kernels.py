"""How loops are compiled: one way for the projector's kernels, the regions' and the simulation's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba as nb
from numba.core.caching import FunctionCache

_LOG = logging.getLogger(__name__)
_SETTINGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


class _RoomPermitting(FunctionCache):
    """numba's cache of one kernel, where a full disk costs the next process the compilation and this one nothing."""

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_once(self.cache_path, error.strerror or str(error))


@cache
def _say_once(folder: str, reason: str) -> None:
    _LOG.info("compiled kernels cannot be kept in %s (%s): the next process compiles again", folder, reason)


def compiled(function: Callable[..., Any]) -> Any:
    """A kernel, compiled when it is first called and cached on disk where any folder for that can be written."""
    kernel = nb.njit(**_SETTINGS)(function)
    try:
        kernel._cache = _RoomPermitting(kernel.py_func)  # as numba's `enable_caching` does with its own class
    except RuntimeError:
        # numba finds no folder to write to (a read-only installation without a home): compile anew each time.
        return kernel
    return kernel
