"""`calibrate --phantom` on simulated QCT scans of known truth: every phantom of the table, and what must be refused.

    python benchmarks/calibration.py [--scans 30] [--provocations 3] [--out out/bench] [--page PAGE.md]

Each scan has its own body, tilt, noise, field of view, beam and serial, and two inserts of known density in the body:
one near its outline, which the criterion is about, and one in its middle, where cupping lowers what is read. What is
done already is kept: the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.data.calibration import Calibration
from hierbmd.data.density import RESEARCH_USE_ONLY, Material
from hierbmd.data.phantoms import Phantom, phantom_names, phantom_of_name
from hierbmd.data.volume import Volume
from hierbmd.errors import Uncalibrated
from hierbmd.geometry import Grid
from hierbmd.io.atomic import atomic_path, read_json, write_json
from hierbmd.io.phantom_file import write_phantom
from hierbmd.physics.attenuation import phantom_hu_per_mg_cm3
from hierbmd.simulation.options import ScanOptions
from hierbmd.simulation.scanner import Scan, scan

SLOPE_PERCENT = 1.0
INSERT_MG_CM3, INSERT_SHARE = 2.0, 0.01
"""What a fit is held to: its slope, and what it calls the known insert."""

_STEP_MM, _LENGTH_MM, _INSERT_MM = 3.0, 96.0, 24.0

_PAGE = """# Calibration by phantom: simulated scans

Written by `{command}`.
Every scan is simulated (`hierbmd/simulation/scanner.py`): its own body, tilt (SD 3 deg), noise, kernel, cupping, drift,
beam (80 to 140 kVp), a field of view that often cuts body or phantom off, and a serial, whose rod table it is
calibrated by. No real QCT with a phantom could be had. Research use only.

A fit is right when its slope is within {slope} % of the true one, and a known insert near the body's outline, as the
image has it, is read within {insert} mg/cm3 + {share} %. In the body's middle cupping lowers what any line
reads: that is the scanner's, and no phantom beside the body can take it off.

{tables}

"Nominal rods for a serial" is no fault that can be seen: the rods of a serial differ from the nominal ones by about
1 %, so the slope does too. Nor can a constant error of all densities be seen below about 25 mg/cm3, nor a factor common
to all of them within what beams differ by: give the certificate of your own serial.
"""

Row = dict[str, Any]
Provoked = tuple[Volume, Phantom]


@dataclass(frozen=True)
class Body:
    """What is scanned, as `simulation.scanner.Scanned`, and where its inserts' axes are (x, y), mm: near, middle."""

    body: Volume
    density: Volume
    inserts_mm: tuple[tuple[float, float], tuple[float, float]]
    insert_mg_cm3: float


def body_of(rng: np.random.Generator) -> Body:
    """An ellipse of soft tissue in a rim of fat with two shafts of bone and two inserts of one density."""
    a, b = rng.uniform(130.0, 175.0), rng.uniform(88.0, 120.0)
    x, y = (np.arange(-half - 12.0, half + 12.1, _STEP_MM) for half in (a, b))
    x, y = np.meshgrid(x, y, indexing="ij")
    radius = np.hypot(x / a, y / b)
    soft = np.where(radius < 0.85, 50.0, np.where(radius < 1.0, -100.0, -1000.0))
    mineral = np.zeros_like(soft)
    for middle in (-0.55 * a, 0.55 * a):
        mineral[np.hypot(x - middle, y) < 14.0] = 900.0
        mineral[np.hypot(x - middle, y) < 8.0] = 50.0
    value, places = float(rng.uniform(50.0, 400.0)), ((0.0, 0.8 * b), (0.0, -0.05 * b))
    for u, v in places:
        inside = np.hypot(x - u, y - v) < 0.5 * _INSERT_MM
        mineral[inside], soft[inside] = value, 0.0
    count = round(_LENGTH_MM / 8.0) + 1
    matrix = np.diag([_STEP_MM, _STEP_MM, 8.0, 1.0])
    matrix[:2, 3] = [x[0, 0], y[0, 0]]
    grid = Grid((*soft.shape, count), matrix)
    hu = soft + phantom_hu_per_mg_cm3() * mineral
    whole = [np.repeat(image[:, :, None], count, axis=2).astype(np.float32) for image in (hu, mineral)]
    return Body(Volume(whole[0], grid), Volume(whole[1], grid, "mg/cm3 HA"), places, value)


