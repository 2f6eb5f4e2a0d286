"""Bones on the grid: each shape becomes an occupancy and a density, cortex and trabeculae apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, rigid_matrix, transform_points
from hierbmd.simulation.femur import FemurFrame, femur_frame, femur_shape, local_from_hip, trabecular_mg_cm3
from hierbmd.simulation.morphometry import Anatomy, BoneQuality
from hierbmd.simulation.pelvis import hemipelvis_shape, lumbar_shape, sacrum_shape
from hierbmd.simulation.shapes import Field, Shape, box_of, evaluate, occupancy
from hierbmd.simulation.soft_tissue import smooth_noise

Floats = NDArray[np.float32]

CORTEX_MG_CM3 = 1070.0
"""Density of compact bone of a young adult in mg/cm3 HA, as QCT of a thick diaphysis shows it: 1000-1150."""

_PELVIS_TRABECULAR_MG_CM3 = 205.0
_SPINE_TRABECULAR_MG_CM3 = 190.0
_MIN_WALL_MM = 0.35
_JOINT_GAP_MM = 2.4


@dataclass(frozen=True)
class Bone:
    """One bone on a box of the grid: `occupancy` 0..1, and `density` in mg/cm3 HA already weighted by it."""

    name: str
    box: tuple[slice, slice, slice]
    occupancy: Floats
    density: Floats


def make_bones(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> list[Bone]:
    """All bones of a patient on an axis-aligned grid in pelvis coordinates, kept apart by their joints."""
    femora = {side: _femur_field(grid, anatomy, side) for side in ("left", "right")}
    hips = {}
    for n, side in enumerate(("left", "right")):
        wall = anatomy.quality[n].cortex_thickness
        shape = hemipelvis_shape(anatomy.pelvis, anatomy.femora[n].head_radius_mm, wall)
        shape = shape.transformed(_side_matrix(anatomy, side))
        hips[side] = _apart(_field(shape, grid), [femora[side]])
    wall = anatomy.quality[0].cortex_thickness
    tilt = _tilt(anatomy)
    sacrum = _field(sacrum_shape(anatomy.pelvis, wall).transformed(tilt), grid)
    sacrum = _apart(sacrum, list(hips.values()))
    lumbar: dict[str, Field] = {}
    for level in (5, 4):
        shape = lumbar_shape(level, anatomy.pelvis, wall).transformed(tilt)
        if box_of(shape, grid) is not None:
            lumbar[f"vertebrae_L{level}"] = _apart(_field(shape, grid), [sacrum, *hips.values(), *lumbar.values()])
    bones = [_femur_bone(grid, anatomy, side, femora[side], rng) for side in ("left", "right")]
    for n, side in enumerate(("left", "right")):
        bones.append(_plain_bone(f"hip_{side}", hips[side], _PELVIS_TRABECULAR_MG_CM3, anatomy.quality[n], grid, rng))
    bones.append(_plain_bone("sacrum", sacrum, _SPINE_TRABECULAR_MG_CM3, anatomy.quality[0], grid, rng))
    bones += [_plain_bone(n, f, _SPINE_TRABECULAR_MG_CM3, anatomy.quality[0], grid, rng) for n, f in lumbar.items()]
    return bones


def hip_centre_mm(anatomy: Anatomy, side: str) -> NDArray[np.float64]:
    """The centre of a femoral head in pelvis coordinates, mm."""
    sign = 1.0 if side == "left" else -1.0
    return np.array([sign * anatomy.pelvis.half_hip_distance_mm, 0.0, 0.0])


def femur_world_from_local(anatomy: Anatomy, side: str) -> Matrix:
    """The 4x4 (a mirror for the right) from a femur's local frame to pelvis coordinates."""
    n = 0 if side == "left" else 1
    matrix = local_from_hip(anatomy.femora[n], left=side == "left").copy()
    matrix[:3, 3] = hip_centre_mm(anatomy, side)
    return matrix


