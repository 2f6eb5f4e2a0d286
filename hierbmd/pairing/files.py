"""What a made pair leaves on disk: its images, a picture to judge it by, and the plain values that tables hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.anatomy.areal import MeasuredSite
from hierbmd.anatomy.hip import Hip
from hierbmd.anatomy.overlay import pair_picture
from hierbmd.anatomy.spine import Spine
from hierbmd.data.calibration import Calibration
from hierbmd.data.pairs import PairRecord, TrainingPair
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.site import site_of
from hierbmd.io.dataset import write_pair
from hierbmd.io.image import write_png
from hierbmd.pairing.make import MadePair

_OF_HIPS = ("plane_shift_percent", "head_radius_mm", "neck_shaft_deg", "trochanter_found")


def qc_columns(region: str) -> tuple[str, ...]:
    """The columns of qc.csv for the site of a region."""
    site = site_of(region)
    own = _OF_HIPS if site.paired else tuple(f"trabecular_{bone.lower()}_mg_cm3" for bone in site.bones)
    return (
        *("pair_id", "subject", "side", "bmd_qct_g_cm2", "bmc_g", "area_cm2", "vbmd_mg_cm3"),
        *("region_bmd_at_pose_g_cm2", *own, "metal_mm3"),
        *(f"{what}_{bone}" for bone in site.bones for what in ("outcome", "similarity", "in_plane_mm", "depth_mm")),
        *("labels", "labels_edge_offset_mm"),
        *("calibration", "phantom", "rods_read", "residual_mg_cm3", "slope", "slope_se", "intercept", "region"),
        *(f"{what}_{name}_{unit}" for name in site.regions for what, unit in (("bmd", "g_cm2"), ("vbmd", "mg_cm3"))),
        *(f"at_pose_{name}_g_cm2" for name in site.regions),
    )


def write_made_pair(out: Path, record: PairRecord, made: MadePair) -> None:
    """Write a pair's images to `pairs/` and its picture to `qc/`, each atomically."""
    images = made.images
    target = (images.radiograph, images.bones, images.region, images.region_mask, images.further)
    write_pair(out, TrainingPair(record, *target))
    picture = pair_picture(images.radiograph, images.bones, images.region_mask, made.half.covered)
    write_png(out / "qc" / f"{record.pair_id}.png", picture)


def record_of(made: MadePair, radiograph: Radiograph, *, pair_id: str, subject: str, sha256: str) -> PairRecord:
    """The record of a pair as far as its images tell; who the patient is comes from the manifest later."""
    assert radiograph.view is not None
    assert radiograph.source_isocentre_mm is not None
    target = made.measured.regions[made.measured.target]
    return PairRecord(
        pair_id=pair_id,
        subject=subject,
        side=made.measured.side,
        bmd_g_cm2=target.bmd.bmd_g_cm2,
        bmd_source="qct",
        bmd_qct_g_cm2=target.bmd.bmd_g_cm2,
        region_bmd_at_pose_g_cm2=made.images.region_bmd_g_cm2,
        outcomes={bone: result.outcome.value for bone, result in made.found.items()},
        radiograph="",
        radiograph_sha256=sha256,
        view=radiograph.view,
        sdd_mm=made.half.geometry.camera.sdd_mm,
        source_isocentre_mm=radiograph.source_isocentre_mm,
        mirrored=made.half.geometry.mirrored,
        metal=made.measured.metal_mm3 > 0,
        burned_in_annotation=radiograph.burned_in_annotation,
    )


def quality_of(made: MadePair, calibration: Calibration) -> dict[str, Any]:
    """One row of qc.csv: what a reader needs to doubt a pair."""
    measured = made.measured
    target = measured.regions[measured.target]
    row: dict[str, str | float | None] = {
        "side": measured.side.value,
        "bmd_qct_g_cm2": target.bmd.bmd_g_cm2,
        "bmc_g": target.bmd.bmc_g,
        "area_cm2": target.bmd.area_cm2,
        "vbmd_mg_cm3": target.volumetric_mg_cm3,
        "region_bmd_at_pose_g_cm2": made.images.region_bmd_g_cm2,
        **_of_site(measured),
        "metal_mm3": measured.metal_mm3,
        "phantom": calibration.phantom,
        "rods_read": sum(bool(rod.get("read")) for rod in calibration.rods) if calibration.rods else None,
        "residual_mg_cm3": calibration.residual_mg_cm3,
        "slope": calibration.slope,
        "slope_se": None if calibration.uncertainty is None else calibration.uncertainty.slope_se,
        "intercept": calibration.intercept,
    }
    for name, region in measured.regions.items():
        row[f"bmd_{name}_g_cm2"] = region.bmd.bmd_g_cm2
        row[f"vbmd_{name}_mg_cm3"] = region.volumetric_mg_cm3
        row[f"at_pose_{name}_g_cm2"] = made.images.at_pose_g_cm2[name]
    for bone, result in made.found.items():
        row[f"similarity_{bone}"] = result.similarity
        row[f"in_plane_mm_{bone}"] = result.uncertainty.in_plane_mm
        row[f"depth_mm_{bone}"] = result.uncertainty.depth_mm
    rounded = {name: _rounded(value) if isinstance(value, float) else value for name, value in row.items()}
    named = {f"outcome_{bone}": result.outcome.name for bone, result in made.found.items()}
    return {**rounded, **named, "calibration": calibration.method, "region": measured.target}


def _of_site(measured: MeasuredSite) -> dict[str, float | None]:
    """What only this site has: a hip's landmarks, a spine's trabecular densities."""
    if isinstance(measured, Hip):
        return {
            "plane_shift_percent": measured.plane_shift_percent,
            "head_radius_mm": measured.axes.head.radius_mm,
            "neck_shaft_deg": measured.axes.neck_shaft_deg,
            "trochanter_found": int(measured.axes.trochanter_found),
        }
    assert isinstance(measured, Spine)
    return {f"trabecular_{name.lower()}_mg_cm3": value for name, value in measured.trabecular_mg_cm3.items()}


def _rounded(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None
