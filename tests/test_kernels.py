"""Loops are compiled whatever becomes of the folder that would keep them."""

from __future__ import annotations

import errno
from pathlib import Path

import hierbmd
from hierbmd.kernels import compiled


def _refuse(error):
    def refuse(*_):
        raise error

    return refuse


def test_a_kernel_is_compiled_where_no_cache_can_be_written(monkeypatch):
    no_folder = RuntimeError("cannot cache function: no locator available")
    monkeypatch.setattr("numba.core.caching.FunctionCache.__init__", _refuse(no_folder))
    assert compiled(lambda x: x + 1)(1) == 2


def test_a_kernel_runs_where_the_cache_is_full(monkeypatch, caplog):
    caplog.set_level("INFO")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", _refuse(full))
    assert compiled(lambda x: x + 1)(1) == 2
    assert "cannot be kept" in caplog.text


def test_no_other_module_has_a_way_of_its_own_to_compile():
    """numba's own cache ends a command when the disk is full."""
    package = Path(hierbmd.__file__).parent
    sources = {path.name: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [name for name, source in sources.items() if "njit" in source or "nb.jit" in source] == ["kernels.py"]
