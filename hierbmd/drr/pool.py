"""The threads that compiled kernels share."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache


@lru_cache(maxsize=4)
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads for kernels that release the interpreter, made once for each count.

    Threads of our own work below forked data loaders and in several callers at once, where numba's own layers abort the
    process. A forked child makes its own: it has the parent's pool but none of its threads.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix="hierbmd-drr")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)
