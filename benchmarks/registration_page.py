"""The registration's benchmark page from the parts' JSON files: its tables and its picture; nothing by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pages import median, share, table, where
from start_plan import IMAGES
from start_tables import capture, capture_table, rates, speed, steps

from hierbmd.io.atomic import atomic_path, read_json, write_json
from hierbmd.registration.uncertainty import INTERVAL_95

Part = dict[str, Any]
Row = dict[str, Any]
SUCCESS_MM = 2.0
FACTOR_POSES = 20
"""The first poses of the acceptance table gave INTERVAL_95."""

AXES = ("rx", "ry", "rz", "x", "y", "depth")

_HEAD = """# Registration beside others

Written by `make bench-registration` from what it measured: nothing here is typed by hand, and the tables' numbers are
in [registration.json](registration.json). The radiographs of the torso CT are simulated (polychromatic beam, scatter,
noise, display processing) on one real CT, which says nothing of other patients; the head phantom's pair is real. In
plane and depth are mean target registration errors over the bone's surface. Success: at most 2 mm in plane. Research
use only.
"""

_ACCEPTANCE = """{count} random poses; AP, 256 x 256 pixels of 1.72 mm; the femur turned against the pelvis by up to 8
degrees about each axis through its head's centre, and slipped by up to 0.5 mm along each; starts anywhere within 15
degrees about each axis, 30 mm along each axis in plane and 60 mm in depth; six starts. {cpu:.2f} CPU seconds a bone,
median (largest {most:.2f}): all of a pose's six bones, from the start search to the outcome.

"""

_NOISY = """Share of the stated 95 % intervals ({factor:g} standard errors) that hold the truth, of repeated noisy
runs: the bones' own projections at a random pose in white and cloudy noise, so that nothing else is wrong.

"""

_TRUE_IMAGES = """Share of the stated 95 % intervals ({factor:g} standard errors) that hold the truth on the simulated
radiographs of the first table, converged bones: here soft tissue, neighbours, scatter and display are wrong as well.
The factor is taken from poses 0 to {last}; the line of the later ones tests it. Of a Gaussian's 1.96 standard errors
{gaussian} hold the truth. What a bone's model lacks is much the same at every pose of one CT, so that a bone's runs
are fewer independent draws than they are in number.

"""

_PAIR = """{count} starts turned by up to 10 degrees and shifted by up to 20 mm from the header's pose. Within 2 mm in
plane and 1 degree of it: {right}; called converged and not: {wrong}.

"""


def write_page(folder: Path, docs: Path) -> None:
    """registration.md and registration.json in docs/benchmarks, the capture ranges in docs/images."""
    found = {name: read_json(folder / f"{name}.json") for name in _FILES if (folder / f"{name}.json").is_file()}
    if "starts" in found:
        from plots import draw_capture

        with atomic_path(docs / "images" / "registration_capture.png") as path:
            draw_capture({image: capture(found["starts"]["rows"], image) for image in IMAGES}, path)
    sections = [(title, make(found)) for title, needs, make in _SECTIONS if set(needs) <= set(found)]
    text = "\n".join([_HEAD, *(f"## {title}\n\n{body}" for title, body in sections)])
    with atomic_path(docs / "benchmarks" / "registration.md") as path:
        path.write_text(text, encoding="utf-8")
    write_json(docs / "benchmarks" / "registration.json", {title: body.split("\n") for title, body in sections})


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
        depth = median([bone["depth_mm"] for bone in bones])
        counts = [share(sum(right), len(bones)), share(sum(converged), len(bones)), str(wrong)]
        cells.append([name, median(in_plane), f"{max(in_plane):.2f}", depth, *counts])
    lost = [
        f"pose {row['key']}, {bone['bone']}: {bone['in_plane_mm']:.1f} mm in plane, {bone['outcome'].replace('_', ' ')}"
        for row in rows
        for bone in row["bones"]
        if bone["in_plane_mm"] > SUCCESS_MM
    ]
    cpu = np.array([row["cpu_s"] for row in rows]) / len(rows[0]["bones"])
    text = _ACCEPTANCE.format(count=len(rows), cpu=np.median(cpu), most=cpu.max())
    named = "Not found: " + "; ".join(lost) + ".\n" if lost else "All were found.\n"
    return where(part) + text + table(head, cells) + "\n" + named


def _coverage(found: dict[str, Part]) -> str:
    head = ["bone", "runs", *AXES, "all axes"]
    text = ""
    if "coverage" in found:
        text += where(found["coverage"]) + _NOISY.format(factor=INTERVAL_95)
        rows = found["coverage"]["rows"]
        names = list(dict.fromkeys(row["bone"] for row in rows))
        groups = [(name, [row for row in rows if row["bone"] == name]) for name in names] + [("all", rows)]
        text += table(head, [_covered(name, group) for name, group in groups]) + "\n"
    if "acceptance" in found:
        rows = found["acceptance"]["rows"]
        groups = list(_bones(rows).items())
        if later := [row for row in rows if row["key"] >= FACTOR_POSES]:
            groups.append((f"all, poses {FACTOR_POSES} on", _bones(later)["all"]))
        sure = [(name, [one for one in group if one["outcome"] == "converged"]) for name, group in groups]
        cells = [_covered(name, group) for name, group in sure]
        gaussian = _covered("", next(group for name, group in sure if name == "all"), 1.96)[-1]
        text += _TRUE_IMAGES.format(factor=INTERVAL_95, last=FACTOR_POSES - 1, gaussian=gaussian) + table(head, cells)
    return text


def _covered(name: str, rows: list[Row], factor: float = INTERVAL_95) -> list[str]:
    stated = np.array([row["stated"] for row in rows if None not in row["stated"]], dtype=float)
    error = np.array([row["error"] for row in rows if None not in row["stated"]])
    held = np.abs(error) <= factor * stated
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
    text = _PAIR.format(count=len(rows), right=share(sum(right), len(rows)), wrong=wrong)
    return where(found["pair"]) + text + table(head, cells)


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
    return where(found["pair_depth"]) + table(head, cells)


_FILES = ("acceptance", "pair", "pair_depth", "coverage", "steps", "rates", "starts")
_SECTIONS: tuple[tuple[str, tuple[str, ...], Callable[[dict[str, Part]], str]], ...] = (
    ("Random poses of a real CT", ("acceptance",), _acceptance),
    ("Speed beside the peers", ("starts",), speed),
    ("A step of the loops", ("steps",), steps),
    ("Capture range", ("starts",), capture_table),
    ("Learning rates of the loops", ("rates",), rates),
    ("Intervals", ("acceptance",), _coverage),
    ("A real pair", ("pair",), _pair),
    ("Where the real pair's depth comes from", ("pair_depth",), _depth),
)
"""Title, the parts that it needs and the text of each section, in the page's order."""
