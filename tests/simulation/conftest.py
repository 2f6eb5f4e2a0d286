"""Coarse virtual patients, made once."""

from __future__ import annotations

import pytest

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.image import write_labels, write_volume
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import VirtualPatient, virtual_patient
from hierbmd.simulation.real_original import RealCt

COARSE = PatientOptions(seed=11, spacing_mm=4.0)


@pytest.fixture(scope="session")
def coarse_options() -> PatientOptions:
    return COARSE


@pytest.fixture(scope="session")
def patient() -> VirtualPatient:
    """A virtual patient at 4 mm."""
    return virtual_patient(0, COARSE)


@pytest.fixture(scope="session")
def small_geometry(patient) -> ProjectionGeometry:
    """A bilateral AP view of the patient at a pose other than the CT's, 96x96 pixels."""
    placement = Placement(View.AP, patient.volume.grid.centre_world_mm, 1000.0)
    pose = placement.camera_from_world(Motion(3.0, -4.0, 2.0, 6.0, -5.0, 8.0))
    return ProjectionGeometry(Camera(1150.0, (96, 96), (4.3, 4.3)), pose, View.AP, Side.BOTH)


@pytest.fixture(scope="session")
def real_files(patient, tmp_path_factory):
    """A coarse patient's CT and labels on disk, as a real CT is given."""
    folder = tmp_path_factory.mktemp("real")
    write_volume(folder / "ct.nii.gz", patient.volume)
    write_labels(folder / "labels.nii.gz", patient.labels)
    return RealCt(folder / "ct.nii.gz", folder / "labels.nii.gz")
