"""Virtual patients: repeatable, anatomical, and true to their own truth."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.areal import areal_bmd
from hierbmd.anatomy.femur import femur_axes
from hierbmd.anatomy.regions import total_hip
from hierbmd.data.density import REFERENCES
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.rigid import transform_points
from hierbmd.simulation.bone_truth import side_truth, spine_truth
from hierbmd.simulation.morphometry import SIDES, draw_anatomy, mean_t_score
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient


def _centroid(patient, name):
    index = np.argwhere(patient.labels.mask(name)).astype(float)
    return transform_points(patient.labels.grid.world_from_index, index).mean(axis=0)


def test_the_same_number_gives_the_same_patient_alone(patient, coarse_options):
    virtual_patient(3, coarse_options)
    again = virtual_patient(0, coarse_options)
    for a, b in ((patient.volume, again.volume), (patient.density, again.density), (patient.body, again.body)):
        assert a.values.tobytes() == b.values.tobytes()
    assert patient.anatomy == again.anatomy
    other = virtual_patient(1, coarse_options)
    assert other.anatomy != patient.anatomy


def test_structures_are_named_and_numbered_as_totalsegmentator(patient):
    names = {"femur_left", "femur_right", "hip_left", "hip_right", "sacrum"}
    assert names <= set(patient.labels.names_present)
    assert all(patient.labels.id_of(name) == TOTALSEGMENTATOR_V2[name] for name in names)


def test_left_is_left_and_up_is_up(patient):
    for bone in ("femur", "hip"):
        left, right = (_centroid(patient, f"{bone}_{side}") for side in SIDES)
        assert left[0] > right[0] + 100
    femur, hip, sacrum = (_centroid(patient, n) for n in ("femur_left", "hip_left", "sacrum"))
    assert femur[2] < hip[2] < sacrum[2]
    assert sacrum[1] > hip[1]


def test_each_side_shows_its_own_handedness(patient):
    """The anatomy module finds a left femur to be a left one, from its shape alone, with the head where it was put."""
    for side in SIDES:
        axes = femur_axes(patient.labels.mask(f"femur_{side}"), patient.labels.grid)
        assert axes.side == side
        assert np.linalg.norm(axes.head.centre_world_mm - patient.hip_centres_world_mm[side]) < 4.0


def test_sides_are_alike_but_not_the_same(patient):
    left, right = patient.anatomy.femora
    assert left != right
    assert left.head_radius_mm == pytest.approx(right.head_radius_mm, abs=1.2)
    assert left.offset_mm == pytest.approx(right.offset_mm, abs=6.0)


def test_truth_is_density_of_bone_alone(patient):
    density = patient.density.values
    assert density.min() == 0
    assert 700 < density.max() < 1300
    assert np.all(density[patient.labels.ids > 0] >= 0)
    far = np.asarray(patient.labels.ids == 0)
    assert (density[far] > 0).mean() < 0.05


def test_the_scan_reads_the_truth_through_its_own_line(patient):
    """Deep in bone, where no edge mixes in tissue, slope * HU + intercept is the true density up to noise."""
    from scipy import ndimage

    inside = ndimage.binary_erosion(patient.labels.ids > 0, iterations=2) & (patient.density.values > 60)
    line = patient.calibration
    read = line.slope * patient.volume.values[inside] + line.intercept
    assert (read - patient.density.values[inside]).mean() == pytest.approx(0.0, abs=2.0)
    assert (read - patient.density.values[inside]).std() < 1.5 * line.slope * 12.0


def test_soft_tissue_is_tissue_and_outside_is_air(patient):
    body = patient.body.values
    assert body[0, 0, -1] == pytest.approx(-1000, abs=1)
    tissue = body[(patient.labels.ids == 0) & (body > -400)]
    fat, muscle = np.mean((tissue > -140) & (tissue < -60)), np.mean((tissue > 20) & (tissue < 90))
    assert fat > 0.1
    assert muscle > 0.2


def test_wards_triangle_is_the_least_dense_and_the_head_the_densest():
    from hierbmd.simulation.femur import femur_frame, trabecular_mg_cm3

    anatomy = draw_anatomy(np.random.default_rng(0), PatientOptions())
    frame = femur_frame(anatomy.femora[0])
    head = frame.size.head_radius_mm
    ward = 0.72 * frame.junction + 0.02 * head * frame.up
    compressive = 0.2 * frame.junction - 0.1 * head * frame.up
    points = np.stack([np.zeros(3), ward, compressive, frame.junction + np.array([8.0, 3.0, 5.0])])
    at_head, at_ward, at_group, at_trochanter = trabecular_mg_cm3(frame, points, 1.0)
    assert at_ward < at_trochanter < at_head <= at_group * 1.3
    assert at_ward < 0.45 * at_head


def test_morphometry_has_the_published_means():
    """Carmona et al. 2019: neck-shaft angle 124.7 (6.2) deg, anteversion 14.5 (8.1) deg, offset 42.9 (6.8) mm."""
    options = PatientOptions(female_share=0.5)
    drawn = [draw_anatomy(np.random.default_rng([1, n]), options) for n in range(600)]
    femora = [a.femora[0] for a in drawn]
    assert np.mean([f.neck_shaft_deg for f in femora]) == pytest.approx(124.7, abs=1.5)
    assert np.mean([f.anteversion_deg for f in femora]) == pytest.approx(14.5, abs=1.5)
    assert np.mean([f.offset_mm for f in femora]) == pytest.approx(42.9, abs=1.5)
    assert 4.5 < np.std([f.neck_shaft_deg for f in femora]) < 7
    diameters = {s: np.mean([2 * a.femora[0].head_radius_mm for a in drawn if a.body.sex == s]) for s in "FM"}
    assert diameters["F"] == pytest.approx(43.5, abs=1.0)
    assert diameters["M"] == pytest.approx(49.5, abs=1.0)


def test_density_falls_with_age_faster_in_women():
    falls = {sex: [mean_t_score("total_hip", sex, age) for age in (30, 50, 70, 80)] for sex in "FM"}
    assert all(np.all(np.diff(means) < 0) for means in falls.values())
    assert falls["F"][0] - falls["F"][3] > 1.5 * (falls["M"][0] - falls["M"][3])
    options = PatientOptions(age_min=80, age_max=85, female_share=1.0)
    old = [draw_anatomy(np.random.default_rng([2, n]), options).quality[0].t_score_drawn for n in range(300)]
    assert np.mean(old) == pytest.approx(mean_t_score("total_hip", "F", 82.5), abs=0.3)
    assert min(old) < -3.5


@pytest.mark.parametrize("wrong", [{"spacing_mm": 0.002}, {"age_min": 90, "age_max": 50}, {"female_share": 75}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(SuspectedUnit if "spacing_mm" in wrong else BadConfig):
        PatientOptions(**wrong)


def _t_scores(indices, spacing_mm):
    """(drawn, measured) T-scores of the left total hip of patients of one seed."""
    pairs = []
    for index in indices:
        patient = virtual_patient(index, PatientOptions(seed=5, spacing_mm=spacing_mm, ct_noise_hu=0.0))
        axes = femur_axes(patient.labels.mask("femur_left"), patient.labels.grid)
        region = total_hip(patient.labels.mask("femur_left"), patient.labels.grid, axes)
        sex = {"F": "female", "M": "male"}[patient.sex]
        reference = REFERENCES[f"nhanes3-{sex}-total-hip"]
        measured = reference.t_score(areal_bmd(patient.density, region, axes).bmd_g_cm2)
        pairs.append((patient.anatomy.quality[0].t_score_drawn, measured))
    return np.array(pairs)


def test_total_hip_areal_density_follows_the_drawn_t_score():
    pairs = _t_scores(range(4), 3.0)
    assert np.abs(pairs[:, 1] - pairs[:, 0]).max() < 1.5
    assert np.all((pairs[:, 1] > -5.5) & (pairs[:, 1] < 3))


@pytest.mark.slow
def test_total_hip_areal_density_is_spread_like_a_screening_cohort():
    pairs = _t_scores(range(40), 2.0)
    assert np.corrcoef(pairs.T)[0, 1] > 0.9
    assert abs(np.mean(pairs[:, 1] - pairs[:, 0])) < 0.4
    assert 0.8 < pairs[:, 1].std() < 2.0


def test_a_torso_holds_a_lordotic_spine_and_its_areal_density():
    patient = virtual_patient(0, PatientOptions(seed=11, spacing_mm=4.0, coverage="torso"))
    levels = [f"vertebrae_L{n}" for n in (5, 4, 3, 2, 1)]
    centres = np.array([_centroid(patient, name) for name in levels])
    assert np.all(np.diff(centres[:, 2]) > 28)
    assert centres[2, 1] < min(centres[0, 1], centres[4, 1]) + 5
    found = spine_truth(patient.density, patient.labels)
    assert found["l1_l4_bmc_g"] == pytest.approx(found["l1_l4_bmd_g_cm2"] * found["l1_l4_area_cm2"])
    assert 0.4 < found["l1_l4_bmd_g_cm2"] < 1.9
    levels = found["levels"].values()
    assert found["l1_l4_bmc_g"] == pytest.approx(sum(level["bmc_g"] for level in levels), rel=0.002)
    # A pixel that the cut between two levels runs through is seen by both; slivers of a level thinner than a voxel,
    # which a cut leaves, are outside its surface.
    assert 0.94 < sum(level["area_cm2"] for level in levels) / found["l1_l4_area_cm2"] < 1.06
    assert all(20 < level["trabecular_mg_cm3"] < 350 for level in levels)
    assert "L1" in spine_truth(patient.density, patient.labels, ("vertebrae_L1",))["refused"]
    assert set(patient.aims_world_mm) == {"hips", "lumbar"}
    hips = virtual_patient(0, PatientOptions(seed=11, spacing_mm=4.0))
    assert hips.anatomy == patient.anatomy


@pytest.mark.parametrize("coverage", ["lumbar"])
def test_a_lumbar_ct_has_no_femur(coverage):
    patient = virtual_patient(0, PatientOptions(seed=11, spacing_mm=4.0, coverage=coverage))
    assert "femur_left" not in patient.labels.names_present
    assert {"vertebrae_L1", "sacrum", "hip_left"} <= set(patient.labels.names_present)


def test_shares_of_disease_are_met_and_change_no_one_else():
    ill = PatientOptions(arthritis_share=0.3, implant_share=0.1)
    drawn = [draw_anatomy(np.random.default_rng([3, n]), ill) for n in range(400)]
    assert np.mean([max(a.arthritis) > 0 for a in drawn]) == pytest.approx(0.3, abs=0.07)
    assert np.mean([a.implants != ("none", "none") for a in drawn]) == pytest.approx(0.1, abs=0.05)
    for n, one in enumerate(drawn):
        if max(one.arthritis) == 0 and one.implants == ("none", "none"):
            assert one == draw_anatomy(np.random.default_rng([3, n]), PatientOptions())
            break


def test_an_implant_is_metal_in_the_ct_and_no_density():
    """Each kind reads as metal in its femur, which a data set refuses (FAULTS row 13); the other side stays native."""
    from hierbmd.anatomy.metal import metal_near
    from hierbmd.simulation.basis import METAL_HU

    kinds = set()
    for index in range(12):
        options = PatientOptions(seed=4, spacing_mm=4.0, implant_share=1.0)
        kind = max(draw_anatomy(np.random.default_rng([4, index]), options).implants, key=lambda k: k != "none")
        if kind in kinds:
            continue
        kinds.add(kind)
        patient = virtual_patient(index, options)
        for side, own in zip(SIDES, patient.anatomy.implants, strict=True):
            femur = patient.labels.mask(f"femur_{side}")
            assert metal_near(patient.volume.values, femur).any() == (own != "none")
        metal = patient.body.values > 2 * METAL_HU
        assert patient.density.values[metal].max() < 400
    assert len(kinds) >= 2


@pytest.fixture(scope="module")
def worn_and_well():
    """One patient whose left hip is badly worn, and the same one without arthritis."""
    worn = PatientOptions(seed=11, spacing_mm=3.0, arthritis_share=1.0)
    index = next(n for n in range(20) if draw_anatomy(np.random.default_rng([11, n]), worn).arthritis[0] > 0.6)
    return [virtual_patient(index, o) for o in (worn, PatientOptions(seed=11, spacing_mm=3.0))]


def test_arthritis_narrows_the_joint_and_hardens_the_roof(worn_and_well):
    ill, well = worn_and_well
    at = ill.hip_centres_world_mm["left"] + [0.0, 0.0, ill.anatomy.femora[0].head_radius_mm + 6.0]
    i, j, k = np.round(transform_points(ill.density.grid.index_from_world, at[None])[0]).astype(int)
    zone = (slice(i - 2, i + 3), slice(j - 2, j + 3), slice(k - 2, k + 3))
    assert ill.density.values[zone].mean() > 1.15 * well.density.values[zone].mean()


def test_a_worn_hip_has_less_bone_in_all_and_more_in_the_neck(worn_and_well):
    """Uemura et al., Bone 2025: total hip -6.9 %, neck +14.5 % on average. The neck gains the same amount in everyone,
    which is little beside this patient's dense bone: it is held against what the rest loses."""
    ill, well = (side_truth(patient.density, patient.labels, "left") for patient in worn_and_well)
    total, neck = (ill[name] / well[name] - 1.0 for name in ("total_hip_bmd_g_cm2", "femoral_neck_bmd_g_cm2"))
    assert -0.14 < total < -0.02
    assert neck > 0.0
    assert neck - total > 0.08
