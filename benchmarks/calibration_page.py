"""The calibration benchmark's page: its tables, nothing by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from calibration_scans import KINDS, TOLERATED
from calibration_tissues import DENSITIES_MG_CM3, INTERNAL

from hierbmd.data.phantoms import phantom_names
from hierbmd.io.atomic import atomic_path

SLOPE_PERCENT = 1.0
INSERT_MG_CM3, INSERT_SHARE = 2.0, 0.01
"""What a fit is held to: its slope, and what it calls the known insert."""

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

## By the patient's own tissues

Virtual patients on a B-MAS200, whose fat reads 4 HU (SD) off the average and muscle 6, and whose cortex is as dense as
their bone quality was drawn; labels of the femora given, other tissues by HU. Simulation and calibration take tissues
from one table of compositions: what these differ by between people, beyond those draws, is not in it.

{internal}
"""

Row = dict[str, Any]


def wrong_fits(rows: list[Row]) -> list[Row]:
    """Fits that were accepted and are not right, but for those of a choice that is the user's."""
    left_out = (*TOLERATED, INTERNAL)
    return [row for row in rows if row["kind"] not in left_out and row["outcome"] == "calibrated" and not row["right"]]


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
        if not fits:
            continue
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


def internal_table(rows: list[Row]) -> str:
    """The table of the tissues beside the phantom, Markdown; empty without such trials."""
    mine = [row for row in rows if row["kind"] == INTERNAL]
    if not mine:
        return ""
    head = ("calibrated by", "patients", "refused", "slope: mean, SD, largest error (%)")
    head = (*head, *(f"at {at} mg/cm3: mean, SD (mg/cm3)" for at in DENSITIES_MG_CM3), "95 % interval holds the slope")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in ("by phantom", "tissues", "tissues, voltage known"):
        read = [row[name] for row in mine if "refused" not in row[name]]
        slopes = np.array([one["slope_percent"] for one in read])
        cells = [name, str(len(mine)), str(len(mine) - len(read))]
        cells.append(f"{slopes.mean():+.1f}, {slopes.std(ddof=1):.1f}, {np.abs(slopes).max():.1f}")
        for at in DENSITIES_MG_CM3:
            off = np.array([one[f"at_{at}_mg_cm3"] for one in read])
            cells.append(f"{off.mean():+.1f}, {off.std(ddof=1):.1f}")
        lines.append("| " + " | ".join([*cells, f"{np.mean([one['covered'] for one in read]):.0%}"]) + " |")
    return "\n".join(lines)


def write_page(path: Path, rows: list[Row], command: str) -> None:
    """The page with its tables, nothing by hand."""
    text = _PAGE.format(
        command=command,
        slope=f"{SLOPE_PERCENT:g}",
        insert=f"{INSERT_MG_CM3:g}",
        share=f"{100 * INSERT_SHARE:g}",
        tables=tables([row for row in rows if row["kind"] != INTERNAL]),
        internal=internal_table(rows),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
