"""Whether carried bones may be used: each on bone, heads in their sockets, left and right alike; refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hierbmd.anatomy.femur import femoral_head
from hierbmd.anatomy.shape import Mask, Sphere, box_of, solid, subgrid, world_points
from hierbmd.data.volume import LabelMap
from hierbmd.errors import BadRegion, LabelsMismatch
from hierbmd.geometry import Side
from hierbmd.rigid import Vector

LEAST_RISE_HU = 60.0
"""The rise of HU into the label, over 6 mm across its edge, below which a label is refused: muscle against fat."""

LEAST_EXPLAINED = {"femur": 0.75, "hip": 0.75, "sacrum": 0.5}
"""The share of bone above 200 HU near a label that must be in a label (docs/segmentation.md: how it was set)."""

MOST_OFFSET_MM = {"femur": 2.5, "hip": 2.5, "sacrum": 4.0}
"""Much of the sacrum's surface shows no fall of HU (joints, foramina, discs), and no density is measured in it."""

MOST_HEAD_RESIDUAL_MM = 1.5
MOST_IN_HEAD = 0.03
SOCKET = (0.85, 1.5)
"""Where the hip bone begins, in head radii from the head's centre: outside the head, and at it."""

MOST_RADIUS_RATIO, MOST_VOLUME_RATIO = 1.12, 1.25
MOST_AXIS_MM = 15.0
_PROXIMAL_MM = 45.0


def joint_findings(labels: LabelMap) -> dict[str, Any]:
    """Heads, sockets and symmetry of a label map of femora and hip bones: plain values, what is not there left out."""
    found: dict[str, Any] = {}
    for side in (Side.LEFT, Side.RIGHT):
        if f"femur_{side}" in labels.names_present:
            found[f"head_{side}"] = _head(labels, side)
    found["symmetry"] = _symmetry(labels, found)
    return found


def _head(labels: LabelMap, side: Side) -> dict[str, Any]:
    femur = labels.mask(f"femur_{side}")
    box = box_of(femur, margin=6)
    grid = subgrid(labels.grid, box)
    try:
        head = femoral_head(solid(femur[box]), grid)
    except BadRegion as error:
        return {"no_head": str(error)}
    note: dict[str, Any] = {
        "centre_world_mm": [round(float(x), 2) for x in head.centre_world_mm],
        "radius_mm": round(head.radius_mm, 2),
        "residual_mm": round(head.residual_mm, 3),
    }
    if f"hip_{side}" in labels.names_present:
        note |= _socket(labels.mask(f"hip_{side}"), labels, head)
    return note


def _socket(hip: Mask, labels: LabelMap, head: Sphere) -> dict[str, float]:
    """How much of the head's ball is hip bone, and how far from its centre the hip bone begins, in radii."""
    away_mm = np.linalg.norm(world_points(hip, labels.grid) - head.centre_world_mm, axis=1)
    ball_mm3 = 4.0 / 3.0 * np.pi * head.radius_mm**3
    in_head = float(np.count_nonzero(away_mm < 0.95 * head.radius_mm)) * labels.grid.voxel_mm3 / ball_mm3
    return {
        "hip_in_head": round(in_head, 4),
        "socket_radii": round(float(np.quantile(away_mm, 0.001)) / head.radius_mm, 3),
    }


def _symmetry(labels: LabelMap, found: Mapping[str, Any]) -> dict[str, float]:
    """Left over right: volumes of the hip bones and of the femora near their heads, head radii; and, in mm, how far the
    way from the hip bone's centroid to the head differs from its mirror image."""
    answer: dict[str, float] = {}
    heads = [found.get(f"head_{side}", {}) for side in (Side.LEFT, Side.RIGHT)]
    have_heads = all("radius_mm" in head for head in heads)
    have_hips = all(f"hip_{side}" in labels.names_present for side in (Side.LEFT, Side.RIGHT))
    hips = (
        [world_points(labels.mask(f"hip_{side}"), labels.grid) for side in (Side.LEFT, Side.RIGHT)] if have_hips else []
    )
    if have_hips:
        answer["hip_volume_ratio"] = round(len(hips[0]) / len(hips[1]), 3)
    if have_heads:
        centres = [np.array(head["centre_world_mm"]) for head in heads]
        answer["head_radius_ratio"] = round(heads[0]["radius_mm"] / heads[1]["radius_mm"], 3)
        near = [_near_head(labels, side, centre) for side, centre in zip(("left", "right"), centres, strict=True)]
        answer["femur_volume_ratio"] = round(near[0] / near[1], 3)
    if have_heads and have_hips:
        middles = [points.mean(axis=0) for points in hips]
        across = (middles[0] - middles[1]) / np.linalg.norm(middles[0] - middles[1])
        ways = [centre - middle for centre, middle in zip(centres, middles, strict=True)]
        answer["axis_mm"] = round(float(np.linalg.norm(ways[0] - (ways[1] - 2.0 * (ways[1] @ across) * across))), 2)
    return answer


