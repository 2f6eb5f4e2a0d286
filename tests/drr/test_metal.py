"""A pixel's value is what its ray meets: metal elsewhere in a scan changes nothing, whichever backend projects."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import MissingExtra
from hierbmd.geometry import Camera, Grid, Placement, View

GRID = Grid((18, 10, 12), np.array([[-3.0, 0, 0, 25], [0, 3, 0, -14], [0, 0, 4, -22], [0, 0, 0, 1]]))
CAMERA = Camera(1000.0, (20, 16), (4.0, 4.0))
POSE = Placement(View.AP, GRID.centre_world_mm, 800.0).camera_from_world()
METAL_HU = {"none": -1000.0, "titanium": 3071.0, "steel": 20000.0}


def scan(metal):
    """Soft tissue with one bone towards the patient's right and, on the left, a rod of a metal or of none."""
    values = np.full(GRID.shape, -1000.0, dtype=np.float32)
    values[1:17, 2:8, 1:11] = 40.0
    ids = np.zeros(GRID.shape, np.uint8)
    ids[11:15, 3:7, 2:10] = 76
    values[ids > 0] = 700.0
    values[2:4, 4:6, 1:11] = METAL_HU[metal]
    return Volume(values, GRID), LabelMap(ids, GRID, {"femur_right": 76})


def projected(backend, metal, *, structures):
    volume, labels = scan(metal)
    scene = make_scene(volume, labels, quantity="attenuation", structures=structures)
    try:
        return make_projector(scene, backend).image(CAMERA, POSE)[0]
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["cpu", "reference", "diffdrr", "nanodrr"])
@pytest.mark.parametrize("metal", ["titanium", "steel"])
def test_the_same_bone_in_scans_with_other_metal_projects_alike(backend, metal):
    plain, scanned = (projected(backend, name, structures=("femur_right",)) for name in ("none", metal))
    assert np.array_equal(plain, scanned)
    assert plain.max() > 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["cpu", "reference", "diffdrr", "nanodrr"])
def test_rays_beside_the_metal_see_none_of_it(backend):
    plain, steel = (projected(backend, name, structures=()) for name in ("none", "steel"))
    # In AP the patient's right, where the bone is, is on the image's left.
    assert np.array_equal(plain[:, :9], steel[:, :9])
    assert steel.max() > 3 * plain.max()
