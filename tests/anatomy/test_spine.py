"""The lumbar spine's axes and regions: closed forms on a constructed column, exactness under motion, a real CT."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.anatomy.spine import (
    WHOLE,
    measure_spine,
    require_upright,
    spine_axes,
    spine_regions,
    trabecular_region,
    vertebral_body,
)
from hierbmd.anatomy.vertebra import vertebra_axes
from hierbmd.calibration.line import given_calibration
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, LabelsMismatch, SideConflict
from hierbmd.geometry import Grid
from hierbmd.rigid import rigid_matrix
from hierbmd.units import METAL_HU

STEP_MM = 1.5
WIDTH_MM, DEPTH_MM, HEIGHT_MM, PITCH_MM = 45.0, 33.0, 27.0, 36.0
BODY_HU, ARCH_HU = 200.0, 400.0
NAMES = ("T12", "L1", "L2", "L3", "L4", "L5")
LINE = given_calibration(1.0, 0.0)


def _column(names=NAMES):
    """Box bodies with an arch (a wall behind the canal), pedicles and transverse processes; LPS axes, L1 above L5."""
    shape = (84, 62, 24 * len(names) + 12)
    matrix = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    matrix[:3, 3] = [-62.25, -30.75, 0.75]
    grid = Grid(shape, matrix)
    x, y, z = np.meshgrid(*(matrix[n, 3] + STEP_MM * np.arange(shape[n]) for n in range(3)), indexing="ij")
    ids, hu = np.zeros(shape, np.uint8), np.full(shape, 0.0, np.float32)
    for n, name in enumerate(reversed(names)):
        local = z - (30.0 + n * PITCH_MM)
        body = (np.abs(x) <= WIDTH_MM / 2) & (np.abs(y) <= DEPTH_MM / 2) & (np.abs(local) <= HEIGHT_MM / 2)
        pedicle = (np.abs(np.abs(x) - 15) < 4) & (y > DEPTH_MM / 2) & (y < 36) & (np.abs(local - 5) < 5)
        lamina = (np.abs(x) < 15) & (y >= 34) & (y < 42) & (np.abs(local + 3) < 12)
        spinous = (np.abs(x) < 3) & (y >= 40) & (y < 55) & (np.abs(local + 6) < 6)
        transverse = (np.abs(x) >= 15) & (np.abs(x) < 40) & (np.abs(y - 27) < 4) & (np.abs(local - 5) < 4)
        ids[body | pedicle | lamina | spinous | transverse] = TOTALSEGMENTATOR_V2[f"vertebrae_{name}"]
        hu[pedicle | lamina | spinous | transverse] = ARCH_HU
        hu[body] = BODY_HU
    scheme = {f"vertebrae_{name}": TOTALSEGMENTATOR_V2[f"vertebrae_{name}"] for name in names}
    return Volume(hu, grid), LabelMap(ids, grid, scheme)


@pytest.fixture(scope="module")
def column():
    return _column()


def test_axes_of_a_box_vertebra(column):
    _, labels = column
    found = spine_axes(labels).vertebrae["L3"]
    assert found.left == pytest.approx([1, 0, 0], abs=1e-6)
    assert found.posterior == pytest.approx([0, 1, 0], abs=1e-6)
    assert found.up == pytest.approx([0, 0, 1], abs=1e-6)
    assert found.centre_world_mm == pytest.approx([0, 0, 30 + 2 * PITCH_MM], abs=STEP_MM / 2)
    assert found.height_mm == pytest.approx(HEIGHT_MM, abs=STEP_MM)
    assert 2 * found.half_depth_mm == pytest.approx(DEPTH_MM, abs=STEP_MM)
    assert 2 * found.half_width_mm == pytest.approx(WIDTH_MM, abs=STEP_MM)


def test_up_of_a_single_vertebra_is_told_by_its_body(column):
    _, labels = column
    alone = vertebra_axes(labels.mask("vertebrae_L2"), labels.grid)
    assert alone.up == pytest.approx([0, 0, 1], abs=1e-3)


def test_areal_density_of_the_levels_in_closed_form(column):
    """A level's mineral is the sum of its boxes within the borders, its area what these cover seen from the front."""
    volume, labels = column
    found = measure_spine(volume, labels, LINE)
    level = found.regions["lumbar_l2"]
    inside = np.abs(volume.grid.world_from_index[0, 3] + STEP_MM * np.arange(volume.grid.shape[0])) <= WIDTH_MM / 2
    own = labels.mask("vertebrae_L2") & inside[:, None, None]
    grams = float(volume.values[own].sum(dtype=np.float64)) * volume.grid.voxel_mm3 * 1e-6
    assert level.bmd.bmc_g == pytest.approx(grams, rel=0.02)
    # A pixel of 1 mm sees what half a voxel of its ray is in: half a pixel more all round.
    seen_cm2 = own.any(axis=1).sum() * STEP_MM**2 / 100.0
    assert seen_cm2 == pytest.approx((WIDTH_MM * HEIGHT_MM + 30.0 * STEP_MM) / 100.0, rel=0.02)
    assert level.bmd.area_cm2 == pytest.approx(seen_cm2, rel=0.12)
    assert level.bmd.bmd_g_cm2 == pytest.approx(level.bmd.bmc_g / level.bmd.area_cm2)
    assert found.trabecular_mg_cm3["L2"] == pytest.approx(BODY_HU)
    whole = found.regions[WHOLE].bmd
    assert whole.bmc_g == pytest.approx(sum(found.regions[f"lumbar_l{n}"].bmd.bmc_g for n in range(1, 5)), rel=5e-3)


