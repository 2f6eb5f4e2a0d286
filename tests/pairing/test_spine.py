"""Lumbar pairs: a whole radiograph, four vertebrae each at its own pose, the regions that move with them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.anatomy.hip import measure_hip
from hierbmd.anatomy.options import RegionOptions
from hierbmd.anatomy.spine import LEVELS, measure_spine
from hierbmd.cohort import PrepareOptions, prepare
from hierbmd.data.halves import HalfFrame, half_radiograph
from hierbmd.data.pairs import HIP_OF_SCAN
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import BadConfig
from hierbmd.geometry import Camera, Placement, Side, View
from hierbmd.io.calibration_file import write_calibration
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.pairing.make import pair_images
from hierbmd.pairing.options import JitterOptions, PairingOptions, RowOptions
from hierbmd.rigid import rigid_matrix
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import VirtualPatient, virtual_patient
from hierbmd.simulation.truth import true_areal_density

CAMERA = Camera(1150.0, (128, 160), (2.4, 2.4))
FRAME = HalfFrame((80, 112), (2.8, 2.8))
PAIRING = PairingOptions(frame=FRAME, region=RegionOptions(region="lumbar_l1_l4"))
OPTIONS = PrepareOptions(row=RowOptions(pairing=PAIRING), row_limit_s=None)


@pytest.fixture(scope="module")
def patient() -> VirtualPatient:
    """A virtual torso at 4 mm: the lumbar spine and both hips in one scan."""
    return virtual_patient(0, PatientOptions(seed=11, spacing_mm=4.0, coverage="torso"))


@pytest.fixture(scope="module")
def files(patient: VirtualPatient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files, with a lumbar radiograph, which has no side, and one that says it shows both."""
    folder = tmp_path_factory.mktemp("spine")
    write_volume(folder / "ct.nii.gz", patient.volume)
    write_labels(folder / "labels.nii.gz", patient.labels)
    write_calibration(folder / "line.json", patient.calibration)
    projector = make_projector(make_scene(patient.volume, quantity="attenuation"))
    pose = Placement(View.AP, patient.aims_world_mm["lumbar"], 1000.0).camera_from_world()
    image = projector.image(CAMERA, pose)[0]
    for name, side in (("spine", Side.NONE), ("hips", Side.BOTH)):
        radiograph = Radiograph(image, CAMERA.pixel_mm, CAMERA.sdd_mm, 1000.0, View.AP, side)
        write_radiograph_dicom(folder / f"{name}.dcm", radiograph)
    return folder


