"""Pairs at jittered poses: exact targets under a simulated radiograph, for training patients alone."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest

from hierbmd.cohort import PrepareOptions, prepare
from hierbmd.data.halves import HalfFrame
from hierbmd.data.radiograph import Radiograph
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import BadConfig
from hierbmd.geometry import Camera, Motion, Placement, Side, View
from hierbmd.io.calibration_file import write_calibration
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.pairing.jitter import turn_about
from hierbmd.pairing.options import JitterOptions, PairingOptions, RowOptions
from hierbmd.rigid import transform_points
from hierbmd.training.data import FoldChoice, PairData

CAMERA = Camera(1150.0, (128, 128), (3.2, 3.2))
OPTIONS = PrepareOptions(
    row=RowOptions(
        pairing=PairingOptions(frame=HalfFrame((64, 128), (3.2, 3.2)), structures=("sacrum", "femoral_neck")),
        jitter=JitterOptions(pairs=2),
    )
)


@pytest.fixture(scope="module")
def dataset(coarse_patient: Any, tmp_path_factory: pytest.TempPathFactory, true_poses: Any) -> Dataset:
    """One patient to train on and one to validate on (the same body at another pose), two jittered pairs a side."""
    folder = tmp_path_factory.mktemp("jitter")
    write_volume(folder / "ct.nii.gz", coarse_patient.volume)
    write_labels(folder / "labels.nii.gz", coarse_patient.labels)
    write_calibration(folder / "line.json", coarse_patient.calibration)
    projector = make_projector(make_scene(coarse_patient.volume, quantity="attenuation"))
    placement = Placement(View.AP, coarse_patient.volume.grid.centre_world_mm, 1000.0)
    rows = []
    for n, split in enumerate(("train", "val")):
        image = projector.image(CAMERA, placement.camera_from_world(Motion(tx_mm=4.0 * n)))[0]
        radiograph = Radiograph(image, CAMERA.pixel_mm, CAMERA.sdd_mm, 1000.0, View.AP, Side.BOTH)
        write_radiograph_dicom(folder / f"{n}.dcm", radiograph)
        rows.append(
            [f"P{n}", "ct.nii.gz", "labels.nii.gz", f"{n}.dcm", "line.json", f"0 0 0 {4 * n} 0 0", split, "true"]
        )
    with (folder / "manifest.csv").open("w", newline="") as stream:
        header = ["subject", "ct", "labels", "radiograph", "calibration", "pose", "split", "simulated"]
        csv.writer(stream).writerows([header, *rows])
    prepare(folder / "manifest.csv", folder / "out", OPTIONS, registrar=true_poses)
    return read_dataset(folder / "out")


def test_training_patients_alone_get_more_pairs_and_they_say_so(dataset: Dataset) -> None:
    synthetic = [r for r in dataset.records if r.synthetic]
    assert {(r.pair_id, r.split) for r in synthetic} == {
        (f"P0_{side}_j{n}", "train") for side in ("left", "right") for n in range(2)
    }
    assert len(dataset.records) == 8
    assert len({r.radiograph_sha256 for r in synthetic}) == 4


def test_the_targets_lie_under_the_simulated_bones_at_another_pose(dataset: Dataset) -> None:
    for record in dataset.records:
        if not record.synthetic:
            continue
        pair = dataset.load(record)
        original = dataset.load(next(r for r in dataset.records if r.pair_id == f"P0_{record.side}"))
        assert np.abs(pair.bones - original.bones).max() > 0.2
        assert record.region_bmd_at_pose_g_cm2 == pytest.approx(record.bmd_qct_g_cm2, rel=0.1)
        # The edges of bone and radiograph agree best where they are.
        edges = [np.diff(image, axis=1) for image in (pair.radiograph, pair.bones.sum(axis=0))]
        fit = {d: np.corrcoef(edges[0].ravel(), np.roll(edges[1], d, axis=1).ravel())[0, 1] for d in range(-6, 7, 2)}
        assert max(fit, key=lambda d: fit[d]) == 0


def test_nothing_is_measured_on_synthetic_pairs(dataset: Dataset) -> None:
    data = PairData(str(dataset.folder))
    assert len(data.records("train")) == 6
    assert len(data.real("train")) == 2
    for fold in range(2):
        folded = PairData(str(dataset.folder), folds=FoldChoice(folds=2, fold=fold))
        assert not any(r.synthetic for r in folded.records("val"))
        assert len(folded.records("train")) in (2, 6)


def test_a_turn_keeps_its_centre() -> None:
    centre = np.array([10.0, -20.0, 900.0])
    motion = turn_about(centre, np.array([5.0, -3.0, 8.0]), shift_mm=np.array([1.0, 2.0, 3.0]))
    assert transform_points(motion, centre) == pytest.approx(centre + np.array([1.0, 2.0, 3.0]))
    with pytest.raises(BadConfig, match="below zero"):
        JitterOptions(pairs=-1)


def test_further_channels_are_there_at_every_pose(dataset: Dataset) -> None:
    assert (dataset.card.regions, dataset.card.structures) == (("femoral_neck",), ("sacrum",))
    for record in dataset.records:
        pair = dataset.load(record)
        assert pair.further is not None
        neck, sacrum = pair.further
        # The neck is a part of the femur, and goes where it goes.
        assert neck.max() > 0.1
        assert (neck <= pair.bones[1] + 1e-3).all()
        assert sacrum.max() > 0.1
