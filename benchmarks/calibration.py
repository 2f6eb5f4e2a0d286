"""`calibrate --phantom` on simulated QCT scans of known truth: every phantom of the table, and what must be refused.

    python benchmarks/calibration.py [--scans 30] [--provocations 3] [--patients 12] [--out out/bench] [--page PAGE.md]

Each scan has its own body, tilt, noise, field of view, beam and serial, and two inserts of known density in the body:
one near its outline, which the criterion is about, and one in its middle, where cupping lowers what is read. What is
done already is kept: the same command goes on after a stop. `--patients` are virtual ones whose scan is calibrated by
its phantom and by the patient's own tissues, which differ between them as people's do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from calibration_page import INSERT_MG_CM3, INSERT_SHARE, SLOPE_PERCENT, internal_table, tables, write_page, wrong_fits
from calibration_scans import INSERT_MM, KINDS, PROVOCATIONS, Body, body_of, options_of, without_a_rod
from calibration_tissues import INTERNAL, internal_trial

from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.data.calibration import Calibration
from hierbmd.data.density import RESEARCH_USE_ONLY, Material
from hierbmd.data.phantoms import phantom_names
from hierbmd.data.volume import Volume
from hierbmd.errors import Uncalibrated
from hierbmd.io.atomic import read_json, write_json
from hierbmd.simulation.scanner import Scan, scan

Row = dict[str, Any]


def trial(phantom: str, number: int, kind: str = "") -> Row:
    """One scan simulated, provoked if so, and calibrated: what came of it beside the truth."""
    seed = [number, *phantom.encode(), *kind.encode()]
    rng = np.random.default_rng(seed)
    body, options = body_of(rng), options_of(phantom, rng, serial=number + 1)
    if kind == "missing rod":
        volume, table, found = without_a_rod(phantom, body, options, rng)
    else:
        found = scan(body, options, number)
        assert found.phantom is not None
        volume, table = PROVOCATIONS[kind](found, rng) if kind else (found.volume, found.phantom.phantom)
    row: Row = {"phantom": phantom, "number": number, "kind": kind, "kvp": options.kvp, "noise_hu": options.noise_hu}
    try:
        return {**row, "outcome": "calibrated", **_judged(calibrate_by_phantom(volume, table), found, body)}
    except Uncalibrated as error:
        return {**row, "outcome": type(error).__name__, "reason": str(error)}


def _judged(line: Calibration, found: Scan, body: Body) -> Row:
    """A fitted line against the true one, and what it calls the inserts as the scan has them, without streaks."""
    true = found.lines[line.material]
    water = found.lines[Material.HA]
    hu = (body.insert_mg_cm3 - water.intercept) / water.slope
    insert = true.slope * hu + true.intercept
    near, middle = (line.slope * _insert_hu(found.volume, at) + line.intercept - insert for at in body.inserts_mm)
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


def _insert_hu(volume: Volume, at_mm: tuple[float, float]) -> float:
    """The mean of an insert's core (its rim of 4 mm left out) over the slices but the first and last."""
    matrix = volume.grid.world_from_index
    x, y = (matrix[n, 3] + matrix[n, n] * np.arange(volume.grid.shape[n]) for n in range(2))
    inside = np.hypot(x[:, None] - at_mm[0], y[None, :] - at_mm[1]) < 0.5 * INSERT_MM - 4.0
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


def run(path: Path, scans: int, provocations: int, patients: int = 0) -> list[Row]:
    """Do every trial that `path` (JSON) does not hold yet; it is written after each."""
    rows: list[Row] = read_json(path)["trials"] if path.is_file() else []
    done = {(row["phantom"], row["number"], row["kind"]) for row in rows}
    wanted = [*trials(scans, provocations), *(("B-MAS200", 3000 + n, INTERNAL) for n in range(patients))]
    for count, one in enumerate(wanted, start=1):
        if one not in done:
            rows.append(internal_trial(*one) if one[2] == INTERNAL else trial(*one))
            write_json(path, {"simulated": True, "research_use_only": RESEARCH_USE_ONLY, "trials": rows})
            print(f"{count} of {len(wanted)}: {one[0]} {one[2] or 'plain'}: {rows[-1]['outcome']}", flush=True)
    return [row for row in rows if (row["phantom"], row["number"], row["kind"]) in set(wanted)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=30, help="of each phantom")
    parser.add_argument("--provocations", type=int, default=3, help="of each kind and phantom")
    parser.add_argument("--patients", type=int, default=12, help="virtual ones, for the calibration by tissues")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--page", type=Path)
    chosen = parser.parse_args()
    found = run(chosen.out / "calibration.json", chosen.scans, chosen.provocations, chosen.patients)
    if chosen.page:
        counts = f"--scans {chosen.scans} --provocations {chosen.provocations} --patients {chosen.patients}"
        write_page(chosen.page, found, f"python benchmarks/calibration.py {counts}")
    print(tables([row for row in found if row["kind"] != INTERNAL]))
    print(internal_table(found))
    print(f"{len(wrong_fits(found))} wrong fits accepted")