def _femur_field(grid: Grid, anatomy: Anatomy, side: str) -> Field:
    n = 0 if side == "left" else 1
    shape = femur_shape(femur_frame(anatomy.femora[n]), anatomy.quality[n].cortex_thickness)
    return _field(shape.transformed(femur_world_from_local(anatomy, side)), grid)


def _femur_bone(grid: Grid, anatomy: Anatomy, side: str, field: Field, rng: np.random.Generator) -> Bone:
    n = 0 if side == "left" else 1
    frame: FemurFrame = femur_frame(anatomy.femora[n])
    local = np.asarray(np.linalg.inv(femur_world_from_local(anatomy, side)), dtype=np.float64)
    points = transform_points(local, _box_points(grid, field.box)).astype(np.float32)
    trabecular = trabecular_mg_cm3(frame, points, anatomy.quality[n].trabecular)
    return _composed(f"femur_{side}", field, trabecular, anatomy.quality[n], grid, rng)


def _plain_bone(
    name: str, field: Field, level_mg_cm3: float, quality: BoneQuality, grid: Grid, rng: np.random.Generator
) -> Bone:
    """A bone whose trabeculae are densest under the cortex and even in its core."""
    core = np.clip((-field.distance_mm - 2.0) / 6.0, 0.0, 1.0)
    trabecular = level_mg_cm3 * quality.trabecular * (1.25 - 0.35 * core)
    return _composed(name, field, trabecular.astype(np.float32), quality, grid, rng)


def _composed(
    name: str, field: Field, trabecular: Floats, quality: BoneQuality, grid: Grid, rng: np.random.Generator
) -> Bone:
    voxel = float(grid.spacing_mm[0])
    wall = np.maximum(field.thickness_mm, _MIN_WALL_MM)
    outer = occupancy(field.distance_mm, voxel)
    inner = occupancy(field.distance_mm + wall, voxel)
    # Heterogeneity of trabecular density: about 20 % over a few millimetres, as local QCT regions scatter.
    uneven = np.exp(
        0.16 * smooth_noise(rng, outer.shape, 7.0 / voxel) + 0.08 * smooth_noise(rng, outer.shape, 2.5 / voxel)
    )
    cortex = np.float32(CORTEX_MG_CM3 * quality.cortex_density)
    density = (outer - inner) * cortex + inner * trabecular * uneven
    return Bone(name, field.box, outer, density.astype(np.float32))


def _field(shape: Shape, grid: Grid) -> Field:
    box = box_of(shape, grid)
    if box is None:
        raise ValueError("the bone lies outside the grid")
    return evaluate(shape, grid, box)


def _apart(field: Field, others: list[Field]) -> Field:
    """The field with whatever lies within a joint's gap of its neighbours taken away."""
    distance = field.distance_mm
    for other in others:
        shared = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(field.box, other.box, strict=True)
        )
        if any(s.stop <= s.start for s in shared):
            continue
        mine = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(shared, field.box, strict=True))
        theirs = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(shared, other.box, strict=True))
        distance[mine] = np.maximum(distance[mine], np.float32(_JOINT_GAP_MM) - other.distance_mm[theirs])
    return Field(distance, field.thickness_mm, field.box)


def _box_points(grid: Grid, box: tuple[slice, slice, slice]) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"), axis=-1)
    return transform_points(grid.world_from_index, np.asarray(index, dtype=np.float64))


def _tilt(anatomy: Anatomy) -> Matrix:
    """Pelvic tilt about the axis through the hip centres."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("x", anatomy.pelvis.tilt_deg, degrees=True).as_matrix()
    return rigid_matrix(turn, np.zeros(3))


def _side_matrix(anatomy: Anatomy, side: str) -> Matrix:
    mirror = np.diag([1.0 if side == "left" else -1.0, 1.0, 1.0, 1.0])
    return np.asarray(mirror @ _tilt(anatomy))
