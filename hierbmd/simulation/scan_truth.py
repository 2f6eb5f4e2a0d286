"""What truth.json says of a QCT scan: what was scanned along, what it truly reads, and what the scanner did."""

from __future__ import annotations

import dataclasses
from typing import Any

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.data.phantoms import phantom_to_json
from hierbmd.io.dicom_write import CtAcquisition
from hierbmd.simulation.phantom_rods import PlacedPhantom
from hierbmd.simulation.scanner import Scan


def scan_truth(scan: Scan) -> dict[str, Any]:
    """The truth of a scan as JSON: `calibration` by material, `phantom` with its rods, `slices`, `beam`, `options`.

    A rod's `hu` is its true mean over the slices, without noise; `true` lines hold outside the cupping, as rods lie.
    HA and K2HPO4 lines belong to their own rods.
    """
    scale = scan.scale
    return {
        "simulated": True,
        "research_use_only": RESEARCH_USE_ONLY,
        "options": dataclasses.asdict(scan.options),
        "beam": {
            "effective_kev": round(scan.beam.effective_kev, 3),
            "hu_per_mg_cm3_ha": scan.beam.hydroxyapatite_hu_per_mg_cm3,
            "sigma_ref_k2hpo4": scan.beam.dipotassium_phosphate_over_water,
        },
        "calibration": {
            material.value: {"slope": line.slope, "intercept": line.intercept, "unit": f"mg/cm3 {material.value}"}
            for material, line in scan.lines.items()
        },
        "phantom": None if scan.phantom is None else _phantom_truth(scan.phantom, scan),
        "slices": {
            "z_mm": _rounded(scale.z_mm),
            "gain": _rounded(scale.gain, 7),
            "offset_hu": round(scale.offset_hu, 4),
            "noise_sd_hu": _rounded(scale.noise_sd_hu),
            "water_diameter_mm": _rounded(scale.water_diameters_mm, 2),
        },
        "body_beyond_field": round(scan.beyond_field, 6),
    }


def _phantom_truth(placed: PlacedPhantom, scan: Scan) -> dict[str, Any]:
    gain = float(scan.scale.gain.mean())
    rods = []
    for rod, hu in zip(placed.phantom.rods, placed.rods_hu, strict=True):
        ends = placed.axis_world_mm(rod)
        rods.append(
            {
                **{key: value for key, value in dataclasses.asdict(rod).items() if value is not None},
                "hu": round((hu + 1000.0) * gain - 1000.0 + scan.scale.offset_hu, 4),
                "axis_world_mm": [_rounded(end) for end in ends],
            }
        )
    table = {key: value for key, value in phantom_to_json(placed.phantom).items() if key != "rods"}
    return {
        **table,
        "serial": scan.options.serial,
        "world_from_phantom": placed.world_from_phantom.tolist(),
        "rods": rods,
    }


def _rounded(values: Any, digits: int = 4) -> list[float]:
    return [round(float(x), digits) for x in values]


def acquisition_of(scan: Scan) -> CtAcquisition:
    """What the scan's DICOM tags say of how it was taken."""
    options, grid = scan.options, scan.volume.grid
    return CtAcquisition(
        kvp=options.kvp,
        kernel="" if options.kernel == "none" else options.kernel.upper(),
        thickness_mm=options.thickness_mm,
        field_mm=float(grid.spacing_mm[0]) * max(grid.shape[:2]),
        padding_hu=options.padding_hu,
    )
