"""How simulated patients lie before the source: the body's pose, and each femur's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.rigid import Matrix, Vector, rigid_matrix
from hierbmd.simulation.options import StudyOptions

_REACH = 2.2


@dataclass(frozen=True)
class Position:
    """How a patient is laid: means and SDs in degrees.

    `tilt_deg` turns the pelvis backward against the legs, which stay; then each femur's abduction and outward rotation
    about its head, from how it lies in the CT, and the SD of its flexion.
    """

    tilt_deg: tuple[float, float] = (0.0, 0.0)
    abduction_deg: tuple[float, float] = (0.0, 2.0)
    outward_deg: tuple[float, float] = (0.0, 4.0)
    flexion_sd_deg: float = 2.0


POSITIONS = {
    "supine": Position(outward_deg=(-8.0, 4.0)),
    "standing": Position(tilt_deg=(5.5, 4.0), outward_deg=(-3.0, 5.0)),
    "abduction": Position(abduction_deg=(10.0, 2.5)),
    "adduction": Position(abduction_deg=(-6.0, 2.0)),
    "rest": Position(outward_deg=(8.0, 5.0), abduction_deg=(2.0, 2.0), flexion_sd_deg=3.0),
}
"""The positions of the papers' precision study. Supine: the feet turned inward by the radiographer (about 15 deg of the
foot, Clohisy et al., JBJS Am 2008). Standing: the pelvis tilts back by about 5 deg (Pierrepont et al., Bone Joint J
2017; unverified). The angles of the others and all SDs are assumptions; soft tissue does not follow, so they are kept
within what the thigh holds."""


def study_camera(options: StudyOptions) -> Camera:
    """The camera of a study's radiographs."""
    return Camera(options.sdd_mm, options.size_px, (options.pixel_mm, options.pixel_mm))


def draw_geometry(
    rng: np.random.Generator, options: StudyOptions, isocentre_world_mm: Vector, *, tilt_deg: float = 0.0
) -> ProjectionGeometry:
    """A bilateral AP radiograph's geometry at a drawn pose of the patient, the pelvis tilted back by `tilt_deg`."""
    rotation = _draw(rng, 3) * options.rotation_deg - [tilt_deg, 0.0, 0.0]
    shift = _draw(rng, 3) * options.shift_mm
    placement = Placement(View.AP, isocentre_world_mm, options.source_isocentre_mm)
    pose = placement.camera_from_world(Motion(*(float(x) for x in (*rotation, *shift))))
    return ProjectionGeometry(study_camera(options), pose, View.AP, Side.BOTH)


def draw_tilt_deg(rng: np.random.Generator, position: Position | None) -> float:
    """How far the pelvis tilts back in a position, degrees."""
    return 0.0 if position is None else float(position.tilt_deg[0] + position.tilt_deg[1] * _draw(rng, 1)[0])


def draw_femur_motions(
    rng: np.random.Generator,
    options: StudyOptions,
    pivots_world_mm: Mapping[str, Vector],
    present: Iterable[str],
    *,
    position: Position | None = None,
    tilt_deg: float = 0.0,
) -> dict[str, Matrix]:
    """Each femur's motion about its head against the pelvis, world_from_world 4x4 by name.

    Abduction, flexion and rotation about the leg are drawn apart; the two sides share a part, as legs are laid
    together. Without a position all are of SD `options.femur_deg`; with one, a tilted pelvis leaves the legs behind.
    """
    mean, spread = np.zeros(3), np.full(3, options.femur_deg)
    if position is not None:
        mean = np.array([tilt_deg, position.abduction_deg[0], position.outward_deg[0]])
        spread = np.array([position.flexion_sd_deg, position.abduction_deg[1], position.outward_deg[1]])
    motions, shared = {}, _draw(rng, 3)
    for side in ("left", "right"):
        angles = mean + (0.6 * shared + 0.8 * _draw(rng, 3)) * spread
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
