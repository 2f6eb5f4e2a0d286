"""The registration page's tables of starts that several systems followed: speed, capture range, steps and rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from pages import by, median, share, table, where
from start_plan import IMAGES, Case, best_of

Row = dict[str, Any]
Parts = dict[str, dict[str, Any]]
OURS = "hierbmd, one start"

_RATES = """The loops' loss and learning rates (radians and mm), tried with our projector, which gives the same images
in far less time, from starts that are in no other table; the best on each kind of image (most successes, then fewest
steps) is what every loop gets there. Displayed: a radiograph as a vendor shows it. Linear: the negative logarithm of
its exposure, with scatter, noise and the beam's spectrum, which is what a loop's projections resemble most.

"""

_STEPS = """A step of each loop (image, loss, gradient, Adam), median of three.

"""

_CAPTURE = """128 x 128 pixels. The Adam loop with our projector stands for the peers' where many starts are wanted: on
the same images with the same loss and rates it goes the same way.

"""

_SPEED = """The skeleton of the torso CT as one rigid body, on the same images, from the same starts, in turn, in one
run. A start of size s lies s degrees about a random axis, 2 s mm in plane and 4 s mm in depth from the truth. Time to
success, for all: CPU seconds until the pose is within 2 mm and stays there. Ours does not know that it has arrived: it
returns later, with outcome and errors, after the seconds of the column beside. An Adam loop is given up after 80 steps
or 240 CPU seconds. nanodrr and DiffDRR march 150 samples a ray, a step just below a voxel; they document 500, which
costs more and sees no more of this CT. Reading the CT is left out for all.

"""


def rates(found: Parts) -> str:
    """The section of the rates that were tried, and which was chosen."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in found["rates"]["rows"]:
        case = Case.of(row["key"])
        groups.setdefault((case.image, case.loss, *case.rates), []).append(row)
    cells = [
        [image, loss, f"{turn:g}", f"{shift:g}", _successes(rows)[0], _steps_of(rows)]
        for (image, loss, turn, shift), rows in sorted(groups.items())
    ]
    head = ["image", "loss", "rate, rotation", "rate, translation", "success", "steps to success, median"]
    best = [
        f"{image}: {loss}, {rates[0]:g} and {rates[1]:g}"
        for image, (rates, loss) in best_of(found["rates"]["rows"]).items()
    ]
    return where(found["rates"]) + _RATES + table(head, cells) + "\nChosen: " + "; ".join(best) + ".\n"


def _steps_of(rows: list[Row]) -> str:
    arrived = [row["success_steps"] for row in rows if row["success_steps"] is not None]
    return f"{np.median(arrived):g}" if arrived else "-"


def _successes(rows: list[Row]) -> list[str]:
    return [share(len(_arrived(rows)), len(rows)), median(_arrived(rows))]


def speed(found: Parts) -> str:
    """The section of time to success, beside ours."""
    head = ["image", "pixels", "size", "system", "success", "CPU s to success, median", "x ours"]
    head += ["CPU s in all, median", "projections, median"]
    cells = []
    groups = by(found["starts"]["rows"], "image", "pixels", "size", "system")
    for (image, pixels, size, system), rows in sorted(groups.items(), key=lambda item: item[0][:3]):
        mine = groups.get((image, pixels, size, OURS), [])
        if not mine or size > 10:
            continue
        ours, theirs = (_arrived(some) for some in (mine, rows))
        ratio = "1" if system == OURS else f"{np.median(theirs) / np.median(ours):.0f}" if theirs and ours else "-"
        spent = [f"{np.median([row[key] for row in rows]):.{digits}f}" for key, digits in (("cpu_s", 2), ("steps", 0))]
        case = [image, str(pixels), f"{size:g}", _versioned(system, rows)]
        cells.append([*case, *_successes(rows), ratio, *spent])
    return where(found["starts"]) + _SPEED + table(head, cells)


def _arrived(rows: list[Row]) -> list[float]:
    return [row["success_s"] for row in rows if row["success_s"] is not None]


def steps(found: Parts) -> str:
    """The section of a step's cost."""
    rows = found["steps"]["rows"]
    own = {row["pixels"]: row["step_s"] for row in rows if row["system"].startswith("our")}
    cells = []
    for row in rows:
        pixels, ours = row["pixels"], row["system"].startswith("our")
        cell = [str(pixels), _versioned(row["system"], [row]), "-" if ours else str(row["samples"])]
        cells.append([*cell, f"{row['step_s']:.3f}", f"{row['step_s'] / own[pixels]:.0f}" if pixels in own else "-"])
    head = ["pixels", "loop", "samples a ray", "CPU s a step", "x our projector's"]
    return where(found["steps"]) + _STEPS + table(head, cells)


def _versioned(system: str, rows: list[Row]) -> str:
    version = rows[0].get("version")
    return system if version is None or "our" in system else f"{system} ({version})"


def capture(rows: list[Row], image: str) -> dict[str, list[tuple[float, int, int]]]:
    """Of the 128-pixel starts on one kind of image, by system: size, successes, starts."""
    curves: dict[str, list[tuple[float, int, int]]] = {}
    shown = [row for row in rows if row["pixels"] == 128 and row["image"] == image]
    for (system, size), group in sorted(by(shown, "system", "size").items()):
        curves.setdefault(system, []).append((size, len(_arrived(group)), len(group)))
    return curves


def capture_table(found: Parts) -> str:
    """The section of successes by the size of the start error."""
    rows = found["starts"]["rows"]
    by_image = {image: capture(rows, image) for image in IMAGES}
    sizes = sorted({size for curves in by_image.values() for points in curves.values() for size, _, _ in points})
    cells = []
    for image, curves in by_image.items():
        for system, points in curves.items():
            at = {size: f"{good} of {count}" for size, good, count in points}
            cells.append([image, system, *(at.get(size, "-") for size in sizes)])
    judged = [row for row in rows if "outcome" in row]
    wrong = sum(row["outcome"] == "converged" and row["success_s"] is None for row in judged)
    sure = sum(row["outcome"] == "converged" for row in judged)
    picture = "![success against the size of the start error](../images/registration_capture.png)\n\n"
    head = ["image", "system", *(f"size {size:g}" for size in sizes)]
    said = f"\nOf ours and CMA-ES {sure} of {len(judged)} were called converged, {wrong} of them wrongly.\n"
    return picture + _CAPTURE + table(head, cells) + said
