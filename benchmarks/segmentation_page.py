"""The page of the atlas benchmark: errors, what quality figures say of them, the gate, the cost; nothing by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pages import machine_line, table
from plots import draw_errors
from scipy import stats

from hierbmd.io.atomic import atomic_path, write_json

FIGURES = {"edge_offset_mm": 1, "edge_share": -1, "edge_rise_hu": -1, "explained": -1, "bone_share": -1}
"""Quality figures, and whether they grow or fall as the error grows."""

KINDS = ("femur", "hip", "sacrum")
DICE, VOXELS = 0.90, 1.5
WHOLE_S, WHOLE_MB = 180.0, 6000.0
_COLOURS = {"femur": "C1", "hip": "C0", "sacrum": "C2"}
_STOPPED = ("0.0", "0.5")

_HEAD = """# Segmentation by atlas: how far labels are off, and whether they know

Written by `python benchmarks/segmentation.py` from what it measured: nothing here is typed by hand, and the tables'
numbers are in [segmentation.json](segmentation.json). **Virtual patients unless it says real.** Research use only.
"""

_ERRORS = """
## Between virtual patients

{pairs} pairs of {patients} virtual patients at {spacing:g} mm, who differ in shape, size and density{fused}. Targets:
Dice >= {dice:.2f} for hip bones and femora, median surface error <= {voxels} voxels, where the atlas's scan shows the
place: {met}. Surfaces are those between voxels, so an error of 0 is the same voxel. One registration takes {cpu:.0f}
CPU seconds (median; one thread, busy machine). {machine}

"""

_PREDICTION = """
## Does the quality figure predict the error?

Every fit of femora and hip bones: as registered, and stopped short at 0 and at half of the displacement. Against the
mean distance between true and carried surface, mm: rank and linear correlation; in the last column of what was
registered to its end alone.

"""

_LINE = """
Least squares: error = {intercept:.2f} mm + {slope:.2f} * `edge_offset_mm`, standard deviation about it {spread:.2f} mm,
{count} labels. Sacrum alone: Spearman {sacrum:.2f}, {sacra} labels.

![The true error against the quality figure](../images/atlas_quality.png)

"""

_GATE = """
## What the gate does

A fit is all bones of one patient. Refused by `hierbmd segment`, with the reason, and what passes.

"""

_WHOLE = """
## A whole patient

One virtual patient on a phantom, {shape} voxels of {pixel:g} x {pixel:g} x {interval:g} mm, and an atlas of the same:
each step a process of its own (`python benchmarks/whole_patient.py`), with reading and writing. Targets: 3 minutes on
two cores, 6 GB: {met}{busy}. {machine}

"""

_REAL = """
## Real to real: torso-ct's labels on pelvis-ct

Nothing is known there but what the CT itself shows. Both femora come from torso-ct's right one, by its mirror image:
the left one holds a nail. torso-ct (3 mm) ends 61 to 65 mm below the heads' centres, and so do the labels: right where
they are, they end near the lesser trochanter, so no total hip can be placed by this atlas, and `segment` and `prepare`
say so.
"""

_PICTURES = """
{cpu:.0f} CPU seconds for both registrations (the scan and its mirror image), one thread.

![Labels on three planes through each head](../images/atlas_pelvis.png)

*Through the left head above, the right one below; femora yellow and orange, hip bones blue, sacrum green. Straight cuts
are where torso-ct ends.*

