"""Bones on the grid: each shape becomes an occupancy and a density, cortex and trabeculae apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, rigid_matrix, transform_points
from hierbmd.simulation.femur import (
    FemurFrame,
    femur_frame,
    femur_shape,
    local_from_hip,
    sclerosis_mg_cm3,
    trabecular_mg_cm3,
)
from hierbmd.simulation.morphometry import SIDES, Anatomy, BoneQuality
from hierbmd.simulation.pelvis import LOAD, hemipelvis_shape, sacrum_shape
from hierbmd.simulation.shapes import Field, Shape, box_of, evaluate, occupancy
from hierbmd.simulation.soft_tissue import smooth_noise
from hierbmd.simulation.spine import LEVELS, spine_place, vertebra_shape

Floats = NDArray[np.float32]

CORTEX_MG_CM3 = 1070.0
"""Density of compact bone of a young adult in mg/cm3 HA, as QCT of a thick diaphysis shows it: 1000-1150."""

_PELVIS_TRABECULAR_MG_CM3 = 205.0
_SPINE_TRABECULAR_MG_CM3 = 190.0
_SCLEROSIS_MG_CM3 = 380.0
_MIN_WALL_MM = 0.35
_JOINT_GAP_MM = 2.4
_FACET_GAP_MM = 1.6


@dataclass(frozen=True)
class Bone:
    """One bone on a box of the grid: `occupancy` 0..1, and `density` in mg/cm3 HA already weighted by it."""

    name: str
    box: tuple[slice, slice, slice]
    occupancy: Floats
    density: Floats


def make_bones(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> list[Bone]:
    """The bones of a patient that meet an axis-aligned grid in pelvis coordinates, kept apart by their joints."""
    fields = _fields(grid, anatomy)
    bones = []
    for name, field in fields.items():
        quality = anatomy.quality[1 if name.endswith("right") else 0]
        if name.startswith("femur"):
            bones.append(_femur_bone(grid, anatomy, name.removeprefix("femur_"), field, rng))
        elif name.startswith("hip"):
            bones.append(_hip_bone(grid, anatomy, name.removeprefix("hip_"), field, rng))
        else:
            spine = quality if name == "sacrum" else anatomy.spine
            bones.append(_plain_bone(name, field, _SPINE_TRABECULAR_MG_CM3, spine, grid, rng))
    return bones


def _fields(grid: Grid, anatomy: Anatomy) -> dict[str, Field]:
    """Each bone's surface, in the order in which they give way to each other."""
    fields: dict[str, Field] = {}
    for n, side in enumerate(SIDES):
        shape = femur_shape(femur_frame(anatomy.femora[n]), anatomy.quality[n].cortex_thickness, anatomy.arthritis[n])
        _put(fields, f"femur_{side}", shape.transformed(femur_world_from_local(anatomy, side)), grid)
    femora = dict(fields)
    for n, side in enumerate(SIDES):
        wall, worn = anatomy.quality[n].cortex_thickness, anatomy.arthritis[n]
        shape = hemipelvis_shape(anatomy.pelvis, anatomy.femora[n].head_radius_mm, wall, worn)
        beside = [femora[name] for name in (f"femur_{side}",) if name in femora]
        _put(
            fields,
            f"hip_{side}",
            shape.transformed(_side_matrix(anatomy, side)),
            grid,
            beside,
            _JOINT_GAP_MM - 2 * worn,
        )
    tilt = _tilt(anatomy)
    sacrum = sacrum_shape(anatomy.pelvis, anatomy.quality[0].cortex_thickness).transformed(tilt)
    hips = [field for name, field in fields.items() if name.startswith("hip")]
    _put(fields, "sacrum", sacrum, grid, hips)
    around = [field for name, field in fields.items() if not name.startswith("femur")]
    for name in LEVELS:
        shape = vertebra_shape(name, anatomy.pelvis, anatomy.spine.cortex_thickness).transformed(tilt)
        _put(fields, name, shape, grid, around, _FACET_GAP_MM)
        if name in fields:
            around.append(fields[name])
    return fields