def test_transverse_processes_are_cut_and_body_and_arch_told_apart(column):
    volume, labels = column
    axes = spine_axes(labels)
    mask = spine_regions(labels, axes)["lumbar_l3"]
    x = volume.grid.world_from_index[0, 3] + STEP_MM * np.argwhere(mask)[:, 0]
    assert np.abs(x).max() <= WIDTH_MM / 2 + STEP_MM
    body = vertebral_body(labels.mask("vertebrae_L3"), labels.grid, axes.vertebrae["L3"])
    assert body.sum() * labels.grid.voxel_mm3 == pytest.approx(WIDTH_MM * DEPTH_MM * HEIGHT_MM, rel=0.12)
    core = trabecular_region(labels.mask("vertebrae_L3"), labels.grid, axes.vertebrae["L3"])
    assert core.sum() * labels.grid.voxel_mm3 == pytest.approx(9 * np.pi * (WIDTH_MM / 3) * (DEPTH_MM / 3), rel=0.2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_regions_follow_a_rigid_motion_and_any_axis_order(column, order):
    _, labels = column
    here = spine_regions(labels, spine_axes(labels))
    turn = Rotation.from_euler("xyz", [31.0, -17.0, 140.0], degrees=True).as_matrix()
    motion = rigid_matrix(turn, np.array([40.0, -9.0, 77.0]))
    permuted = np.zeros((4, 4))
    permuted[3, 3] = 1.0
    for new, old in enumerate(order):
        permuted[old, new] = 1.0
    ids = labels.ids.transpose(order)[::-1]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = ids.shape[0] - 1
    moved = LabelMap(ids, Grid(ids.shape, motion @ labels.grid.world_from_index @ permuted @ flip), labels.scheme)
    there = spine_regions(moved, spine_axes(moved))
    for name, mask in here.items():
        assert np.array_equal(there[name][::-1].transpose(np.argsort(order)), mask)


def test_what_is_upside_down_or_not_there_is_refused(column):
    volume, labels = column
    swapped = dict(zip(labels.scheme, reversed(labels.scheme.values()), strict=True))
    with pytest.raises(SideConflict, match="L4 is not below L1"):
        measure_spine(volume, LabelMap(labels.ids, labels.grid, swapped), LINE)
    flipped = Grid(labels.grid.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.grid.world_from_index)
    with pytest.raises(SideConflict, match="arches are not behind"):
        require_upright(spine_axes(LabelMap(labels.ids, flipped, labels.scheme)))
    with pytest.raises(LabelsMismatch, match="none of the vertebrae"):
        spine_axes(LabelMap(labels.ids, labels.grid, {"vertebrae_L5": labels.scheme["vertebrae_L5"]}))


def test_a_body_without_arch_or_one_in_metres_is_refused(column):
    _, labels = column
    mask = labels.mask("vertebrae_L2")
    body = vertebral_body(mask, labels.grid, spine_axes(labels).vertebrae["L2"])
    with pytest.raises(BadRegion, match="no vertebral arch"):
        vertebra_axes(body, labels.grid)
    with pytest.raises(BadRegion, match="spacing in mm"):
        vertebra_axes(mask, Grid(labels.grid.shape, np.diag([1e-3, 1e-3, 1e-3, 1]) @ labels.grid.world_from_index))


def test_a_level_that_the_scan_cuts_is_refused(column):
    volume, labels = column
    k = int(np.argwhere(labels.mask("vertebrae_L1"))[:, 2].max()) - 1
    grid = Grid((*labels.grid.shape[:2], k), labels.grid.world_from_index)
    scheme = {name: i for name, i in labels.scheme.items() if name != "vertebrae_T12"}
    short = LabelMap(labels.ids[..., :k], grid, scheme)
    with pytest.raises(BadRegion, match=r"cut off|end plate"):
        measure_spine(Volume(volume.values[..., :k], grid), short, LINE)


def test_metal_is_in_no_region(column):
    volume, labels = column
    values = volume.values.copy()
    screw = np.zeros_like(values, bool)
    screw[40:44, 18:22, 88:92] = True
    assert labels.ids[screw].all()
    values[screw] = METAL_HU + 500.0
    found = measure_spine(Volume(values, volume.grid), labels, LINE)
    assert found.metal_mm3 > 64 * volume.grid.voxel_mm3
    assert max(float(found.density.values[one.mask].max()) for one in found.regions.values()) < 1000.0


def test_a_real_spines_bodies_are_those_of_a_reference_segmentation(shared_data):
    """torso-ct at 3 mm; density is nominal: slope 0.8, no phantom in the scan."""
    from hierbmd.io.ct import read_volume
    from hierbmd.io.labels import read_labels

    folder = shared_data / "torso-ct"
    volume = read_volume(folder / "example_ct.nii.gz")
    labels = read_labels(folder / "example_ct_totalseg_labels.nii.gz", onto=volume.grid)
    bodies = read_labels(folder / "totalseg_vertebrae_body.nii.gz", onto=volume.grid).ids == 1
    found = measure_spine(volume, labels, given_calibration(0.8, 0.0))
    assert np.degrees(np.arccos(found.axes.left[0])) < 6.0
    for name in ("L1", "L2", "L3", "L4"):
        mask = labels.mask(f"vertebrae_{name}")
        body, reference = vertebral_body(mask, labels.grid, found.axes.vertebrae[name]), bodies & mask
        assert 2.0 * (body & reference).sum() / (body.sum() + reference.sum()) > 0.85
        assert 0.4 < found.regions[f"lumbar_{name.lower()}"].bmd.bmd_g_cm2 < 1.6
        assert 18.0 < found.axes.vertebrae[name].height_mm < 32.0
    assert found.metal_mm3 == 0.0
