"""`make bench-registration`: how well, how fast and from how far away bones are found, beside the peers.

Each part is a list of independent cases; OUT/PART.json grows case by case, and `--resume` goes on where it stopped.
The page (docs/benchmarks/registration.md, its picture and its numbers) is made from these files. The torso CT and the
head phantom's pair are those of the shared data (HIERBMD_DATA).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import ROOT, machine
from rich.console import Console
from tasks import shared_data

from hierbmd.io.atomic import read_json, write_json

_CONSOLE = Console(stderr=True, highlight=False)
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What gives the cases' keys, in order, and what runs one of them."""

    cases: Callable[[], Sequence[Any]]
    run: Callable[[Any], Row]


def parts(options: argparse.Namespace) -> dict[str, Part]:
    """What is measured, by name, in order."""
    from coverage_runs import COVERAGE_BONES, run_noisy
    from head_pair import DEPTH_CASES, run_depth, run_pair
    from start_plan import Case, best_of, plan, tuning_cases
    from starts import Arena, run_case, step_cases, time_steps
    from torso_trials import read_torso, run_trial

    torso = read_torso()
    arenas = {pixels: Arena(torso, pixels, options.threads) for pixels in (128, 256)}

    def follow(key: list[Any]) -> Row:
        case = Case.of(key)
        return run_case(arenas[case.pixels], case)

    def planned() -> list[Any]:
        return [case.key for case in plan(best_of(_rows(options.out / "rates.json")))]

    return {
        "acceptance": Part(lambda: range(options.trials), lambda number: run_trial(torso, number)),
        "pair": Part(lambda: range(options.pair_starts), run_pair),
        "pair_depth": Part(lambda: DEPTH_CASES, run_depth),
        "coverage": Part(
            lambda: [[bone, run] for run in range(options.noisy_runs) for bone in COVERAGE_BONES],
            lambda key: run_noisy(torso, *key),
        ),
        "steps": Part(
            step_cases,
            lambda key: time_steps(arenas[key[1]], key[0], key[2]),
        ),
        "rates": Part(lambda: [case.key for case in tuning_cases()], follow),
        "starts": Part(planned, follow),
    }


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        raise SystemExit(f"{path} is missing: run --part rates first")
    rows: list[Row] = read_json(path)["rows"]
    return rows


def run_part(name: str, part: Part, options: argparse.Namespace) -> None:
    """The cases that are not there yet, each written as soon as it is done, until the time is up."""
    path = options.out / f"{name}.json"
    rows = _rows(path) if options.resume and path.is_file() else []
    done = [row["key"] for row in rows]
    keys = [key for key in part.cases() if key not in done and re.search(options.match, str(key))]
    began = time.perf_counter()
    head = {"command": f"python benchmarks/registration.py --part {name}", "machine": machine(options.threads)}
    for number, key in enumerate(keys):
        spent_s = time.perf_counter() - began
        if spent_s > 60.0 * options.minutes:
            say(f"{name}: the time is up, {len(keys) - number} cases left; --resume goes on")
            return
        left = f", about {spent_s / number * (len(keys) - number) / 60.0:.0f} min left" if number else ""
        say(f"{name} {len(done) + number + 1} of {len(done) + len(keys)}: {key} ({spent_s:.0f} s{left})")
        rows.append({"key": key} | part.run(key))
        write_json(path, head | {"rows": rows})


def say(text: str) -> None:
    """A line of progress on stderr."""
    _CONSOLE.print(text, soft_wrap=True, markup=False)


def main() -> int:
    """Measure what is asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench" / "registration", help="folder of the JSON")
    parser.add_argument("--page", type=Path, default=ROOT / "docs", help="folder of benchmarks/ and images/")
    parser.add_argument(
        "--part",
        default="all",
        help="NAME,... of: acceptance, pair, pair_depth, coverage, steps, rates, starts; or page alone",
    )
    parser.add_argument("--trials", type=int, default=40, help="random poses of the acceptance table")
    parser.add_argument("--pair-starts", type=int, default=50, help="starts on the real pair")
    parser.add_argument("--noisy-runs", type=int, default=100, help="noisy runs a bone for the intervals' coverage")
    parser.add_argument("--minutes", type=float, default=120.0, help="a part takes no new case after this")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--match", default="", help="only cases whose key this regular expression finds")
    parser.add_argument("--resume", action="store_true", help="keep the cases that are there")
    options = parser.parse_args()
    if not shared_data().is_dir():
        say(f"not measured: no real CT and no real pair at {shared_data()}; set HIERBMD_DATA")
        return 0
    from registration_page import write_page

    if options.part == "page":
        write_page(options.out, options.page)
        return 0
    warnings.filterwarnings("ignore")  # torchio and jaxtyping warn about deprecations of their own.
    known = parts(options)
    asked = list(known) if options.part == "all" else options.part.split(",")
    if unknown := [name for name in asked if name not in known]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(known)}, and page")
    for name in asked:
        run_part(name, known[name], options)
        write_page(options.out, options.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