![The same without the femora's own registration](../images/atlas_pelvis_whole_only.png)

*The same from the registration of the whole pelvis alone.*
"""


class Judged(NamedTuple):
    """One bone of one fit: its file, what was done, its name, its quality figures and its errors."""

    file: str
    what: str
    name: str
    quality: dict[str, Any]
    error: dict[str, Any]

    @property
    def kind(self) -> str:
        """Femur, hip or sacrum."""
        return self.name.split("_")[0]

    @property
    def finished(self) -> bool:
        """Whether the registration went to its end."""
        return self.what not in _STOPPED


def judged_bones(files: Mapping[str, Any]) -> Iterator[Judged]:
    """Every judged bone of every pair and fusion; what carried nothing has no figures and is not in it."""
    for stem, content in files.items():
        if stem.startswith(("pair_", "fused_")):
            for what, one in content["found"].items():
                for name, bone in one["bones"].items():
                    if "edge_offset_mm" in bone["quality"]:
                        yield Judged(stem, what, name, bone["quality"], bone["error"])


def write_page(files: Mapping[str, Any], page: Path, images: Path) -> None:
    """Write the page, its picture and its numbers from the result files by their names."""
    rows = list(judged_bones(files))
    text = _HEAD
    if rows:
        text += _errors(files, rows) + _prediction(rows, images) + _gate(files)
    if "whole_patient" in files:
        text += _whole(files["whole_patient"])
    if "real" in files:
        text += _real(files["real"])
    numbers = {"virtual": [row._asdict() for row in rows]}
    numbers |= {name: files[name] for name in ("machine", "whole_patient", "real") if name in files}
    write_json(page.with_suffix(".json"), numbers)
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _errors(files: Mapping[str, Any], rows: list[Judged]) -> str:
    pairs = [content for stem, content in files.items() if stem.startswith("pair_")]
    on = files["machine"]
    lines = []
    for what in dict.fromkeys(row.what for row in rows if row.finished):
        for kind in KINDS:
            ours = [row.error for row in rows if row.what == what and row.kind == kind]
            if ours:
                dice = np.array([one["dice"] for one in ours])
                voxels = np.array([one["median_mm"] for one in ours]) / on["spacing_mm"]
                cells = [_named(what), kind, str(len(ours)), f"{dice.mean():.3f}", f"{dice.min():.3f}"]
                cells += [f"{np.mean(dice >= DICE):.0%}", f"{voxels.mean():.2f}", f"{voxels.max():.2f}"]
                cells += [f"{np.mean([one['mean_mm'] for one in ours]):.2f}"]
                lines.append(cells)
    head = (
        "atlas",
        "bone",
        "bones",
        "Dice, mean",
        "lowest",
        "share >= 0.90",
        "median surface error, voxels",
        "largest",
    )
    one = [row.error for row in rows if row.what == "1" and row.kind != "sacrum"]
    worst = min(error["dice"] for error in one), max(error["median_mm"] for error in one) / on["spacing_mm"]
    fusions = sum(stem.startswith("fused_") for stem in files)
    said = _ERRORS.format(
        pairs=len(pairs),
        patients=on["patients"],
        spacing=on["spacing_mm"],
        dice=DICE,
        voxels=VOXELS,
        fused=f", and {fusions} of them by several atlases fused" if fusions else "",
        met="met by every bone" if worst[0] >= DICE and worst[1] <= VOXELS else "missed by some",
        cpu=np.median([one["cpu_s"] for one in pairs]),
        machine=machine_line(on),
    )
    return said + table((*head, "mean surface error, mm"), lines)


def _named(what: str) -> str:
    if what in _STOPPED:
        return f"one, stopped at {float(what):g} of the displacement"
    return what.replace("1", "one", 1) if what.startswith("1") else what


def _prediction(rows: list[Judged], images: Path) -> str:
    """What each quality figure says of the true error, over all fits, good and stopped short."""
    usable = [row for row in rows if row.kind != "sacrum"]
    sacra = [row for row in rows if row.kind == "sacrum"]
    error_mm, finished = _errors_mm(usable), np.array([row.finished for row in usable])
    lines = []
    for figure, sign in FIGURES.items():
        values = sign * np.array([row.quality[figure] for row in usable])
        rho, r = stats.spearmanr(values, error_mm)[0], stats.pearsonr(values, error_mm)[0]
        good = stats.spearmanr(values[finished], error_mm[finished])[0]
        lines.append([f"`{figure}`", f"{rho:.2f}", f"{r:.2f}", f"{good:.2f}"])
    offset_mm = _offsets_mm(usable)
    slope, intercept = np.polyfit(offset_mm, error_mm, 1)
    spread = float(np.std(error_mm - intercept - slope * offset_mm, ddof=2))
    groups = [
        (f"{kind}, {'registered' if done else 'stopped short'}", colour, "o" if done else "x", ours)
        for kind, colour in _COLOURS.items()
        for done in (True, False)
        if (ours := [row for row in rows if row.kind == kind and row.finished == done])
    ]
    places = [(label, colour, mark, _offsets_mm(ours), _errors_mm(ours)) for label, colour, mark, ours in groups]
    with atomic_path(images / "atlas_quality.png") as path:
        draw_errors(places, (slope, intercept), path)
    said = {"intercept": intercept, "slope": slope, "spread": spread, "count": len(usable), "sacra": len(sacra)}
    sacrum = stats.spearmanr(_offsets_mm(sacra), _errors_mm(sacra))[0] if len(sacra) > 2 else np.nan
    return (
        _PREDICTION
        + table(("figure", "Spearman", "Pearson", "Spearman, registered to its end"), lines)
        + (_LINE.format(**said, sacrum=sacrum))
    )


def _errors_mm(rows: list[Judged]) -> np.ndarray:
    return np.array([row.error["mean_mm"] for row in rows])


def _offsets_mm(rows: list[Judged]) -> np.ndarray:
    return np.array([row.quality["edge_offset_mm"] for row in rows])


def _gate(files: Mapping[str, Any]) -> str:
    fits: dict[str, list[dict[str, Any]]] = {}
    for stem, content in files.items():
        if stem.startswith(("pair_", "fused_")):
            for what, one in content["found"].items():
                fits.setdefault(what, []).append(one)
    lines = []
    for what, ours in fits.items():
        passed = [one for one in ours if not one["refused"]]
        errors = [bone["error"]["mean_mm"] for one in passed for bone in one["bones"].values()]
        lines.append(
            [_named(what), str(len(ours)), str(len(ours) - len(passed)), f"{max(errors):.1f}" if errors else "-"]
        )
    return _GATE + table(("fit", "fits", "refused", "largest mean surface error of a bone that passed, mm"), lines)


def _whole(found: Mapping[str, Any]) -> str:
    steps = found["steps"]
    total = {"step": "together"} | {name: sum(row[name] for row in steps) for name in ("wall_s", "cpu_s")}
    total |= {"peak_mb": max(row["peak_mb"] for row in steps)}
    lines = [
        [row["step"], f"{row['wall_s']:.0f}", f"{row['cpu_s']:.0f}", f"{row['peak_mb']:.0f}"] for row in [*steps, total]
    ]
    # One thread on a busy machine waits; on a free core it takes its CPU seconds.
    busy = found["machine"]["threads"] == 1 and total["wall_s"] > 1.5 * total["cpu_s"]
    seconds = total["cpu_s"] if busy else total["wall_s"]
    said = _WHOLE.format(
        shape=" x ".join(str(n) for n in found["shape"]),
        pixel=found["spacing_mm"],
        interval=found["interval_mm"],
        met="met" if seconds <= WHOLE_S and total["peak_mb"] <= WHOLE_MB else "missed",
        busy=" by the CPU seconds of one thread; the wall time is a busy machine's" if busy else "",
        machine=machine_line(found["machine"]),
    )
    values = found["bmd_g_cm2"]
    pairs = [(name, true, values["by atlas"][name]) for name, true in values["true"].items()]
    off = [[name.replace("_", " "), f"{a:.3f}", f"{b:.3f}", f"{100.0 * (b / a - 1.0):+.1f}"] for name, a, b in pairs]
    head = ("step", "wall, s", "CPU, s", "peak memory, MB")
    dice = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found["dice"].items())
    said += table(head, lines) + f"\nDice of its labels: {dice}.\n\n"
    said += "Its areal BMD as measured by these steps, and by its own density and labels without a scanner:\n\n"
    return said + table(("region", "true, g/cm2", "measured, g/cm2", "off by, %"), off)


def _real(found: Mapping[str, Any]) -> str:
    figures = ("edge_rise_hu", "edge_share", "edge_offset_mm", "explained", "bone_share")
    text = _REAL
    for what, one in found["found"].items():
        lines = [
            [name, *(f"{bone[figure]:.2f}" for figure in figures), "yes" if bone["ends_at_atlas_scan"] else "no"]
            for name, bone in one["bones"].items()
        ]
        head = ("bone", *(f"`{figure}`" for figure in figures), "ends at the atlas's scan")
        text += f"\n### {what.capitalize()}\n\n" + table(head, lines) + "\n"
        joints = one["joints"]
        text += "".join(f"- {side} head: {_spoken(joints[f'head_{side}'])}\n" for side in ("left", "right"))
        text += (
            f"- left over right: {_spoken(joints['symmetry'])}\n- the gate: {'; '.join(one['refused']) or 'passes'}\n"
        )
    return text + _PICTURES.format(cpu=found["cpu_s"])


def _spoken(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items() if name != "centre_world_mm")
