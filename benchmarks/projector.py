"""`make bench`: the projector beside nanodrr, DiffDRR, RTK and plastimatch, and beside what the machine can do at all.

Each part is a command of its own (`--part speed`), leaves OUT/PART.json and shows what it is at; `--resume` skips the
parts that are there. The page (docs/benchmarks/projector.md, its picture and its numbers) is made from these files.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import ROOT, machine
from rich.console import Console

from hierbmd.io.atomic import write_json

_CONSOLE = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Sizes:
    """How large everything is: `voxels` and `pixels` a side, a large task, and what cost is plotted against."""

    voxels: int
    pixels: int
    large: tuple[tuple[int, int, int], int]
    scaling: dict[str, tuple[int, ...]]
    budget_s: float


FULL = Sizes(
    voxels=256,
    pixels=256,
    large=((512, 512, 300), 512),
    scaling={
        "voxels": (64, 128, 256, 384),
        "pixels": (64, 128, 256, 512),
        "structures": (1, 3, 10, 30, 100),
    },
    budget_s=8.0,
)

TINY = Sizes(
    voxels=24,
    pixels=24,
    large=((32, 32, 20), 32),
    scaling={"voxels": (16, 24, 32), "pixels": (16, 24, 32), "structures": (1, 3, 100)},
    budget_s=0.05,
)
"""To see that all runs; says nothing about speed."""


def parts(sizes: Sizes, threads: int, out: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured, by name, in order."""
    from agreement import agreement
    from first_call import first_call
    from limits import floor
    from memory import memory
    from scaling import scaling
    from speed import LARGE, batch, speed, structures
    from tasks import body

    n, pixels, budget_s = sizes.voxels, sizes.pixels, sizes.budget_s
    counts = (1, 3, 100)
    return {
        "floor": lambda: floor(n, pixels, threads, min(budget_s, 1.0)),
        "speed": lambda: speed(out, body((n, n, n), pixels, threads), budget_s, say),
        "structures": lambda: structures(n, pixels, threads, counts, budget_s / 4),
        "first_call": first_call,
        "agreement": lambda: agreement(out, threads, min(pixels, 128)),
        "memory": lambda: memory(n, pixels, threads, out),
        "batch": lambda: batch(n, pixels, threads, 8, budget_s),
        "speed_large": lambda: speed(out, body(*sizes.large, threads), budget_s, say, names=LARGE),
        "scaling": lambda: scaling(out, threads, sizes.scaling, say),
    }


def say(text: str) -> None:
    """A line of progress on stderr."""
    _CONSOLE.print(text, soft_wrap=True)


def main() -> int:
    """Measure what is asked for and write the page; 1 where a projector of the same field does not agree with ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the page")
    parser.add_argument(
        "--part", default="all", help="NAME,... of: agreement, first_call, floor, speed, speed_large ..."
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--resume", action="store_true", help="keep the parts whose files are there")
    parser.add_argument("--tiny", action="store_true", help="a few voxels, to see that all runs; give another --page")
    options = parser.parse_args()
    options.out = options.out.resolve()
    # torchio and jaxtyping warn about deprecations of their own.
    warnings.filterwarnings("ignore")
    # What numba and torch have by default is told to every process, too.
    os.environ |= {name: str(options.threads) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
    known = parts(TINY if options.tiny else FULL, options.threads, options.out)
    asked = list(known) if options.part == "all" else options.part.split(",")
    if unknown := [name for name in asked if name not in known]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(known)}")
    from pages import write_page

    started = time.perf_counter()
    agreed = True
    for name in asked:
        path = options.out / f"{name}.json"
        if options.resume and path.is_file():
            continue
        say(f"{name} ({time.perf_counter() - started:.0f} s so far)")
        head = {"command": f"python benchmarks/projector.py --part {name}", "machine": machine(options.threads)}
        found = known[name]()
        write_json(path, head | {"found": found})
        agreed &= found.get("within_limits", True)
        write_page(options.out, options.page)
    say(f"{options.page / 'projector.md'} ({time.perf_counter() - started:.0f} s)")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
