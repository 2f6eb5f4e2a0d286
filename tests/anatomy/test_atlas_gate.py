"""The atlas gate: what is right passes, and each way of being wrong is seen by the check that is for it."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.atlas_gate import joint_findings, reasons, require_quality
from hierbmd.anatomy.femur import femoral_head
from hierbmd.anatomy.shape import box_of, solid, subgrid, world_points
from hierbmd.data.volume import LabelMap
from hierbmd.errors import LabelsMismatch
from hierbmd.rigid import transform_points

BONES = ("femur_left", "femur_right", "hip_left", "hip_right")
GOOD = {
    **{"edge_rise_hu": 300.0, "explained": 0.95, "edge_share": 0.9, "edge_offset_mm": 1.0},
    **{"ends_at_atlas_scan": False, "bone_share": 0.7},
}


def _bones(**changes):
    return {name: {**GOOD, **changes.get(name, {})} for name in BONES}


def _head(labels, side):
    mask = labels.mask(f"femur_{side}")
    box = box_of(mask, margin=6)
    return femoral_head(solid(mask[box]), subgrid(labels.grid, box))


def _with(labels, ids):
    return LabelMap(ids, labels.grid, labels.scheme)


def _away(labels, centre):
    places = np.moveaxis(np.indices(labels.grid.shape), 0, -1).astype(float)
    return np.linalg.norm(transform_points(labels.grid.world_from_index, places) - centre, axis=-1)


@pytest.fixture(scope="module")
def right(coarse_patient):
    return joint_findings(coarse_patient.labels)


def test_true_labels_pass(right):
    assert reasons(_bones(), right) == []
    require_quality(_bones(), right)
    assert 0.9 < right["head_left"]["socket_radii"] < 1.4
    assert right["symmetry"]["axis_mm"] < 8.0


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        ({"edge_rise_hu": 40.0}, "HU rise by 40 into femur_left"),
        ({"explained": 0.5}, "50% of the bone above 200 HU at femur_left is in a label"),
        ({"edge_offset_mm": 4.0}, "femur_left's edge is 4.0 mm from where HU fall"),
    ],
)
def test_a_label_off_its_bone_is_a_reason(right, one, reason):
    assert [reason in why for why in reasons(_bones(femur_left=one), right)] == [True]
    with pytest.raises(LabelsMismatch, match="the atlas does not fit"):
        require_quality(_bones(femur_left=one), right)


def test_hip_bone_in_the_head_is_a_reason(coarse_patient):
    labels = coarse_patient.labels
    head = _head(labels, "left")
    ids = labels.ids.copy()
    ids[_away(labels, head.centre_world_mm) < 0.6 * head.radius_mm] = labels.id_of("hip_left")
    why = reasons(_bones(), joint_findings(_with(labels, ids)))
    assert any("of the head of femur_left is labelled hip bone" in one for one in why)
    assert any("hip_left begins" in one for one in why)


def test_a_hip_bone_away_from_its_head_is_a_reason(coarse_patient):
    labels = coarse_patient.labels
    ids = labels.ids.copy()
    hip = labels.mask("hip_right")
    head = _head(labels, "right")
    ids[hip & (_away(labels, head.centre_world_mm) < 2.0 * head.radius_mm)] = 0
    why = reasons(_bones(), joint_findings(_with(labels, ids)))
    assert any("hip_right begins" in one for one in why)


def test_a_femur_without_a_head_is_a_reason(coarse_patient):
    labels = coarse_patient.labels
    ids = labels.ids.copy()
    head = _head(labels, "left")
    ids[labels.mask("femur_left") & (_away(labels, head.centre_world_mm) < 1.6 * head.radius_mm)] = 0
    why = reasons(_bones(), joint_findings(_with(labels, ids)))
    assert any(
        one.startswith("femur_left has no") or "head of femur_left" in one or "hip_left begins" in one for one in why
    )


def test_unequal_sides_are_a_reason_unless_the_scan_cuts_one(coarse_patient):
    labels = coarse_patient.labels
    ids = labels.ids.copy()
    hip = labels.mask("hip_left")
    points = world_points(hip, labels.grid)
    index = np.argwhere(hip)[points[:, 2] > np.quantile(points[:, 2], 0.6)]
    ids[tuple(index.T)] = 0
    found = joint_findings(_with(labels, ids))
    why = reasons(_bones(), found)
    assert any("hip volume ratio" in one for one in why)
    assert any("differ by" in one for one in why)
    assert reasons(_bones(hip_left={"ends_at_atlas_scan": True}), found) == []
