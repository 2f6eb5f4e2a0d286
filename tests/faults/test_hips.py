"""FAULTS 13, 17 and 23 where a hip is measured: metal, sides, calibration."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.hip import measure_hip
from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.segmentation import checked_segmentation
from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, LabelsMismatch, SideConflict, SuspectedUnit, Uncalibrated
from hierbmd.geometry import Grid, Side

LINE = Calibration(0.8, 2.0)


def _with_ids(patient, ids, scheme=None):
    return LabelMap(ids, patient.labels.grid, scheme or patient.labels.scheme)


def _renamed(patient, **names):
    scheme = dict(patient.labels.scheme)
    return _with_ids(patient, patient.labels.ids, scheme | {new: scheme[old] for new, old in names.items()})


def test_a_sound_hip_is_measured_close_to_its_truth(coarse_patient):
    """Calibrated CT against the voxel truth: soft tissue at the rim adds a little."""
    from hierbmd.anatomy.areal import areal_bmd
    from hierbmd.anatomy.femur import femur_axes
    from hierbmd.anatomy.regions import total_hip

    hip = measure_hip(coarse_patient.volume, coarse_patient.labels, Side.LEFT, coarse_patient.calibration)
    mask, grid = coarse_patient.labels.mask("femur_left"), coarse_patient.labels.grid
    axes = femur_axes(mask, grid)
    truth = areal_bmd(coarse_patient.density, total_hip(mask, grid, axes), axes)
    assert hip.bmd.bmd_g_cm2 == pytest.approx(truth.bmd_g_cm2, rel=0.02)
    assert hip.density.unit == "mg/cm3 HA"
    assert not hip.has_metal
    assert hip.plane_shift_percent < 1.5


# Row 13


def _with_nail(patient):
    """A rod of 3071 HU, 9 mm thick, down the left femur's shaft and neck region."""
    values = patient.volume.values.copy()
    femur = np.argwhere(patient.labels.mask("femur_left"))
    middle = np.median(femur[femur[:, 2] < np.quantile(femur[:, 2], 0.6)], axis=0).astype(int)
    values[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2, femur[:, 2].min() : middle[2] + 20] = 3071.0
    return Volume(values, patient.volume.grid)


def test_metal_in_the_bone_is_left_out_and_flagged(coarse_patient):
    nailed = _with_nail(coarse_patient)
    plain = measure_hip(coarse_patient.volume, coarse_patient.labels, Side.LEFT, LINE)
    hip = measure_hip(nailed, coarse_patient.labels, Side.LEFT, LINE)
    assert hip.has_metal
    assert hip.metal_mm3 > 3000
    assert hip.density.values[hip.femur].max() < 0.8 * 3000 + 2
    assert np.count_nonzero(hip.region) < np.count_nonzero(plain.region)
    assert not measure_hip(nailed, coarse_patient.labels, Side.RIGHT, LINE).has_metal


def test_segment_takes_metal_out_of_the_label_and_of_the_region_but_not_out_of_the_bones_shape(coarse_patient):
    found = checked_segmentation(_with_nail(coarse_patient), coarse_patient.labels)
    plain = checked_segmentation(coarse_patient.volume, coarse_patient.labels)
    assert found.findings["bones"]["femur_left"]["metal_mm3"] > 3000
    assert found.findings["bones"]["femur_right"]["metal_mm3"] == 0
    assert "head_radius_mm" in found.findings["femora"]["femur_left"]
    assert found.labels.mask("femur_left").sum() < plain.labels.mask("femur_left").sum()
    total, whole = (s.regions["total_hip"].mask("total_hip_left") for s in (found, plain))
    assert not np.any(total & ~whole)
    assert total.sum() < whole.sum()
    assert not np.any(total & ~found.labels.mask("femur_left"))


def test_metal_beside_the_bone_is_none_of_its_business_and_partial_volume_is():
    hu = np.zeros((9, 9, 9), np.float32)
    bone = np.zeros(hu.shape, bool)
    bone[2:5, 2:5, 2:5] = True
    hu[8, 8, 8] = 3071.0
    assert not metal_near(hu, bone).any()
    hu[3, 3, 3] = 3071.0
    assert metal_near(hu, bone).sum() == 7


# Row 17


def test_exchanged_sides_are_refused_and_never_flipped(coarse_patient):
    swapped = _renamed(
        coarse_patient, femur_left="femur_right", femur_right="femur_left", hip_left="hip_right", hip_right="hip_left"
    )
    with pytest.raises(SideConflict, match="is a right femur by its shape"):
        measure_hip(coarse_patient.volume, swapped, Side.LEFT, LINE)
    with pytest.raises(SideConflict, match="lies to the right of"):
        checked_segmentation(coarse_patient.volume, swapped)


