"""What of a CT is projected as a bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.registration.body import make_body, surface_points
from hierbmd.registration.options import SOFT_TISSUE_HU
from hierbmd.units import attenuation_per_mm_from_hu


def _box_bone(hu=500.0, rim_hu=SOFT_TISSUE_HU - 100):
    grid = Grid((30, 30, 30), np.diag([2.0, 2.0, 2.0, 1.0]))
    values = np.full(grid.shape, rim_hu, np.float32)
    ids = np.zeros(grid.shape, np.uint8)
    values[10:20, 10:20, 10:20] = hu
    ids[10:20, 10:20, 10:20] = 75
    return Volume(values, grid), LabelMap(ids, grid, {"femur_left": 75, "hip_left": 77})


def _body(volume, labels, metal_hu=3000.0):
    return make_body("femur_left", volume, labels, structures=("femur_left",), metal_hu=metal_hu)


def test_projects_the_excess_over_soft_tissue(camera, start):
    volume, labels = _box_bone()
    body = _body(volume, labels)
    image, metal = body.image(replace(camera, size_px=(97, 81), principal_px=(48.0, 40.0)), start)
    excess = attenuation_per_mm_from_hu(500.0) - attenuation_per_mm_from_hu(SOFT_TISSUE_HU)
    assert metal is None
    assert image.max() == pytest.approx(20.0 * excess, rel=0.1)
    assert np.allclose(body.pivot_world_mm, [29.0, 29.0, 29.0])


def test_partial_volume_around_the_label_belongs_to_the_bone_and_another_bones_does_not():
    volume, labels = _box_bone()
    volume.values[20, 12:18, 12:18] = 270.0
    volume.values[9, 12:18, 12:18] = 270.0
    volume.values[12:18, 20, 12:18] = SOFT_TISSUE_HU + 60.0
    labels.ids[9, 12:18, 12:18] = 77
    scene = _body(volume, labels).projector.scene
    channel = np.zeros(volume.grid.shape)
    channel[8:22, 8:22, 8:22] = scene.channels
    assert channel[20, 14, 14] == 1
    assert channel[9, 14, 14] == 0
    assert channel[15, 9, 15] == 0, "what is not denser than soft tissue is not bone"
    assert channel[15, 20, 15] == 0, "nor is muscle, which is a little denser"


def test_metal_is_left_out_and_shown_apart(camera, start):
    volume, labels = _box_bone()
    volume.values[14:16, 14:16, 14:16] = 3300.0
    body = _body(volume, labels)
    image, metal = body.image(camera, start)
    plain, _ = _body(*_box_bone()).image(camera, start)
    assert body.has_metal
    assert body.metal_voxels == 2**3 + 6 * 2**2
    assert metal is not None
    assert metal.max() > 0
    assert image.max() <= plain.max() + 1e-6
    assert image[metal > metal.max() / 2].mean() < plain[metal > metal.max() / 2].mean()


def test_the_end_of_the_ct_in_a_bone_is_known():
    volume, labels = _box_bone()
    assert len(_body(volume, labels).cut_world_mm) == 0
    labels.ids[10:20, 10:20, :12] = 75
    cut = _body(volume, labels).cut_world_mm
    assert len(cut) == 100
    assert np.allclose(cut[:, 2], 0.0)


def test_surface_points_lie_on_the_surface():
    _, labels = _box_bone()
    points = surface_points(labels, "femur_left")
    assert len(points) <= 400
    assert np.all(np.max(np.abs(points - 29.0), axis=1) == pytest.approx(9.0))


def test_refusals():
    volume, labels = _box_bone()
    with pytest.raises(LabelsMismatch, match="no structure hip_left"):
        make_body("hip_left", volume, labels, structures=("hip_left",), metal_hu=3000.0)
    shifted = Grid((30, 30, 30), np.diag([2.0, 2.0, 2.5, 1.0]))
    with pytest.raises(LabelsMismatch, match="grid"):
        _body(volume, LabelMap(labels.ids, shifted, labels.scheme))
    crumb = np.zeros_like(labels.ids)
    crumb[10, 10, 10] = 75
    with pytest.raises(LabelsMismatch, match="1 voxels"):
        _body(volume, LabelMap(crumb, volume.grid, labels.scheme))