def options_of(phantom: str, rng: np.random.Generator, *, serial: int) -> ScanOptions:
    """How one scan is taken: all of it drawn."""
    interval_mm = float(rng.choice([4.0, 6.0, 8.0]))
    return ScanOptions(
        phantom=phantom,
        serial=serial,
        phantom_tilt_deg=3.0,
        phantom_shift_mm=10.0,
        phantom_gap_mm=float(rng.uniform(3.0, 20.0)),
        table=bool(rng.random() < 0.8),
        kvp=float(rng.choice([80.0, 100.0, 120.0, 140.0])),
        pixel_mm=float(rng.uniform(0.9, 1.4)),
        fov_mm=float(rng.uniform(330.0, 480.0)),
        fov_shift_mm=(float(rng.uniform(-60.0, 60.0)), float(rng.uniform(10.0, 60.0))),
        padding_hu=[-1024, -2048, None][int(rng.integers(3))],
        interval_mm=interval_mm,
        thickness_mm=interval_mm,
        profile="bell" if rng.random() < 0.5 else "rectangle",
        kernel=("soft", "standard", "sharp")[int(rng.integers(3))],
        noise_hu=float(rng.uniform(5.0, 30.0)),
        cupping_hu=float(rng.uniform(0.0, 8.0)),
        drift_percent=float(rng.uniform(0.0, 0.8)),
        offset_sd_hu=3.0,
    )


