"""A run killed with SIGKILL at named points and begun again each time; a script, so that what it forks has no threads.

    python kills.py '[{"stage": ..., "data": ..., "out": ..., "start": ..., "settings": {...}, "points": [...]}]'

The argument is a list of such tasks. A point is ["step", N], before that step, or ["write", FILE, WHEN] at the next
write of a file of that name: "half" of it is on disk under its temporary name, all of it "before" it takes its own, or
"after"; or ["terminate", N], SIGTERM before step N, which may be answered. Says for each point how many epochs the
checkpoint then holds. Afterwards the run is let go to its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from hierbmd.io import atomic
from hierbmd.training import run

Point = list[Any]

_SIGNALS = {"step": signal.SIGKILL, "terminate": signal.SIGTERM}
_INTERRUPTED = 130


class SignalAt(Callback):
    """Sends this process a signal before a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Send it, if it is the step."""
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def arm(point: Point) -> None:
    """Make this process die at a point."""
    if point[0] in _SIGNALS:
        made = run._trainer

        def trainer(*args: Any, **kwargs: Any) -> Any:
            one = made(*args, **kwargs)
            one.callbacks.append(SignalAt(int(point[1]), _SIGNALS[point[0]]))
            return one

        run._trainer = trainer
        return
    _, name, when = point
    rename = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name != name:
            rename(source, target)
            return
        if when == "half":
            os.truncate(source, Path(source).stat().st_size // 2)
        if when == "after":
            rename(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    atomic.os.replace = replace  # type: ignore[attr-defined]


def in_a_child(task: dict[str, Any], point: Point | None) -> int:
    """Train in a process of its own, which dies at the point; returns what the system says of its end."""
    pid = os.fork()
    if pid == 0:
        if point is not None:
            arm(point)
        options = {"overrides": task["settings"], "start_from": task["start"], "progress": False}
        try:
            run.train(task["stage"], task["data"], task["out"], **options)
        except KeyboardInterrupt:
            os._exit(_INTERRUPTED)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def main() -> None:
    """Kill at every point, then finish."""
    torch.set_num_threads(1)
    for task in json.loads(sys.argv[1]):
        for point in task["points"]:
            status = in_a_child(task, point)
            expected = _INTERRUPTED << 8 if point[0] == "terminate" else int(signal.SIGKILL)
            if status != expected:
                raise SystemExit(f"{task['stage']}: not ended by {point}, status {status}")
            checkpoint = Path(task["out"]) / "checkpoints" / "last.ckpt"
            kept = torch.load(checkpoint, weights_only=True)["epoch"] + 1 if checkpoint.exists() else 0
            sys.stdout.write(" ".join(map(str, [task["stage"], *point, kept])) + "\n")
            sys.stdout.flush()
        if status := in_a_child(task, None):
            raise SystemExit(f"{task['stage']}: the last run ended with {status}")


if __name__ == "__main__":
    main()