def _put(
    fields: dict[str, Field],
    name: str,
    shape: Shape,
    grid: Grid,
    beside: Sequence[Field] = (),
    gap_mm: float = _JOINT_GAP_MM,
) -> None:
    """Add a bone to `fields` where the grid has some of it, kept `gap_mm` from those beside it."""
    box = box_of(shape, grid)
    if box is None:
        return
    field = _apart(evaluate(shape, grid, box), beside, gap_mm)
    if np.any(field.distance_mm < 0):
        fields[name] = field


def hip_centre_mm(anatomy: Anatomy, side: str) -> NDArray[np.float64]:
    """The centre of a femoral head in pelvis coordinates, mm."""
    sign = 1.0 if side == "left" else -1.0
    return np.array([sign * anatomy.pelvis.half_hip_distance_mm, 0.0, 0.0])


def lumbar_aim_mm(anatomy: Anatomy) -> NDArray[np.float64]:
    """The centre of L3's body in pelvis coordinates, mm."""
    return transform_points(_tilt(anatomy), spine_place("vertebrae_L3", anatomy.pelvis)[None, :3, 3])[0]


def femur_world_from_local(anatomy: Anatomy, side: str) -> Matrix:
    """The 4x4 (a mirror for the right) from a femur's local frame to pelvis coordinates."""
    n = 0 if side == "left" else 1
    matrix = local_from_hip(anatomy.femora[n], left=side == "left").copy()
    matrix[:3, 3] = hip_centre_mm(anatomy, side)
    return matrix


def _femur_bone(grid: Grid, anatomy: Anatomy, side: str, field: Field, rng: np.random.Generator) -> Bone:
    n = 0 if side == "left" else 1
    frame: FemurFrame = femur_frame(anatomy.femora[n])
    local = np.asarray(np.linalg.inv(femur_world_from_local(anatomy, side)), dtype=np.float64)
    points = transform_points(local, box_points(grid, field.box)).astype(np.float32)
    trabecular = trabecular_mg_cm3(frame, points, anatomy.quality[n].trabecular)
    worn = anatomy.arthritis[n]
    if worn > 0.0:
        trabecular = trabecular + worn * sclerosis_mg_cm3(frame, points)
    return _composed(f"femur_{side}", field, trabecular, anatomy.quality[n], grid, rng)


def _hip_bone(grid: Grid, anatomy: Anatomy, side: str, field: Field, rng: np.random.Generator) -> Bone:
    """A hemipelvis; arthritis hardens its bone over the head, within 12 mm of the socket's roof."""
    n = SIDES.index(side)
    extra: Floats | float = 0.0
    if anatomy.arthritis[n] > 0.0:
        away = box_points(grid, field.box) - hip_centre_mm(anatomy, side)
        distance = np.linalg.norm(away, axis=-1)
        roof = np.clip((away @ (LOAD * [1.0 if n == 0 else -1.0, 1.0, 1.0]) / distance - 0.6) / 0.3, 0.0, 1.0)
        depth = (distance - anatomy.femora[n].head_radius_mm - 3.0) / 12.0
        extra = (anatomy.arthritis[n] * _SCLEROSIS_MG_CM3 * roof * np.clip(1.0 - depth, 0.0, 1.0)).astype(np.float32)
    return _plain_bone(f"hip_{side}", field, _PELVIS_TRABECULAR_MG_CM3, anatomy.quality[n], grid, rng, extra)


def _plain_bone(
    name: str,
    field: Field,
    level_mg_cm3: float,
    quality: BoneQuality,
    grid: Grid,
    rng: np.random.Generator,
    extra_mg_cm3: Floats | float = 0.0,
) -> Bone:
    """A bone whose trabeculae are densest under the cortex and even in its core."""
    core = np.clip((-field.distance_mm - 2.0) / 6.0, 0.0, 1.0)
    trabecular = level_mg_cm3 * quality.trabecular * (1.25 - 0.35 * core) + extra_mg_cm3
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


def _apart(field: Field, others: Sequence[Field], gap_mm: float) -> Field:
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
        distance[mine] = np.maximum(distance[mine], np.float32(gap_mm) - other.distance_mm[theirs])
    return Field(distance, field.thickness_mm, field.box)


def box_points(grid: Grid, box: tuple[slice, slice, slice]) -> NDArray[np.float64]:
    """The voxel centres of an index box of a grid, (ni, nj, nk, 3) mm."""
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
