"""What the quality page shows of one manifest row: its calibration, its labels on three planes, its regions, flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hierbmd.anatomy.areal import MeasuredSite
from hierbmd.anatomy.hip import Hip
from hierbmd.anatomy.planes import labels_picture
from hierbmd.anatomy.region_picture import regions_picture
from hierbmd.data.calibration import INTERNAL, Calibration
from hierbmd.data.site import site_of
from hierbmd.geometry import Side
from hierbmd.io.image import write_png
from hierbmd.pairing.make import Patient
from hierbmd.report.calibration import write_calibration_picture

FOLDER = "quality"

_SLOPE_SE_SHARE, _DRIFT_PERCENT, _DRIFT_HU = 0.01, 1.0, 8.0
_HEAD_MM, _NECK_SHAFT_DEG = (19.0, 29.0), (115.0, 142.0)
_HEADS_APART_MM, _SIDES_APART = 2.0, 0.20
"""What calls for a second look (choices): far inside what is refused, at the rim of what adults have."""


def write_quality(
    out: Path, key: str, patient: Patient, measured: Mapping[Side, MeasuredSite], *, target: str
) -> dict[str, Any]:
    """Write a row's pictures to `quality/`, each atomically; their names, figures and flags come back as plain values.

    `measured` has the sides that could be measured, whether they became pairs or not.
    """
    site, line = site_of(target), patient.calibration
    names = [site.label(bone, side) for side in measured for bone in site.bones]
    pictures = {}
    if line.rods or line.tissues:
        pictures["calibration"] = f"{FOLDER}/{key}_calibration.png"
        write_calibration_picture(out / pictures["calibration"], patient.volume, line)
    if names:
        pictures["labels"] = f"{FOLDER}/{key}_labels.png"
        write_png(out / pictures["labels"], labels_picture(patient.volume, patient.labels, names=names))
    sides = []
    for side, one in measured.items():
        picture = f"{FOLDER}/{key}_{site.called(side).replace(' ', '_')}.png"
        write_png(out / picture, regions_picture(one))
        sides.append({"name": site.called(side), "picture": picture, "regions": _regions(one)})
    flags = [*_of_line(line), *_of_sides(measured)]
    return {"calibration": _line_facts(line), "pictures": pictures, "sides": sides, "flags": flags}


def _regions(measured: MeasuredSite) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "bmd_g_cm2": round(region.bmd.bmd_g_cm2, 5),
            "area_cm2": round(region.bmd.area_cm2, 3),
            "vbmd_mg_cm3": round(region.volumetric_mg_cm3, 3),
        }
        for name, region in measured.regions.items()
    ]


def _line_facts(line: Calibration) -> dict[str, Any]:
    return {
        "method": line.method,
        "phantom": line.phantom,
        "slope": line.slope,
        "slope_se": None if line.uncertainty is None else line.uncertainty.slope_se,
        "intercept": line.intercept,
        "material": line.material.value,
        "residual_mg_cm3": line.residual_mg_cm3,
        "notes": list(line.notes),
    }


def _of_line(line: Calibration) -> Iterator[str]:
    """What to doubt of a calibration."""
    if line.method == INTERNAL:
        yield "internally calibrated by the patient's own tissues"
    missing = [rod["name"] for rod in line.rods if not rod["read"]]
    if missing:
        yield f"rods not read: {', '.join(missing)}"
    if line.uncertainty is not None and line.uncertainty.slope_se > _SLOPE_SE_SHARE * line.slope:
        yield f"the slope is known to {line.uncertainty.slope_se / line.slope:.1%} only"
    drift = line.drift
    if drift is not None and (abs(drift.slope_percent) > _DRIFT_PERCENT or abs(drift.zero_hu) > _DRIFT_HU):
        yield f"the scale drifts by {drift.slope_percent:+.1f} % and {drift.zero_hu:+.0f} HU along the scan"


def _of_sides(measured: Mapping[Side, MeasuredSite]) -> Iterator[str]:
    """What to doubt of the sides, and where two of one patient differ."""
    for side, one in measured.items():
        called = site_of(one.target).called(side)
        if one.metal_mm3 > 0:
            yield f"{called}: metal, {one.metal_mm3:.0f} mm3, taken out"
        if isinstance(one, Hip):
            yield from (f"{called}: {doubt}" for doubt in _of_hip(one))
    hips = [one for one in measured.values() if isinstance(one, Hip)]
    if len(hips) == 2:
        radii = [hip.axes.head.radius_mm for hip in hips]
        if abs(radii[0] - radii[1]) > _HEADS_APART_MM:
            yield f"the femoral heads differ: radii {radii[0]:.1f} and {radii[1]:.1f} mm"
        bmd = [hip.bmd.bmd_g_cm2 for hip in hips]
        if abs(bmd[0] - bmd[1]) > _SIDES_APART * max(bmd):
            yield f"the sides differ: {bmd[0]:.3f} and {bmd[1]:.3f} g/cm2"


def _of_hip(hip: Hip) -> Iterator[str]:
    if not hip.axes.trochanter_found:
        yield "no lesser trochanter seen, its end set by proportion"
    if not _HEAD_MM[0] <= hip.axes.head.radius_mm <= _HEAD_MM[1]:
        yield f"a head of radius {hip.axes.head.radius_mm:.1f} mm"
    if not _NECK_SHAFT_DEG[0] <= hip.axes.neck_shaft_deg <= _NECK_SHAFT_DEG[1]:
        yield f"neck and shaft at {hip.axes.neck_shaft_deg:.0f} deg"
