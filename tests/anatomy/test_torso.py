"""A real CT with a given label map: the nail in the left femur, sides proved, the lumbar bodies as reported."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from hierbmd.anatomy.segmentation import checked_segmentation
from hierbmd.anatomy.spine import spine_axes, vertebral_body
from hierbmd.data.volume import LabelMap
from hierbmd.errors import SideConflict
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels


@pytest.fixture(scope="module")
def torso(shared_data):
    volume = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    return volume, read_labels(shared_data / "torso-ct" / "example_ct_totalseg_labels.nii.gz", onto=volume.grid)


def test_the_nail_is_found_in_the_left_femur_alone(torso):
    bones = checked_segmentation(*torso).findings["bones"]
    assert bones["femur_left"]["metal_mm3"] > 5000
    assert all(one["metal_mm3"] == 0 for name, one in bones.items() if name not in ("femur_left", "hip_left"))


def test_the_left_side_is_flagged_and_both_sides_are_proved(torso):
    """The scan ends above the lesser trochanters, so the sides are proved by necks and fellows, not by handedness."""
    found = checked_segmentation(*torso).findings
    assert found["metal_sides"] == ["left"]
    assert found["sides_unproved"] == []
    assert found["femora"]["femur_left"]["side_by_neck"] == "left"
    assert found["femora"]["femur_right"]["side_by_neck"] == "right"
    assert found["femora"]["femur_right"]["regions"] == ["femoral_neck"]
    assert "cut off" in found["femora"]["femur_right"]["no_region"]


def test_exchanged_sides_are_refused(torso):
    volume, labels = torso
    exchanged = {
        name.replace("_left", "_*").replace("_right", "_left").replace("_*", "_right"): number
        for name, number in labels.scheme.items()
    }
    with pytest.raises(SideConflict, match="lies to the right of"):
        checked_segmentation(volume, LabelMap(labels.ids, labels.grid, exchanged))


def test_lumbar_bodies_have_the_hounsfield_units_and_heights_that_were_reported(torso, shared_data):
    """Mean and median HU of L1-L5 within 17 and 8 HU of spine_report.json, heights within half a voxel (1.5 mm).

    The report's HU are those of the body eroded by an "ellipsoid of 4 mm" on voxel offsets (source of TotalSegmentator
    2.18.0, spine_report). At 3 mm voxels that set of offsets is a block of 2 x 2 x 2 voxels, so it takes off a single
    layer on one side of each axis and part of the cortex stays in. Its bodies come from another segmentation than the
    one at hand: 12 to 20 % smaller, a third of a voxel all around, where one whole voxel changes the mean by 17 to 21
    HU. Heights are read in steps of half a voxel, at three places; their mean stands for the height at the middle.
    """
    volume, labels = torso
    reported = json.loads((shared_data / "torso-ct" / "spine_report.json").read_text())["results"]
    axes = spine_axes(labels)
    for level in ("L1", "L2", "L3", "L4", "L5"):
        name = f"vertebrae_{level}"
        body = vertebral_body(labels.mask(name), labels.grid, axes.vertebrae[level])
        inner = volume.values[ndimage.binary_erosion(body, np.ones((2, 2, 2)))]
        assert inner.mean() == pytest.approx(reported[f"{name}_intensity"], abs=17.0), level
        assert np.median(inner) == pytest.approx(reported[f"{name}_intensity_median"], abs=8.0), level
        heights = [reported[f"{name}_height_{at}_mm"] for at in ("posterior", "middle", "anterior")]
        assert axes.vertebrae[level].height_mm == pytest.approx(np.mean(heights), abs=1.5), level
