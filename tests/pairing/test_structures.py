"""Further channels: regions where the femur is, bones in g/cm2, muscles as the mass of their lean part."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.areal import project_density
from hierbmd.anatomy.hip import measure_hip
from hierbmd.calibration.line import density_volume
from hierbmd.data.halves import HalfCamera
from hierbmd.data.site import HIP, further_names
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Camera, Placement, Side, View
from hierbmd.pairing.structures import further_of

_MUSCLE = 81
"""TotalSegmentator's gluteus_maximus_right."""


@pytest.fixture(scope="module")
def patient(coarse_patient):
    """The coarse patient with a block of tissue called a muscle, half of it lean and half of it fat."""
    volume, labels = coarse_patient.volume, coarse_patient.labels
    hu, ids = volume.values.copy(), np.asarray(labels.ids).astype(np.int32)
    block = np.zeros(ids.shape, dtype=bool)
    middle = np.array(ids.shape) // 2
    block[tuple(slice(m - 8, m + 8) for m in middle)] = True
    block &= ids == 0
    ids[block] = _MUSCLE
    lean = block.copy()
    lean[..., middle[2] :] = False
    hu[block], hu[lean] = -100.0, 55.0
    scheme = {**labels.scheme, "gluteus_maximus_right": _MUSCLE}
    return Volume(hu, volume.grid, volume.unit), LabelMap(ids, labels.grid, scheme), lean


@pytest.fixture(scope="module")
def hip(patient, coarse_patient):
    return measure_hip(patient[0], patient[1], Side.RIGHT, coarse_patient.calibration)


def _view(volume):
    pose = Placement(View.AP, volume.grid.centre_world_mm, 1000.0).camera_from_world()
    view = HalfCamera(Camera(1150.0, (200, 200), (2.5, 2.5)), Side.RIGHT, View.AP, mirrored=False)
    return view, {"femur": pose, "hip": pose}


def test_a_muscle_reads_the_mass_of_its_lean_part(patient, hip, coarse_patient):
    volume, labels, lean = patient
    (muscle,) = further_of(("gluteus_maximus",), hip, volume, labels, coarse_patient.calibration).structures
    view, poses = _view(volume)
    image = muscle.image(view, poses)
    # The block lies at the isocentre, 1000 of 1150 mm from the source: a pixel there is smaller by that ratio.
    pixel_cm2 = (0.25 * 1000.0 / 1150.0) ** 2
    mass_g = 1.06 * lean.sum() * volume.grid.voxel_mm3 / 1000.0
    assert float(image.sum()) * pixel_cm2 == pytest.approx(mass_g, rel=0.02)


def test_regions_come_first_and_a_bone_reads_its_density(patient, hip, coarse_patient):
    volume, labels, _ = patient
    names = ("sacrum", "trochanter", "gluteus_maximus")
    assert further_names(names, HIP) == (("trochanter",), ("sacrum", "gluteus_maximus"))
    made = further_of(names, hip, volume, labels, coarse_patient.calibration)
    assert made.regions == ("trochanter",)
    view, poses = _view(volume)
    density = density_volume(volume, coarse_patient.calibration)
    expected = project_density(density, labels.mask("sacrum"), view.camera, poses["hip"])
    assert np.array_equal(made.structures[0].image(view, poses), expected)
    assert 0.2 < expected.max() < 6.0


def test_a_structure_that_is_not_labelled_is_refused(patient, hip, coarse_patient):
    with pytest.raises(LabelsMismatch, match="no iliopsoas_right and no iliopsoas in the label map"):
        further_of(("iliopsoas",), hip, patient[0], patient[1], coarse_patient.calibration)
