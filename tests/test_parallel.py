"""Tasks in processes: results by item, a death that ends no run, one thread a process, no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from hierbmd.errors import BadConfig, ProcessDied
from hierbmd.parallel import behind, in_processes, on_cluster

# What runs in another process must be importable there; this file is not, so the functions are the standard library's.
_DIVIDE = partial(divmod, 12)


class _Bomb:
    """What ends the process that unpickles it, as a decoder's crash would."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_item_comes_with_its_result(workers):
    assert dict(in_processes(_DIVIDE, [1, 5, 7], workers=workers)) == {1: (12, 0), 5: (2, 2), 7: (1, 5)}
    assert list(in_processes(_DIVIDE, [], workers=workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_goes_on(workers):
    with pytest.raises(ZeroDivisionError):
        list(in_processes(_DIVIDE, [0, 0, 0], workers=workers))


def test_a_death_is_its_own_items_and_the_others_are_done():
    bomb = _Bomb()
    results = list(in_processes(repr, [1, bomb, 3], workers=2))
    found = {id(item): result for item, result in results}
    assert len(results) == 3
    assert isinstance(found.pop(id(bomb)), ProcessDied)
    assert sorted(found.values()) == ["1", "3"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_takes_too_long_is_stopped_and_the_others_are_done(workers):
    """As a decoder that hangs; one worker is a process of its own then, too."""
    begun = time.monotonic()
    found = dict(in_processes(time.sleep, [0.0, 600.0, 0.01], workers=workers, limit_s=1.0))
    assert time.monotonic() - begun < 60.0
    assert found[0.0] is None
    assert found[0.01] is None
    assert isinstance(found[600.0], ProcessDied)
    assert "longer than 1 s" in str(found[600.0])


def test_a_death_with_a_limit_is_no_death_of_the_caller():
    bomb = _Bomb()
    found = {id(item): result for item, result in in_processes(repr, [bomb, 3], workers=1, limit_s=60.0)}
    assert isinstance(found.pop(id(bomb)), ProcessDied)
    assert list(found.values()) == ["3"]


def test_a_worker_has_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = dict(in_processes(os.getenv, ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"], workers=2))
    assert found == {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def test_workers_end_with_a_killed_parent(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, pathlib, sys, time\n"
        "from hierbmd.parallel import in_processes\n"
        "def do(n):\n"
        "    pathlib.Path(sys.argv[1], str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(in_processes(do, [1, 2], workers=2))\n"
    )
    begun = tmp_path / "begun"
    begun.mkdir()
    parent = subprocess.Popen([sys.executable, script, begun])
    workers = _soon(lambda: [int(path.name) for path in begun.iterdir()], lambda found: len(found) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _soon(lambda: [pid for pid in workers if _runs(pid)], lambda found: not found) == []


def _soon(look, good, *, within_s=20.0):
    """What `look` gives once it is good, or at the end of the time."""
    end = time.monotonic() + within_s
    while not good(found := look()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_address_where_no_scheduler_answers_is_refused():
    pytest.importorskip("distributed", reason="dask and distributed are the extra `scale`")
    with pytest.raises(BadConfig, match="no Dask scheduler answers"):
        list(on_cluster(_DIVIDE, [1], address="tcp://no-such-scheme:port"))


def test_behind_gives_results_in_order_and_keeps_few_waiting():
    made, done = [], []

    def task(number):
        def do():
            time.sleep(0.02 if number % 2 else 0.0)
            done.append(number)
            return number

        return do

    def tasks():
        for number in range(20):
            made.append(number)
            yield task(number)

    for number in behind(tasks(), workers=3, waiting=4):
        assert number in done
        assert len(made) <= number + 1 + 4
    assert sorted(done) == list(range(20))
    assert list(behind(tasks(), workers=3, waiting=4)) == list(range(20))


def test_behind_works_while_the_next_task_is_made():
    met = threading.Barrier(2, timeout=20)

    def tasks():
        yield met.wait
        met.wait()
        yield lambda: 7

    assert list(behind(tasks(), workers=1, waiting=2))[1] == 7


def test_behind_ends_with_the_first_error_and_leaves_what_was_not_begun():
    begun = []

    def task(number):
        begun.append(number)
        if number == 3:
            raise OSError("disk full")
        return number

    results = behind((partial(task, number) for number in range(1000)), workers=2, waiting=8)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(OSError, match="disk full"):
        next(results)
    assert len(begun) <= 3 + 8
    assert not [thread.name for thread in threading.enumerate() if "hierbmd-behind" in thread.name]


def test_behind_stops_with_its_reader_and_leaves_what_was_not_begun():
    six_made, begun = threading.Event(), []

    def task(number):
        begun.append(number)
        six_made.wait(timeout=20)
        time.sleep(0.1 if number else 0.0)

    def tasks():
        for number in range(1000):
            if number == 6:
                six_made.set()
            yield partial(task, number)

    results = behind(tasks(), workers=1, waiting=8)
    next(results)
    results.close()
    assert len(begun) < 6
    assert not [thread.name for thread in threading.enumerate() if "hierbmd-behind" in thread.name]