def test_a_mirrored_header_is_refused(coarse_patient):
    """A left femur seen through a mirrored header has a right one's shape and lies on the right.

    (Labels that were drawn on the mirrored image agree with it: a mirrored patient's bones cannot tell.)
    """
    grid = coarse_patient.labels.grid
    mirrored = Grid(grid.shape, np.diag([-1.0, 1, 1, 1]) @ grid.world_from_index)
    volume = Volume(coarse_patient.volume.values, mirrored)
    labels = LabelMap(coarse_patient.labels.ids, mirrored, coarse_patient.labels.scheme)
    with pytest.raises(SideConflict, match="by its shape"):
        measure_hip(volume, labels, Side.LEFT, LINE)
    with pytest.raises(SideConflict, match="lies to the right of"):
        checked_segmentation(volume, labels)


def test_one_femur_alone_proves_its_side(coarse_patient):
    only = {"femur_left": coarse_patient.labels.scheme["femur_right"]}
    with pytest.raises(SideConflict, match="towards the patient's right"):
        checked_segmentation(coarse_patient.volume, _with_ids(coarse_patient, coarse_patient.labels.ids, only))


def test_a_femur_with_the_other_sides_hip_is_refused(coarse_patient):
    with pytest.raises(BadRegion, match="away from the head"):
        measure_hip(coarse_patient.volume, _renamed(coarse_patient, hip_left="hip_right"), Side.LEFT, LINE)


# Row 23, and labels of another CT


def test_without_a_fitting_calibration_there_is_no_number(coarse_patient):
    calibrated = Volume(coarse_patient.density.values, coarse_patient.density.grid, "mg/cm3 HA")
    with pytest.raises(Uncalibrated, match="never mixed"):
        measure_hip(calibrated, coarse_patient.labels, Side.LEFT, Calibration(0.8, 0.0, Material.K2HPO4))
    with pytest.raises(SuspectedUnit, match="looks like g/cm3"):
        measure_hip(coarse_patient.volume, coarse_patient.labels, Side.LEFT, Calibration(0.0008, 0.0))


def test_labels_that_do_not_lie_on_bone_are_refused(coarse_patient):
    away = _with_ids(coarse_patient, np.roll(coarse_patient.labels.ids, 18, axis=1))
    with pytest.raises(LabelsMismatch, match="does not lie on bone"):
        checked_segmentation(coarse_patient.volume, away)
    with pytest.raises(LabelsMismatch, match="does not lie on bone"):
        measure_hip(coarse_patient.volume, away, Side.LEFT, LINE)


def test_labels_on_another_grid_or_without_bones_are_refused(coarse_patient):
    labels = coarse_patient.labels
    shifted = LabelMap(labels.ids, Grid(labels.grid.shape, np.eye(4)), labels.scheme)
    for work in (lambda m: checked_segmentation(coarse_patient.volume, m), lambda m: _measure(coarse_patient, m)):
        with pytest.raises(LabelsMismatch, match="not on the CT's grid"):
            work(shifted)
    with pytest.raises(LabelsMismatch, match="no bone"):
        checked_segmentation(coarse_patient.volume, _with_ids(coarse_patient, labels.ids, {"liver": 5}))
    with pytest.raises(LabelsMismatch, match="hip_left"):
        _measure(coarse_patient, _with_ids(coarse_patient, labels.ids, {"femur_left": labels.scheme["femur_left"]}))


def _measure(patient, labels):
    return measure_hip(patient.volume, labels, Side.LEFT, LINE)


def test_a_bone_in_pieces_or_of_an_impossible_size_is_refused(coarse_patient):
    ids = coarse_patient.labels.ids.copy()
    femur = np.argwhere(coarse_patient.labels.mask("femur_left"))
    low, high = np.quantile(femur[:, 2], [0.4, 0.6]).astype(int)
    gap = np.zeros(ids.shape, bool)
    gap[:, :, low:high] = coarse_patient.labels.mask("femur_left")[:, :, low:high]
    ids[gap] = 0
    with pytest.raises(LabelsMismatch, match="femur_left is in pieces"):
        checked_segmentation(coarse_patient.volume, _with_ids(coarse_patient, ids))
    grid = coarse_patient.labels.grid
    metres = Grid(grid.shape, np.diag([10.0, 10.0, 10.0, 1.0]) @ grid.world_from_index)
    labels = LabelMap(coarse_patient.labels.ids, metres, coarse_patient.labels.scheme)
    with pytest.raises(SuspectedUnit, match="is the spacing in mm"):
        checked_segmentation(Volume(coarse_patient.volume.values, metres), labels)
