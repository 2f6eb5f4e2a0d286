"""Atlas registration: found by bone, mirrored, registered by elastix, refined, judged; simulated patients."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from scipy import ndimage

import hierbmd.anatomy.atlas_warp as warp_module
from hierbmd.anatomy.atlas import carried_labels, mirror_image
from hierbmd.anatomy.atlas_elastix import import_elastix
from hierbmd.anatomy.atlas_grid import cubic_grid, placed_by_bone, sampled
from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.atlas_quality import Carried, bone_quality
from hierbmd.anatomy.atlas_refine import EDGE_HU, refined
from hierbmd.anatomy.atlas_warp import Atlas
from hierbmd.anatomy.segmentation import checked_segmentation
from hierbmd.anatomy.shape import subgrid
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadConfig, LabelsMismatch, MissingExtra
from hierbmd.geometry import Grid

BONES = ("femur_left", "femur_right", "hip_left", "hip_right")


def _atlas(patient) -> Atlas:
    return Atlas(patient.volume, patient.labels)


def _moved(volume: Volume, shift_mm: tuple[float, float, float], box: tuple[slice, slice, slice]) -> Volume:
    matrix = volume.grid.world_from_index.copy()
    matrix[:3, 3] += shift_mm
    return Volume(volume.values[box], subgrid(Grid(volume.grid.shape, matrix), box))


@pytest.mark.parametrize("field", [slice(0, 999), slice(35, 110)])
def test_bones_are_found_whatever_the_offset_and_the_field_of_view(coarse_patient, field):
    shift = (83.0, -41.0, 127.0)
    n, m, k = coarse_patient.volume.grid.shape
    target = _moved(coarse_patient.volume, shift, (slice(0, n), slice(0, m), slice(field.start, min(field.stop, k))))
    placed = placed_by_bone(target, coarse_patient.volume, coarse_patient.labels, BONES)
    assert placed.scale == 1.0
    assert np.allclose(placed.shift_mm, shift, atol=6.0)
    assert placed.similarity > 0.7


def test_cubes_cover_the_grid_and_hold_its_values(coarse_patient):
    grid = cubic_grid(coarse_patient.volume.grid, 8.0)
    values = sampled(coarse_patient.volume.values, coarse_patient.volume.grid, grid)
    assert values.mean() == pytest.approx(coarse_patient.volume.values.mean(), abs=20.0)


def test_the_mirror_image_has_its_bones_on_the_other_side(coarse_patient):
    mirrored = mirror_image(_atlas(coarse_patient))
    left = np.argwhere(mirrored.labels.mask("femur_left")).mean(axis=0)
    where = mirrored.labels.grid.world_from_index @ [*left, 1.0]
    was = np.argwhere(coarse_patient.labels.mask("femur_right")).mean(axis=0)
    assert where[0] == pytest.approx(-(coarse_patient.labels.grid.world_from_index @ [*was, 1.0])[0])
    back = mirror_image(mirrored)
    assert back.labels.grid == coarse_patient.labels.grid
    assert dict(back.labels.scheme) == dict(coarse_patient.labels.scheme)


def test_a_bone_with_metal_serves_no_target(coarse_patient):
    values = coarse_patient.volume.values.copy()
    femur = np.argwhere(coarse_patient.labels.mask("femur_left"))
    low, middle = femur[:, 2].min(), np.median(femur, axis=0).astype(int)
    values[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2, low : middle[2]] = 3071.0
    atlas = Atlas(Volume(values, coarse_patient.volume.grid), coarse_patient.labels)
    assert "femur_left" not in atlas.usable()
    assert "femur_right" in atlas.usable()


def _two_balls() -> tuple[np.ndarray, np.ndarray, np.ndarray, Grid]:
    """Two bones of radius 8 mm, 1.5 mm apart, at 1 mm: HU, true ids, true signed distances."""
    grid = Grid((50, 30, 30), np.eye(4))
    places = np.moveaxis(np.indices(grid.shape), 0, -1).astype(np.float64)
    centres = np.array([[14.0, 15.0, 15.0], [31.5, 15.0, 15.0]])
    distances = np.stack([np.linalg.norm(places - c, axis=-1) - 8.0 for c in centres]).astype(np.float32)
    inside = distances.min(axis=0) < 0.0
    # A dense shell around marrow that is darker than muscle.
    hu = np.where(inside, np.where(distances.min(axis=0) > -2.5, 700.0, -20.0), 50.0).astype(np.float32)
    return hu, np.where(inside, np.argmin(distances, axis=0) + 1, 0), distances, grid


@pytest.mark.parametrize("error_mm", [-1.5, 1.5])
def test_refinement_brings_a_label_to_the_bones_edge_and_keeps_neighbours_apart(error_mm):
    hu, truth, distances, grid = _two_balls()
    found = refined(hu, distances + np.float32(error_mm), grid)
    for number in (1, 2):
        off = np.count_nonzero((found == number) != (truth == number))
        plain = np.count_nonzero((distances[number - 1] + error_mm < 0) != (truth == number))
        assert off < 0.25 * plain
        assert not np.any((found == number) & (truth == 3 - number))


def test_refinement_does_not_widen_a_dense_bone_by_its_blur():
    """A shell of 1200 HU seen by a scanner that blurs: above 150 HU it is half as large again."""
    _, truth, distances, grid = _two_balls()
    sharp = np.where(truth > 0, np.where(distances.min(axis=0) > -3.5, 1200.0, 200.0), 50.0)
    hu = ndimage.gaussian_filter(sharp, 1.2).astype(np.float32)
    found = refined(hu, distances, grid)
    for number in (1, 2):
        true = np.count_nonzero(truth == number)
        assert np.count_nonzero((hu > EDGE_HU) & (np.argmin(distances, axis=0) == number - 1)) > 1.4 * true
        assert np.count_nonzero(found == number) == pytest.approx(true, rel=0.1)
        assert _dice(found == number, truth == number) > 0.95


def _described(parts, hu, distances, grid, seen=True) -> Carried:
    shown = np.broadcast_to(seen, distances.shape)
    return Carried(hu, parts.astype(np.uint8), distances, shown, grid)


def test_quality_falls_as_a_label_leaves_its_bone():
    hu, truth, distances, grid = _two_balls()
    found = []
    for shift in (0, 3, 6, 12):
        parts = np.roll(np.where(truth == 1, 1, 0), shift, axis=1)
        moved = np.stack([np.roll(distances[0], shift, axis=1), distances[1]])
        found.append(bone_quality(_described(parts, hu, moved, grid), 1))
    for figure, sign in (("edge_rise_hu", -1), ("edge_share", -1), ("explained", -1), ("edge_offset_mm", 1)):
        values = [sign * one[figure] for one in found]
        assert values == sorted(values), figure
    assert found[0]["edge_rise_hu"] > 200
    assert found[0]["edge_offset_mm"] < 0.7
    assert found[0]["explained"] > 0.95
    assert found[0]["edge_share"] > 0.95


@pytest.mark.parametrize("error_mm", [0.0, 1.0, 2.0, 3.0])
def test_the_edge_offset_is_the_error_of_a_label_that_is_too_large_or_too_small(error_mm):
    """A dense ball in muscle: HU fall at its surface alone."""
    grid = Grid((60, 60, 60), np.eye(4))
    places = np.moveaxis(np.indices(grid.shape), 0, -1).astype(np.float64)
    distance = (np.linalg.norm(places - 30.0, axis=-1) - 14.0).astype(np.float32)
    hu = np.where(distance < 0.0, 700.0, 50.0).astype(np.float32)
    for sign in (-1.0, 1.0):
        moved = distance[None] + np.float32(sign * error_mm)
        found = bone_quality(_described(moved[0] < 0, hu, moved, grid), 1)
        assert found["edge_offset_mm"] == pytest.approx(error_mm, abs=0.6)


def test_a_label_that_the_atlass_scan_cuts_is_marked_and_its_cut_is_no_edge():
    hu, truth, distances, grid = _two_balls()
    index = np.indices(grid.shape)[2]
    shown = index < 15
    parts = np.where((truth == 1) & shown, 1, 0)
    found = bone_quality(_described(parts, hu, distances, grid, shown), 1)
    assert found["ends_at_atlas_scan"]
    assert found["edge_share"] > 0.9
    whole = bone_quality(_described(truth == 1, hu, distances, grid), 1)
    assert not whole["ends_at_atlas_scan"]


def _still(fixed, moving, **_):
    """A registration that moves nothing."""
    return np.zeros((*fixed.grid.shape, 3))


def _dice(found: np.ndarray, true: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true))


def test_a_patient_labels_itself_and_its_findings_say_that_it_fits(coarse_patient, monkeypatch):
    monkeypatch.setattr(warp_module, "field_mm", _still)
    carried = carried_labels(coarse_patient.volume, [_atlas(coarse_patient)])
    for name in BONES:
        assert _dice(carried.labels.mask(name), coarse_patient.labels.mask(name)) > 0.93, name
        assert carried.findings["bones"][name]["edge_rise_hu"] > 100
    assert checked_segmentation(coarse_patient.volume, carried.labels).findings["femora"]["femur_left"]


def test_an_atlas_that_does_not_fit_is_refused(coarse_patient, monkeypatch):
    monkeypatch.setattr(
        warp_module, "field_mm", lambda fixed, moving, **_: _still(fixed, moving) + np.array([0.0, 45.0, 30.0])
    )
    with pytest.raises(LabelsMismatch, match="the atlas does not fit"):
        carried_labels(coarse_patient.volume, [_atlas(coarse_patient)])


def test_without_elastix_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(MissingExtra, match=r"hierbmd\[elastix\]"):
        import_elastix()


def test_an_atlas_without_its_labels_is_refused():
    with pytest.raises(BadConfig, match="a CT and its labels"):
        AtlasOptions(atlas=("ct.nii.gz",))


def test_an_atlas_without_pelvic_bones_is_refused(coarse_patient):
    other = LabelMap(coarse_patient.labels.ids, coarse_patient.labels.grid, {"liver": 75})
    with pytest.raises(LabelsMismatch, match="no pelvic bone"):
        carried_labels(coarse_patient.volume, [Atlas(coarse_patient.volume, other)])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("itk") is None, reason="itk-elastix is not installed")
@pytest.mark.filterwarnings("ignore")
def test_one_virtual_patient_labels_another():
    from hierbmd.simulation.options import PatientOptions
    from hierbmd.simulation.patient import virtual_patient

    atlas, target = (virtual_patient(index, PatientOptions(seed=3, spacing_mm=3.0)) for index in (0, 1))
    carried = carried_labels(target.volume, [_atlas(atlas)])
    for name in BONES:
        found, true = carried.labels.mask(name), target.labels.mask(name)
        assert _dice(found, true) >= 0.90, name
