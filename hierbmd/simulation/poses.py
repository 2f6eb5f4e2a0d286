"""How simulated patients lie before the source: the body's pose, and each femur's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.rigid import Matrix, Vector, rigid_matrix
from hierbmd.simulation.options import StudyOptions

_REACH = 2.2


def study_camera(options: StudyOptions) -> Camera:
    """The camera of a study's radiographs."""
    return Camera(options.sdd_mm, options.size_px, (options.pixel_mm, options.pixel_mm))


def draw_geometry(rng: np.random.Generator, options: StudyOptions, isocentre_world_mm: Vector) -> ProjectionGeometry:
    """A bilateral AP radiograph's geometry at a drawn pose of the patient."""
    rotation = _draw(rng, 3) * options.rotation_deg
    shift = _draw(rng, 3) * options.shift_mm
    placement = Placement(View.AP, isocentre_world_mm, options.source_isocentre_mm)
    pose = placement.camera_from_world(Motion(*(float(x) for x in (*rotation, *shift))))
    return ProjectionGeometry(study_camera(options), pose, View.AP, Side.BOTH)


def draw_femur_motions(
    rng: np.random.Generator, options: StudyOptions, pivots_world_mm: Mapping[str, Vector], present: Iterable[str]
) -> dict[str, Matrix]:
    """Each femur's motion about its head against the pelvis, world_from_world 4x4 by name.

    Abduction, flexion and rotation about the leg are drawn apart; the two sides share a part, as legs are laid
    together.
    """
    motions, shared = {}, _draw(rng, 3)
    for side in ("left", "right"):
        angles = (0.6 * shared + 0.8 * _draw(rng, 3)) * options.femur_deg
        name = f"femur_{side}"
        if name not in present or side not in pivots_world_mm:
            continue
        mirror = 1.0 if side == "left" else -1.0
        turn = Rotation.from_euler(
            "xyz", [angles[0], -mirror * angles[1], mirror * angles[2]], degrees=True
        ).as_matrix()
        pivot = np.asarray(pivots_world_mm[side])
        motions[name] = rigid_matrix(turn, pivot - turn @ pivot)
    return motions


def _draw(rng: np.random.Generator, n: int) -> np.ndarray:
    """Standard normal numbers, those beyond the reach drawn again."""
    values = rng.standard_normal(n)
    while np.any(np.abs(values) > _REACH):
        values = np.where(np.abs(values) > _REACH, rng.standard_normal(n), values)
    return values