def _manifest(folder: Path, *rows: dict[str, str]) -> Path:
    common = {"ct": "ct.nii.gz", "labels": "labels.nii.gz", "calibration": "line.json", "split": "train"}
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["subject", *common, "radiograph", "side", "simulated"], restval="")
        writer.writeheader()
        writer.writerows({**common, "simulated": "true", **row} for row in rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def dataset(files: Path, tmp_path_factory: pytest.TempPathFactory, true_poses: Any) -> Dataset:
    """One lumbar row, and one whose radiograph is of both hips."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(files, folder / "in")
    lumbar = {"subject": "P1", "radiograph": "spine.dcm", "side": "none"}
    manifest = _manifest(folder / "in", lumbar, {"subject": "P2", "radiograph": "hips.dcm", "side": "both"})
    prepare(manifest, folder / "out", OPTIONS, registrar=true_poses)
    return read_dataset(folder / "out")


def test_a_lumbar_radiograph_is_one_pair_without_a_side(dataset: Dataset, patient: VirtualPatient) -> None:
    (record,) = dataset.records
    assert (record.pair_id, record.side, record.mirrored) == ("P1_spine", Side.NONE, False)
    assert (dataset.card.region, dataset.card.bones) == ("lumbar_l1_l4", LEVELS)
    assert record.outcomes == dict.fromkeys(LEVELS, "converged")
    pair = dataset.load(record)
    assert pair.bones.shape == (4, 112, 80)
    spine = measure_spine(patient.volume, patient.labels, patient.calibration)
    assert record.bmd_qct_g_cm2 == pytest.approx(spine.regions["lumbar_l1_l4"].bmd.bmd_g_cm2)
    read = float(pair.region[pair.region_mask > 0].mean())
    assert read == pytest.approx(record.region_bmd_at_pose_g_cm2, rel=1e-4)
    assert read == pytest.approx(record.bmd_qct_g_cm2, rel=0.1)
    # L1 stands above L4, and the patient's left is on the image's right as in any AP view.
    heights = [np.average(np.arange(112), weights=bone.sum(axis=1)) for bone in pair.bones]
    assert np.all(np.diff(heights) > 8)


def test_every_level_is_in_the_table_and_the_hips_of_the_scan_are_kept(
    dataset: Dataset, patient: VirtualPatient
) -> None:
    with (dataset.folder / "qc.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    spine = measure_spine(patient.volume, patient.labels, patient.calibration)
    for name in ("lumbar_l1", "lumbar_l4", "lumbar_l1_l4"):
        assert float(row[f"bmd_{name}_g_cm2"]) == pytest.approx(spine.regions[name].bmd.bmd_g_cm2, abs=1e-5)
    # Rays run through two levels where discs are tilted against the beam: a level alone covers more area there.
    whole = float(row["at_pose_lumbar_l1_l4_g_cm2"])
    alone = [float(row[f"at_pose_lumbar_{name.lower()}_g_cm2"]) for name in LEVELS]
    assert np.mean(alone) < whole
    assert all(0.7 * whole < one < 1.05 * whole for one in alone)
    assert float(row["trabecular_l3_mg_cm3"]) == pytest.approx(spine.trabecular_mg_cm3["L3"], abs=1e-4)
    for side, column in HIP_OF_SCAN.items():
        hip = measure_hip(patient.volume, patient.labels, side, patient.calibration)
        assert float(dataset.records[0].extra[column]) == pytest.approx(hip.bmd.bmd_g_cm2, abs=1e-5)


def test_a_radiograph_of_both_hips_is_no_lumbar_one(dataset: Dataset) -> None:
    with (dataset.folder / "refusals.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["subject"], row["error_class"]) == ("P2", "SideConflict")
    assert "lumbar spine has none" in row["reason"]


def test_a_region_moves_with_its_own_vertebrae(patient: VirtualPatient) -> None:
    """Against the slow sampler of the truth: every part of L1-L4 projected apart at its own bone's pose."""
    spine = measure_spine(patient.volume, patient.labels, patient.calibration)
    pose = Placement(View.AP, patient.aims_world_mm["lumbar"], 1000.0).camera_from_world()
    poses = {name: rigid_matrix(np.eye(3), np.array([4.0 * n, 0.0, 0.0])) @ pose for n, name in enumerate(LEVELS)}
    blank = Radiograph(np.zeros((160, 128), np.float32), CAMERA.pixel_mm, CAMERA.sdd_mm, 1000.0, View.AP, Side.NONE)
    half = half_radiograph(blank, Side.NONE, FRAME)
    images = pair_images(spine, half, poses)
    camera = half.geometry.camera
    whole = spine.regions["lumbar_l1_l4"].mask
    owners = {**{name: name for name in LEVELS}, "T12": "L1", "L5": "L4"}
    expected = sum(
        true_areal_density(spine.density, whole & spine.vertebrae[name], camera, poses[owner]).areal_g_cm2
        for name, owner in owners.items()
    )
    assert images.region.sum() == pytest.approx(expected.sum(), rel=0.01)
    assert np.corrcoef(images.region.ravel(), expected.ravel())[0, 1] > 0.99
    still = pair_images(spine, half, dict.fromkeys(LEVELS, pose))
    assert np.array_equal(images.bones[0], still.bones[0])
    shift_px = [_middle(images.bones[n]) - _middle(still.bones[n]) for n in range(4)]
    assert shift_px == pytest.approx([n * 4.0 * 1.15 / 2.8 for n in range(4)], abs=0.1)


def _middle(image: Any) -> float:
    return float(np.average(np.arange(image.shape[1]), weights=image.sum(axis=0)))


def test_a_part_of_a_neighbour_moves_with_the_level_that_it_stands_in(patient: VirtualPatient) -> None:
    spine = measure_spine(patient.volume, patient.labels, patient.calibration)
    region = spine.regions["lumbar_l1"].mask
    parts = spine.carried(region)
    assert sum(part.sum() for part in parts.values()) == region.sum()
    assert set(parts) <= set(LEVELS)
    assert (parts["L1"] & spine.vertebrae["T12"]).sum() == (region & spine.vertebrae["T12"]).sum()


def test_one_level_alone_can_be_the_target(
    files: Path, tmp_path: Path, patient: VirtualPatient, true_poses: Any
) -> None:
    shutil.copytree(files, tmp_path / "in")
    manifest = _manifest(tmp_path / "in", {"subject": "P1", "radiograph": "spine.dcm", "side": "none"})
    pairing = PairingOptions(frame=FRAME, region=RegionOptions(region="lumbar_l2"))
    options = PrepareOptions(row=RowOptions(pairing=pairing), row_limit_s=None)
    prepare(manifest, tmp_path / "out", options, registrar=true_poses)
    one = read_dataset(tmp_path / "out")
    assert one.card.region == "lumbar_l2"
    spine = measure_spine(patient.volume, patient.labels, patient.calibration)
    assert one.records[0].bmd_g_cm2 == pytest.approx(spine.regions["lumbar_l2"].bmd.bmd_g_cm2)


def test_a_vertebra_that_is_not_labelled_is_named(
    files: Path, tmp_path: Path, patient: VirtualPatient, true_poses: Any
) -> None:
    shutil.copytree(files, tmp_path / "in")
    names = {name: number for name, number in patient.labels.scheme.items() if name != "vertebrae_L2"}
    ids = np.where(patient.labels.ids == patient.labels.id_of("vertebrae_L2"), 0, patient.labels.ids)
    write_labels(tmp_path / "in" / "labels.nii.gz", LabelMap(ids, patient.labels.grid, names))
    manifest = _manifest(tmp_path / "in", {"subject": "P1", "radiograph": "spine.dcm", "side": "none"})
    with pytest.raises(Exception, match="not one pair could be made"):
        prepare(manifest, tmp_path / "out", OPTIONS, registrar=true_poses)
    assert "not in the label map: vertebrae_L2" in (tmp_path / "out" / "refusals.csv").read_text()


def test_the_spine_is_not_jittered_and_its_regions_are_no_hips(patient: VirtualPatient) -> None:
    with pytest.raises(BadConfig, match="hips alone"):
        RowOptions(pairing=PAIRING, jitter=JitterOptions(pairs=1))
    with pytest.raises(BadConfig, match="no region of a hip"):
        measure_hip(
            patient.volume, patient.labels, Side.LEFT, patient.calibration, options=RegionOptions(region="lumbar_l1")
        )
