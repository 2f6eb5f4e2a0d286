"""What a registration leaves on disk: registration.json, a geometry file and an overlay for each bone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import ProjectionGeometry
from hierbmd.io.atomic import write_json
from hierbmd.io.geometry_file import geometry_to_json, write_geometry
from hierbmd.io.image import write_png
from hierbmd.registration.body import make_body
from hierbmd.registration.intrinsics import SddEstimate
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import AXES, BoneRegistration
from hierbmd.registration.overlay import overlay
from hierbmd.registration.review import review_of
from hierbmd.registration.uncertainty import INTERVAL_95

REGISTRATION_FILE, INTRINSICS_FILE = "registration.json", "intrinsics.json"
AXES_NOTE = (
    "standard errors in camera axes about the bone's centroid (x right, y down, depth along the beam); "
    "depth is weak in a single view; null: not determined"
)


def write_registrations(
    out: Path,
    found: Mapping[str, BoneRegistration],
    *,
    volume: Volume,
    labels: LabelMap,
    radiograph: Radiograph,
    start: ProjectionGeometry,
    options: RegistrationOptions,
) -> None:
    """Write registration.json and, for each bone, NAME.png (outline, checkerboard) and NAME.geometry.json.

    A bone that did not converge gets its overlay, to see why, and no geometry file. OutputUnwritable where it applies.
    """
    bones = {}
    for name, result in found.items():
        body = make_body(
            name, volume, labels, structures=(name,), metal_hu=options.metal_hu, around_hu=options.around_hu
        )
        bones[name] = _bone_to_json(result, review_of(result, body.pivot_world_mm, options))
        picture = overlay(radiograph.pixels, start.camera, body, result.camera_from_world)
        write_png(out / f"{name}.png", picture)
        geometry = out / f"{name}.geometry.json"
        if result.converged:
            write_geometry(geometry, replace(start, camera_from_world=result.camera_from_world))
        else:
            geometry.unlink(missing_ok=True)
    about = {
        "research_use_only": RESEARCH_USE_ONLY,
        "frame": "LPS-mm",
        "uncertainty_axes": AXES_NOTE,
        "standard_errors_to_95_interval": INTERVAL_95,
        "trajectory_columns": list(AXES),
        "burned_in_annotation": radiograph.burned_in_annotation,
        "start": geometry_to_json(start),
    }
    write_json(out / REGISTRATION_FILE, {**about, "bones": bones})


def write_intrinsics(out: Path, estimate: SddEstimate) -> None:
    """Write intrinsics.json: the refined source-detector distance, its standard error, and what it goes with."""
    error_mm = estimate.standard_error_mm
    facts = {
        "given_sdd_mm": estimate.given_mm,
        "sdd_mm": round(estimate.sdd_mm, 3),
        "standard_error_mm": round(error_mm, 3) if np.isfinite(error_mm) else None,
        "determined": estimate.determined,
        "why_not": estimate.why,
        "correlation_with_depth": {name: round(value, 4) for name, value in estimate.depth_correlation.items()},
    }
    write_json(out / INTRINSICS_FILE, {"research_use_only": RESEARCH_USE_ONLY, **facts})


def _bone_to_json(result: BoneRegistration, review: Mapping[str, Any]) -> dict[str, Any]:
    starts = [
        {
            "similarity": round(start.similarity, 5),
            "agrees": start.agrees,
            "camera_from_world": start.camera_from_world.tolist(),
        }
        for start in result.starts
    ]
    return {
        "camera_from_world": result.camera_from_world.tolist(),
        **review,
        "starts": starts,
        "metal_voxels_excluded": result.metal_voxels,
        "projections": result.steps,
        "seconds": round(result.seconds, 3),
    }