def _line_offset(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    off = float(rng.uniform(45.0, 100.0)) * float(rng.choice([-1.0, 1.0]))
    rods = [replace(rod, density_mg_cm3=rod.density_mg_cm3 + off) for rod in phantom.rods]
    return replace(phantom, rods=tuple(rods))


def _one_offset(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    rods = list(phantom.rods)
    at = int(rng.integers(len(rods)))
    off = float(rng.uniform(15.0, 40.0)) + 0.05 * abs(rods[at].density_mg_cm3)
    sign = float(rng.choice([-1.0, 1.0]))
    rods[at] = replace(rods[at], density_mg_cm3=rods[at].density_mg_cm3 + sign * off)
    return replace(phantom, rods=tuple(rods))


def _swapped(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    rods = list(phantom.rods)
    order = np.argsort([rod.density_mg_cm3 for rod in rods])
    first = int(rng.integers(len(rods) - 1))
    i, j = (int(n) for n in order[first : first + 2])
    given = [(rods[n].density_mg_cm3, rods[n].water_mg_cm3) for n in (j, i)]
    for n, (density, water) in zip((i, j), given, strict=True):
        rods[n] = replace(rods[n], density_mg_cm3=density, water_mg_cm3=water)
    return replace(phantom, rods=tuple(rods))


def _another(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    return phantom_of_name(str(rng.choice([name for name in phantom_names() if name != phantom.name])))


def streaked(volume: Volume, about_mm: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    """Dark and bright rays out of a point (x, y, LPS mm) beside the phantom, in some of the slices, as metal makes."""
    matrix = volume.grid.world_from_index
    x, y = (matrix[n, 3] + matrix[n, n] * np.arange(volume.grid.shape[n]) for n in range(2))
    dx, dy = np.meshgrid(x - about_mm[0], y - about_mm[1], indexing="ij")
    angle, away = np.arctan2(dy, dx), np.hypot(dx, dy)
    rays = sum(np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in rng.integers(2, 24, size=6))
    strength = float(rng.uniform(60.0, 500.0))
    streaks = strength * rays / np.sqrt(3.0) * 40.0 / (40.0 + away)
    values = volume.values.copy()
    first = int(rng.integers(0, values.shape[2] // 2))
    values[:, :, first:] += streaks[:, :, None].astype(np.float32)
    return Volume(np.clip(values, -1024.0, 3071.0), volume.grid)


def _streaks(found: Scan, rng: np.random.Generator) -> Provoked:
    assert found.phantom is not None
    beside = found.phantom.world_from_phantom[:3, 3] + [rng.uniform(-120.0, 120.0), rng.uniform(-60.0, 0.0), 0.0]
    return streaked(found.volume, beside, rng), found.phantom.phantom


def _table_of(change: Callable[[Phantom, np.random.Generator], Phantom]) -> Callable[..., Provoked]:
    def provoke(found: Scan, rng: np.random.Generator) -> Provoked:
        assert found.phantom is not None
        return found.volume, change(found.phantom.phantom, rng)

    return provoke


PROVOCATIONS: dict[str, Callable[[Scan, np.random.Generator], Provoked]] = {
    "swapped rods": _table_of(_swapped),
    "one density off": _table_of(_one_offset),
    "all densities off": _table_of(_line_offset),
    "another phantom named": _table_of(_another),
    "metal streaks": _streaks,
    "nominal rods for a serial": _table_of(lambda phantom, rng: phantom_of_name(phantom.name)),
}
"""What is done to a scan or to the rod table it is calibrated by; "missing rod" is done to the phantom itself."""

KINDS = (*PROVOCATIONS, "missing rod")
TOLERATED = ("nominal rods for a serial",)
"""No fault but a choice of the user's that costs accuracy: its fits are shown and not counted as wrong."""


def trial(phantom: str, number: int, kind: str = "") -> Row:
    """One scan simulated, provoked if so, and calibrated: what came of it beside the truth."""
    seed = [number, *phantom.encode(), *kind.encode()]
    rng = np.random.default_rng(seed)
    body, options = body_of(rng), options_of(phantom, rng, serial=number + 1)
    if kind == "missing rod":
        volume, table, found = _without_a_rod(phantom, body, options, rng)
    else:
        found = scan(SimpleNamespace(body=body.body, density=body.density), options, number)
        assert found.phantom is not None
        volume, table = PROVOCATIONS[kind](found, rng) if kind else (found.volume, found.phantom.phantom)
    row: Row = {"phantom": phantom, "number": number, "kind": kind, "kvp": options.kvp, "noise_hu": options.noise_hu}
    try:
        return {**row, "outcome": "calibrated", **_judged(calibrate_by_phantom(volume, table), found, volume, body)}
    except Uncalibrated as error:
        return {**row, "outcome": type(error).__name__, "reason": str(error)}


def _without_a_rod(
    phantom: str, body: Body, options: ScanOptions, rng: np.random.Generator
) -> tuple[Volume, Phantom, Scan]:
    """A scan on a phantom that lacks a rod with contrast, and the whole table that it is calibrated by."""
    whole = phantom_of_name(phantom)
    with_contrast = [n for n, rod in enumerate(whole.rods) if abs(rod.density_mg_cm3) >= 50.0]
    gone = int(rng.choice(with_contrast))
    lacking = replace(whole, rods=tuple(rod for n, rod in enumerate(whole.rods) if n != gone))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lacking.json"
        write_phantom(path, lacking)
        found = scan(SimpleNamespace(body=body.body, density=body.density), replace(options, phantom=str(path)), 1)
    assert found.phantom is not None
    rods = list(found.phantom.phantom.rods)
    rods.insert(gone, whole.rods[gone])
    return found.volume, replace(whole, rods=tuple(rods)), found


def _judged(line: Calibration, found: Scan, volume: Volume, body: Body) -> Row:
    """A fitted line against the true one, and what it calls the inserts as the image has them."""
    true = found.lines[line.material]
    water = found.lines[Material.HA]
    hu = (body.insert_mg_cm3 - water.intercept) / water.slope
    insert = true.slope * hu + true.intercept
    near, middle = (line.slope * _insert_hu(volume, body.body, at) + line.intercept - insert for at in body.inserts_mm)
    off_percent = 100.0 * (line.slope / true.slope - 1.0)
    assert line.uncertainty is not None
    return {
        "slope_percent": off_percent,
        "insert_mg_cm3": insert,
        "insert_error_mg_cm3": near,
        "middle_error_mg_cm3": middle,
        "residual_mg_cm3": line.residual_mg_cm3,
        "rods_read": sum(rod["read"] for rod in line.rods),
        "covered": bool(line.uncertainty.slope_low <= true.slope <= line.uncertainty.slope_high),
        "right": bool(abs(off_percent) <= SLOPE_PERCENT and abs(near) <= INSERT_MG_CM3 + INSERT_SHARE * abs(insert)),
    }


def _insert_hu(volume: Volume, body: Volume, at_mm: tuple[float, float]) -> float:
    """The mean of an insert's core (its rim of 4 mm left out) over the slices but the first and last."""
    matrix = volume.grid.world_from_index
    x, y = (matrix[n, 3] + matrix[n, n] * np.arange(volume.grid.shape[n]) for n in range(2))
    inside = np.hypot(x[:, None] - at_mm[0], y[None, :] - at_mm[1]) < 0.5 * _INSERT_MM - 4.0
    assert body.grid.shape[2] > 2
    return float(volume.values[inside, 1:-1].mean(dtype=np.float64))


def trials(scans: int, provocations: int) -> Iterator[tuple[str, int, str]]:
    """Every trial: (phantom, number, kind), the plain ones first."""
    for number in range(scans):
        for phantom in phantom_names():
            yield phantom, number, ""
    for number in range(provocations):
        for kind in KINDS:
            for phantom in phantom_names():
                yield phantom, 1000 + number, kind


def run(path: Path, scans: int, provocations: int) -> list[Row]:
    """Do every trial that `path` (JSON) does not hold yet; it is written after each."""
    rows: list[Row] = read_json(path)["trials"] if path.is_file() else []
    done = {(row["phantom"], row["number"], row["kind"]) for row in rows}
    wanted = list(trials(scans, provocations))
    for count, one in enumerate(wanted, start=1):
        if one not in done:
            rows.append(trial(*one))
            write_json(path, {"simulated": True, "research_use_only": RESEARCH_USE_ONLY, "trials": rows})
            print(f"{count} of {len(wanted)}: {one[0]} {one[2] or 'plain'}: {rows[-1]['outcome']}", flush=True)
    return [row for row in rows if (row["phantom"], row["number"], row["kind"]) in set(wanted)]


def wrong_fits(rows: list[Row]) -> list[Row]:
    """Fits that were accepted and are not right, but for those of a choice that is the user's."""
    return [row for row in rows if row["outcome"] == "calibrated" and not row["right"] and row["kind"] not in TOLERATED]


def tables(rows: list[Row]) -> str:
    """The two tables of the page, Markdown."""
    head = (
        *("phantom", "scans", "calibrated", "slope, largest error (%)", "insert, largest error (mg/cm3)"),
        *("share of its limit", "insert in the middle", "95 % interval holds the slope", "wrong fits"),
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for phantom in phantom_names():
        mine = [row for row in rows if row["phantom"] == phantom and not row["kind"]]
        fits = [row for row in mine if row["outcome"] == "calibrated"]
        worst = max(abs(row["insert_error_mg_cm3"]) for row in fits)
        share = max(
            abs(row["insert_error_mg_cm3"]) / (INSERT_MG_CM3 + INSERT_SHARE * abs(row["insert_mg_cm3"])) for row in fits
        )
        cells = [
            *(phantom, str(len(mine)), str(len(fits))),
            f"{max(abs(row['slope_percent']) for row in fits):.2f}",
            *(f"{worst:.2f}", f"{share:.2f}"),
            f"{max(abs(row['middle_error_mg_cm3']) for row in fits):.1f}",
            f"{np.mean([row['covered'] for row in fits]):.0%}",
            str(len(wrong_fits(mine))),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| provocation | scans | refused | by | accepted and right | accepted and wrong |", "|---" * 6 + "|"]
    for kind in KINDS:
        mine = [row for row in rows if row["kind"] == kind]
        if not mine:
            continue
        refused = [row for row in mine if row["outcome"] != "calibrated"]
        by = ", ".join(sorted({row["outcome"] for row in refused})) or "-"
        wrong = sum(row["outcome"] == "calibrated" and not row["right"] for row in mine)
        right = len(mine) - len(refused) - wrong
        lines.append(f"| {kind} | {len(mine)} | {len(refused)} | {by} | {right} | {wrong} |")
    refused = [row for row in rows if not row["kind"] and row["outcome"] != "calibrated"]
    if refused:
        lines += ["", "Refused without a provocation:", ""]
        lines += [f"- {row['phantom']} {row['number']}: {row['outcome']}: {row['reason']}" for row in refused]
    return "\n".join(lines)


def write_page(path: Path, rows: list[Row], command: str) -> None:
    """The page with its tables, nothing by hand."""
    text = _PAGE.format(
        command=command,
        slope=f"{SLOPE_PERCENT:g}",
        insert=f"{INSERT_MG_CM3:g}",
        share=f"{100 * INSERT_SHARE:g}",
        tables=tables(rows),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=30, help="of each phantom")
    parser.add_argument("--provocations", type=int, default=3, help="of each kind and phantom")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--page", type=Path)
    chosen = parser.parse_args()
    found = run(chosen.out / "calibration.json", chosen.scans, chosen.provocations)
    if chosen.page:
        said = f"python benchmarks/calibration.py --scans {chosen.scans} --provocations {chosen.provocations}"
        write_page(chosen.page, found, said)
    print(tables(found))
    print(f"{len(wrong_fits(found))} wrong fits accepted")