def _near_head(labels: LabelMap, side: str, centre: Vector) -> int:
    points = world_points(labels.mask(f"femur_{side}"), labels.grid)
    return max(int(np.count_nonzero(np.linalg.norm(points - centre, axis=1) < _PROXIMAL_MM)), 1)


def reasons(bones: Mapping[str, Mapping[str, Any]], joints: Mapping[str, Any]) -> list[str]:
    """Why the labels may not be used; empty when they may."""
    why = []
    for name, one in bones.items():
        kind = name.split("_")[0]
        least, most_mm = LEAST_EXPLAINED[kind], MOST_OFFSET_MM[kind]
        if one["edge_rise_hu"] < LEAST_RISE_HU:
            why.append(f"HU rise by {one['edge_rise_hu']:.0f} into {name}, {LEAST_RISE_HU:.0f} needed")
        elif one["explained"] < least:
            why.append(f"{one['explained']:.0%} of the bone above 200 HU at {name} is in a label, {least:.0%} needed")
        elif one["edge_offset_mm"] > most_mm:
            why.append(f"{name}'s edge is {one['edge_offset_mm']:.1f} mm from where HU fall, at most {most_mm}")
    for side in ("left", "right"):
        why += _head_reasons(side, joints.get(f"head_{side}", {}))
    return why + _symmetry_reasons(bones, joints["symmetry"])


def _head_reasons(side: str, head: Mapping[str, Any]) -> list[str]:
    if "no_head" in head:
        return [f"femur_{side} has {head['no_head']}"]
    why = []
    if head.get("residual_mm", 0.0) > MOST_HEAD_RESIDUAL_MM:
        why.append(f"the head of femur_{side} is {head['residual_mm']:.1f} mm from a sphere")
    if head.get("hip_in_head", 0.0) > MOST_IN_HEAD:
        why.append(f"{head['hip_in_head']:.0%} of the head of femur_{side} is labelled hip bone")
    if "socket_radii" in head and not SOCKET[0] <= head["socket_radii"] <= SOCKET[1]:
        why.append(f"hip_{side} begins {head['socket_radii']:.2f} radii from the head's centre, not about 1")
    return why


def _symmetry_reasons(bones: Mapping[str, Mapping[str, Any]], symmetry: Mapping[str, float]) -> list[str]:
    """A bone that the atlas's scan or the target's cuts has another volume than its fellow: not compared then."""
    whole = {name for name, one in bones.items() if not (one["ends_at_atlas_scan"] or one.get("at_scan_edge", False))}
    limits = {"head_radius_ratio": MOST_RADIUS_RATIO}
    if {"hip_left", "hip_right"} <= whole:
        limits["hip_volume_ratio"] = MOST_VOLUME_RATIO
    if {"femur_left", "femur_right"} <= whole:
        limits["femur_volume_ratio"] = MOST_VOLUME_RATIO
    why = [
        f"left over right, {name.replace('_', ' ')} {symmetry[name]:.2f}, at most {most} either way"
        for name, most in limits.items()
        if name in symmetry and not 1.0 / most <= symmetry[name] <= most
    ]
    if "hip_volume_ratio" in limits and symmetry.get("axis_mm", 0.0) > MOST_AXIS_MM:
        why.append(f"left and right hips differ by {symmetry['axis_mm']:.0f} mm in where the head is")
    return why


def require_quality(bones: Mapping[str, Mapping[str, Any]], joints: Mapping[str, Any]) -> None:
    """Raise LabelsMismatch when a carried bone may not be used, with every reason."""
    why = reasons(bones, joints)
    if why:
        raise LabelsMismatch(
            f"the atlas does not fit: {'; '.join(why)}",
            mend="an atlas of a similar patient and field of view, or several",
        )
