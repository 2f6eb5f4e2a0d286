"""Metal in one hip of a virtual patient: a total hip arthroplasty, a trochanteric nail or three neck screws.

Sizes are those of common devices (catalogues, rounded): 32 mm head in a 4 mm cup, a tapered stem of 130 mm; a nail of
11 mm and a lag screw of 10.5 mm; cannulated screws of 6.5 mm in a triangle. No fracture and no loosening is shown, and
bone about the metal is as dense as before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Grid
from hierbmd.rigid import transform_points
from hierbmd.simulation.bones import Bone, box_points, femur_world_from_local
from hierbmd.simulation.femur import FemurFrame, femur_frame
from hierbmd.simulation.morphometry import SIDES, Anatomy
from hierbmd.simulation.pelvis import CARTILAGE_MM
from hierbmd.simulation.shapes import Group, Shape, box_of, chain, evaluate, group, occupancy

Floats = NDArray[np.float32]

METAL_IN_CT_HU = 8000.0
"""What titanium and cobalt alloys would read on an unclipped scale; scanners clip it at 3071 HU."""

_HEAD_MM, _CUP_MM = 16.0, 4.0


@dataclass(frozen=True)
class Metal:
    """The share of metal on a box of the grid, and the bone that carries it."""

    bone: str
    box: tuple[slice, slice, slice]
    share: Floats


def with_implants(grid: Grid, anatomy: Anatomy, bones: list[Bone]) -> tuple[list[Bone], list[Metal]]:
    """The bones with what metal replaces taken out, and the metal; a bone's label covers the metal that it carries."""
    metals: list[Metal] = []
    for n, side in enumerate(SIDES):
        kind = anatomy.implants[n]
        if kind == "none" or not any(bone.name == f"femur_{side}" for bone in bones):
            continue
        frame = femur_frame(anatomy.femora[n])
        to_world = femur_world_from_local(anatomy, side)
        if kind == "arthroplasty":
            bones = [_resected(bone, grid, anatomy, side) if bone.name == f"femur_{side}" else bone for bone in bones]
            metals.append(_metal(f"hip_{side}", Shape(_cup(anatomy, n)), grid, to_world))
        metals.append(_metal(f"femur_{side}", Shape(_IN_FEMUR[kind](frame)), grid, to_world))
    for metal in metals:
        bones = [_around(bone, metal, grid) for bone in bones]
    return bones, metals


def _metal(bone: str, shape: Shape, grid: Grid, world_from_local: NDArray[np.float64]) -> Metal:
    placed = shape.transformed(world_from_local)
    box = box_of(placed, grid)
    assert box is not None, "a femur on the grid has its head there"
    field = evaluate(placed, grid, box)
    return Metal(bone, box, occupancy(field.distance_mm, float(grid.spacing_mm[0])))


def _stem(frame: FemurFrame) -> tuple[Group, ...]:
    """Head, neck and tapered stem of an arthroplasty in the femur's frame."""
    j = frame.junction
    head = group([[0, 0, 0, _HEAD_MM]], [(0,)])
    neck = chain([[0, 0, 0, 6.5], [*(0.80 * j), 7.5]], blend_mm=3.0)
    stem = chain(
        [
            [*(0.72 * j), 8.0],
            [j[0], j[1] - 1.0, j[2] - 14.0, 9.0],
            [j[0], j[1] - 4.0, j[2] - 70.0, 6.5],
            [j[0], j[1] - 6.0, j[2] - 125.0, 5.0],
        ],
        blend_mm=5.0,
    )
    return head, neck, stem


def _nail(frame: FemurFrame) -> tuple[Group, ...]:
    """A trochanteric nail that goes on below the scan, and its lag screw up to 8 mm under the head's dome."""
    j, head = frame.junction, frame.size.head_radius_mm
    top = max(-j[2] - 2.0, 16.0)
    nail = chain(
        [
            [j[0] + 3.0, j[1], j[2] + top, 7.5],
            [j[0], j[1], j[2] - 20.0, 6.0],
            [j[0], j[1] - 5.0, j[2] - 85.0, 5.5],
            [j[0], j[1] - 6.5, j[2] - 250.0, 5.5],
        ]
    )
    start = j + 16.0 * frame.neck - 0.15 * head * frame.up
    lag = chain([[*start, 5.2], [*(-(head - 8.0) * frame.neck - 0.1 * head * frame.up), 5.2]], blend_mm=1.0)
    return nail, lag


def _screws(frame: FemurFrame) -> tuple[Group, ...]:
    """Three parallel screws along the neck."""
    j, head = frame.junction, frame.size.head_radius_mm
    third = np.cross(frame.neck, frame.up)
    found = []
    for up, across in ((-0.32, 0.0), (0.22, 0.24), (0.22, -0.24)):
        shift = head * (up * frame.up + across * third)
        found.append(chain([[*(j + 18.0 * frame.neck + shift), 3.3], [*(-0.55 * head * frame.neck + shift), 3.3]]))
    return tuple(found)


_IN_FEMUR = {"arthroplasty": _stem, "nail": _nail, "screws": _screws}


def _cup(anatomy: Anatomy, n: int) -> tuple[Group, ...]:
    """A hemispherical cup in the socket, in the femur's frame: its opening looks down, outward and forward."""
    side = SIDES[n]
    normal = np.array([np.sin(np.radians(45.0)), -np.sin(np.radians(15.0)), -np.cos(np.radians(45.0))])
    world = normal / np.linalg.norm(normal) * [1.0 if side == "left" else -1.0, 1.0, 1.0]
    local = np.linalg.inv(femur_world_from_local(anatomy, side)[:3, :3]) @ world
    outer = anatomy.femora[n].head_radius_mm + CARTILAGE_MM + 1.0
    shell = group([[0, 0, 0, outer]], [(0,)], planes=[[*local, 0.0]])
    return shell, group([[0, 0, 0, outer - _CUP_MM]], [(0,)], carve=True)


def _resected(bone: Bone, grid: Grid, anatomy: Anatomy, side: str) -> Bone:
    """The femur without its head and the upper neck, cut square to the neck at 0.6 of its length."""
    frame = femur_frame(anatomy.femora[SIDES.index(side)])
    local_from_world = np.asarray(np.linalg.inv(femur_world_from_local(anatomy, side)), dtype=np.float64)
    local = transform_points(local_from_world, box_points(grid, bone.box))
    kept = np.clip(0.5 + (local @ frame.neck - 0.6 * frame.neck_mm) / grid.spacing_mm[0], 0.0, 1.0)
    return replace(
        bone, occupancy=(bone.occupancy * kept).astype(np.float32), density=(bone.density * kept).astype(np.float32)
    )


def _around(bone: Bone, metal: Metal, grid: Grid) -> Bone:
    """A bone with the metal's share of its voxels taken out; the bone that carries the metal counts it as its own."""
    share = np.zeros(grid.shape, dtype=np.float32)
    share[metal.box] = metal.share
    if bone.name != metal.bone:
        room = 1.0 - share[bone.box]
        return replace(bone, occupancy=bone.occupancy * room, density=bone.density * room)
    box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(bone.box, metal.box, strict=True))
    occupied, density = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    occupied[bone.box], density[bone.box] = bone.occupancy, bone.density
    occupied = np.maximum(occupied, share)
    return Bone(bone.name, (box[0], box[1], box[2]), occupied[box], (density * (1.0 - share))[box])
