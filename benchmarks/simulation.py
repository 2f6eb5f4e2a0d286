"""What a simulated cohort costs: `python benchmarks/simulation.py [--subjects 100] [--workers 2] [--out out/bench]`.

Runs `hierbmd simulate` with four poses each at its default size, and once more with one worker for the first `--again`
subjects, whose files must have the same bytes. Leaves simulation.json and prints a table: wall and CPU time, subjects a
minute, the peak memory of all processes together. Aims: 100 subjects in 10 minutes on 2 cores, 4 GB.

Wall time is worth what the machine's load lets it be. CPU time is not: divided by the workers it is how long the run
takes where each has a core of its own; that figure is called extrapolated.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

from hierbmd.io.atomic import write_json

POSES = 4
AIM_SUBJECTS_A_MINUTE, AIM_PEAK_MB = 10.0, 4096.0
_LOOK_S = 1.0
_RUN = "import sys; from hierbmd.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Cost:
    """Of one run of the command: wall and CPU seconds, and the most memory that its processes held at once, MB."""

    subjects: int
    workers: int
    wall_s: float
    cpu_s: float
    peak_mb: float

    @property
    def subjects_a_minute(self) -> float:
        """As it was on this machine, whatever else it did."""
        return 60.0 * self.subjects / self.wall_s

    @property
    def extrapolated_a_minute(self) -> float:
        """Where each worker has a core of its own: from CPU seconds."""
        return 60.0 * self.subjects * self.workers / self.cpu_s

    def told(self) -> dict[str, Any]:
        """What simulation.json says of the run."""
        return {
            "subjects": self.subjects,
            "poses": POSES,
            "workers": self.workers,
            "wall_s": round(self.wall_s, 1),
            "cpu_s": round(self.cpu_s, 1),
            "cpu_s_a_subject": round(self.cpu_s / self.subjects, 2),
            "subjects_a_minute": round(self.subjects_a_minute, 1),
            "subjects_a_minute_extrapolated": round(self.extrapolated_a_minute, 1),
            "peak_mb": round(self.peak_mb),
        }


def simulate(out: Path, subjects: int, workers: int) -> Cost:
    """Run the command as a user does, one thread a process, into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    words = ["simulate", "--out", str(out), "--subjects", str(subjects), "--poses", str(POSES), "--seed", "1"]
    words += ["--workers", str(workers)]
    before, start, peak_mb = _cpu_s(), time.monotonic(), 0.0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", _RUN, *words], env=environment)
    while process.poll() is None:
        peak_mb = max(peak_mb, sum(_held_mb(one) for one in _family(process.pid)))
        time.sleep(_LOOK_S)
    if process.returncode != 0:
        raise SystemExit(f"hierbmd simulate ended with {process.returncode}")
    return Cost(subjects, workers, time.monotonic() - start, _cpu_s() - before, peak_mb)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _family(process: int) -> list[int]:
    """A process and all that it started, as Linux tells it."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [process, *(one for child in children for one in _family(int(child)))]


def _held_mb(process: int) -> float:
    """A process's memory with its share of what it shares, MB; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024.0 for line in lines if line.startswith("Pss:")), 0.0)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether every file of every subject of the first cohort is in the second, byte for byte."""
    files = [path for path in sorted((one / "subjects").rglob("*")) if path.is_file()]
    return bool(files) and all(_digest(path) == _digest(other / path.relative_to(one)) for path in files)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def table(runs: list[Cost]) -> str:
    """The runs as a table in Markdown."""
    heads = ("subjects", "workers", "wall, s", "CPU s a subject", "a minute", "a minute, extrapolated", "peak, MB")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for run in runs:
        told = run.told()
        cells = (run.subjects, run.workers, f"{run.wall_s:.0f}", told["cpu_s_a_subject"], told["subjects_a_minute"])
        more = (told["subjects_a_minute_extrapolated"], told["peak_mb"])
        lines.append(f"| {' | '.join(str(cell) for cell in (*cells, *more))} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, write, print; 1 when the bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--again", type=int, default=3, help="subjects made once more by one worker")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    options = parser.parse_args()
    told = machine(1)
    run = simulate(options.out / "cohort", options.subjects, options.workers)
    alone = simulate(options.out / "cohort-again", min(options.again, options.subjects), 1)
    same = same_bytes(options.out / "cohort-again", options.out / "cohort")
    met = {
        "speed": run.subjects_a_minute >= AIM_SUBJECTS_A_MINUTE,
        "speed_extrapolated": run.extrapolated_a_minute >= AIM_SUBJECTS_A_MINUTE,
        "memory": run.peak_mb <= AIM_PEAK_MB,
        "same_bytes": same,
    }
    load_after = round(os.getloadavg()[0], 2)
    found = {"machine": told, "load_after": load_after, "run": run.told(), "one_worker": alone.told(), "met": met}
    write_json(options.out / "simulation.json", found)
    print(table([run, alone]))
    print(f"same bytes by one worker and by {options.workers}: {'yes' if same else 'NO'}")
    print(f"{told['processor']}, {told['cpus']} cores, load {told['load']} before and {load_after} after")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
