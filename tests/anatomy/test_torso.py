"""A real CT with a given label map: the nail in the left femur, sides proved."""

from __future__ import annotations

import pytest

from hierbmd.anatomy.segmentation import checked_segmentation
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


def test_exchanged_sides_are_refused(torso):
    volume, labels = torso
    exchanged = {
        name.replace("_left", "_*").replace("_right", "_left").replace("_*", "_right"): number
        for name, number in labels.scheme.items()
    }
    with pytest.raises(SideConflict, match="lies to the right of"):
        checked_segmentation(volume, LabelMap(labels.ids, labels.grid, exchanged))
