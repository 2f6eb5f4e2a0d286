"""A scene is in the unit that it says, or refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import Quantity, make_scene
from hierbmd.errors import BadConfig, LabelsMismatch, NonFiniteVoxels, SuspectedUnit, Uncalibrated
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
from hierbmd.units import MU_WATER_PER_MM

GRID = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
SHAPE = GRID.shape
LINE = Calibration(0.8, 10.0)


def volume(hu, unit="HU"):
    return Volume(np.full(SHAPE, hu, dtype=np.float32), GRID, unit)


def labels(ids=None):
    return LabelMap(np.ones(SHAPE, np.uint8) if ids is None else ids, GRID, {"femur_left": 1, "hip_left": 2})


def through_the_middle(scene):
    pose = Placement(View.AP, GRID.centre_world_mm, 900.0).camera_from_world()
    return float(make_projector(scene).image(Camera(1000.0, (1, 1), (1.0, 1.0)), pose)[0, 0, 0])


def test_40_mm_of_water_attenuate_as_water_does():
    scene = make_scene(volume(0.0), quantity="attenuation")
    assert (scene.unit, scene.structures) == ("1", ("all",))
    assert through_the_middle(scene) == pytest.approx(40 * MU_WATER_PER_MM, rel=1e-5)


def test_40_mm_of_bone_are_their_areal_density_in_g_cm2():
    scene = make_scene(volume(300.0), labels(), quantity="density", structures=["femur_left"], calibration=LINE)
    assert (scene.unit, scene.material) == ("g/cm2", Material.HA)
    # 250 mg/cm3 over 4 cm.
    assert through_the_middle(scene) == pytest.approx(1.0, rel=1e-5)


def test_density_volume_needs_no_calibration_but_its_own_material():
    scene = make_scene(volume(250.0, "mg/cm3 HA"), quantity="density")
    assert through_the_middle(scene) == pytest.approx(1.0, rel=1e-5)
    other = Calibration(0.8, 10.0, Material.K2HPO4)
    with pytest.raises(Uncalibrated, match="never mixed"):
        make_scene(volume(250.0, "mg/cm3 HA"), quantity="density", calibration=other)


def test_thickness_is_in_mm():
    scene = make_scene(volume(-2048.0), labels(), quantity="thickness", structures=["femur_left"])
    assert scene.unit == "mm"
    assert through_the_middle(scene) == pytest.approx(40.0, rel=1e-5)


@pytest.mark.parametrize("padding_hu", [-1000.0, -1024.0, -2048.0, -3024.0])
def test_padding_and_air_attenuate_and_weigh_nothing(padding_hu):
    assert through_the_middle(make_scene(volume(padding_hu), quantity="attenuation")) == 0.0
    assert through_the_middle(make_scene(volume(padding_hu), quantity="density", calibration=LINE)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"quantity": "density"}, Uncalibrated, "needs a calibration"),
        ({"quantity": "thickness"}, BadConfig, "of a structure"),
        ({"quantity": "attenuation", "structures": ["femur_left"]}, LabelsMismatch, "without a label map"),
        ({"quantity": "density", "calibration": Calibration(800.0, 0.0)}, SuspectedUnit, "above 6000 mg/cm3"),
    ],
)
def test_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        make_scene(volume(300.0), **arguments)


def test_structure_that_is_not_there_names_those_that_are():
    with pytest.raises(LabelsMismatch, match=r"no structure hip_left.*present: femur_left"):
        make_scene(volume(300.0), labels(), quantity=Quantity.ATTENUATION, structures=["hip_left"])


def test_structure_named_twice_is_refused():
    with pytest.raises(BadConfig, match="each named once"):
        make_scene(volume(300.0), labels(), quantity="attenuation", structures=["femur_left", "femur_left"])


def test_values_that_are_not_finite_are_refused():
    broken = volume(0.0)
    broken.values[3, 4, 5] = np.nan
    with pytest.raises(NonFiniteVoxels):
        make_scene(broken, quantity="attenuation")


def test_density_volume_has_no_attenuation():
    with pytest.raises(SuspectedUnit, match="not mg/cm3 HA"):
        make_scene(volume(250.0, "mg/cm3 HA"), quantity="attenuation")


def test_labels_that_do_not_overlap_are_refused():
    away = np.diag([2.0, 2.0, 2.0, 1.0])
    away[0, 3] = 5000.0
    elsewhere = LabelMap(np.ones(SHAPE, np.uint8), Grid(SHAPE, away), {"femur_left": 1})
    with pytest.raises(LabelsMismatch, match="does not overlap"):
        make_scene(volume(300.0), elsewhere, quantity="attenuation", structures=["femur_left"])


def halves():
    shares = np.zeros((2, *SHAPE), np.float32)
    shares[0], shares[1] = 0.25, 0.5
    return shares


def test_soft_structures_are_their_share_of_the_whole():
    names = ("femur_left", "hip_left")
    scene = make_scene(volume(0.0), quantity="attenuation", structures=names, memberships=halves())
    pose = Placement(View.AP, GRID.centre_world_mm, 900.0).camera_from_world(Motion(5, 10, 3))
    camera = Camera(1000.0, (20, 9), (2.1, 3.3))
    whole = make_projector(make_scene(volume(0.0), quantity="attenuation"), "reference").image(camera, pose)[0]
    for backend in ("cpu", "reference"):
        one, other = make_projector(scene, backend).image(camera, pose)
        assert one == pytest.approx(0.25 * whole, abs=2e-3 * float(whole.max()))
        assert other == pytest.approx(2 * one, rel=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_shares_of_nought_and_one_are_hard_labels(blob_scene, small_camera, backend):
    shares = np.stack([blob_scene.channels == n + 1 for n in range(3)]).astype(np.float32)
    soft = dataclasses.replace(blob_scene, channels=None, memberships=shares)
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(13, -22, 10))
    expected = make_projector(blob_scene, backend).image_and_jacobian(small_camera, pose, np.zeros(3))
    found = make_projector(soft, backend).image_and_jacobian(small_camera, pose, np.zeros(3))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5 * float(np.abs(other).max()))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda shares: shares[:1], LabelsMismatch, "one volume a structure"),
        (lambda shares: shares[:, :-1], LabelsMismatch, "one volume a structure"),
        (lambda shares: shares * 3, BadConfig, "not all in 0..1"),
        (lambda shares: -shares, BadConfig, "not all in 0..1"),
        (lambda shares: np.where(shares == 0.25, np.nan, shares), BadConfig, "not all in 0..1"),
    ],
)
def test_shares_that_are_none_are_refused(change, error, text):
    names = ("femur_left", "hip_left")
    with pytest.raises(error, match=text):
        make_scene(volume(0.0), quantity="attenuation", structures=names, memberships=change(halves()))


def test_shares_beside_labels_or_without_names_are_refused():
    with pytest.raises(BadConfig, match="give one of them"):
        make_scene(volume(0.0), labels(), quantity="attenuation", structures=["femur_left"], memberships=halves()[:1])
    with pytest.raises(LabelsMismatch, match="without the structures' names"):
        make_scene(volume(0.0), quantity="attenuation", memberships=halves())
