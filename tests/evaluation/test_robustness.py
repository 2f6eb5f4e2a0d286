"""Perturbations by their closed forms, changes of a known reader, and shares within the least significant change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import BadManifest
from hierbmd.evaluation.bootstrap import BootstrapOptions
from hierbmd.evaluation.estimate import Estimate
from hierbmd.evaluation.perturb import Perturbation, Stored, perturbations
from hierbmd.evaluation.robustness import (
    RadiographFiles,
    changes,
    first_images,
    robustness,
    share_within,
    wilson,
)
from hierbmd.evaluation.sweeps import sweep_rows, uncalibrated
from hierbmd.geometry import Side, View
from hierbmd.io.codecs import through_jpeg, through_jpeg2000
from hierbmd.io.dataset import read_dataset
from hierbmd.io.dicom_write import DicomOptions, write_radiograph_dicom
from hierbmd.io.radiograph import read_radiograph
from hierbmd.io.tables import write_table

DRAWN = BootstrapOptions(200, 0)


@pytest.fixture
def smooth():
    """A radiograph of smooth content on 12 bits."""
    rows, columns = np.mgrid[:96, :64]
    level = 0.5 + 0.3 * np.sin(rows / 11.0) * np.cos(columns / 7.0)
    return Stored((4095 * level).astype(np.float32), (0.0, 4095.0), 12)


def rms(stored, pixels):
    return float(np.sqrt(np.mean((pixels.astype(np.float64) - stored.pixels) ** 2)) / 4095)


def named(sweep):
    return {one.name: one for one in perturbations(sweep)}


def test_codecs_lose_more_as_they_are_asked_to(smooth):
    rng = np.random.default_rng(0)
    rough = dataclasses.replace(
        smooth, pixels=np.clip(smooth.pixels + rng.normal(0, 80, (96, 64)), 0, 4095).astype("f4")
    )
    jpeg = [rms(rough, one.apply(rough, 0)) for one in perturbations("compression") if one.name.startswith("jpeg ")]
    wavelet = [rms(rough, one.apply(rough, 0)) for one in perturbations("compression") if "2000" in one.name]
    assert jpeg == sorted(jpeg)
    assert wavelet == sorted(wavelet)
    assert 0 < jpeg[0] < 0.02
    assert 0 < wavelet[0] < 0.03
    grey = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    assert np.max(np.abs(through_jpeg(grey, 95).astype(int) - grey)) <= 3
    deep = (grey.astype(np.uint16) * 60).astype(np.uint16)
    assert np.max(np.abs(through_jpeg2000(deep, 2.0, bits=12).astype(int) - deep)) <= 8


def test_noise_has_the_spread_it_is_named_after(smooth):
    one = named("noise")["noise 2 %"]
    span = np.subtract(*np.percentile(smooth.level, [99.5, 2.0]))
    assert rms(smooth, one.apply(smooth, 1)) == pytest.approx(0.02 * span, rel=0.05)
    assert np.array_equal(one.apply(smooth, 1), one.apply(smooth, 1))
    assert not np.array_equal(one.apply(smooth, 1), one.apply(smooth, 2))


def test_coarser_keeps_the_mean_and_loses_detail(smooth):
    checks = dataclasses.replace(smooth, pixels=(4095.0 * (np.indices((96, 64)).sum(0) % 2)).astype(np.float32))
    flat = named("resolution")["2 x coarser"].apply(checks, 0)
    assert np.allclose(flat, 4095 / 2)
    assert rms(smooth, named("resolution")["2 x coarser"].apply(smooth, 0)) < 0.02


def test_exposure_shifts_and_bends_and_saturates(smooth):
    up = named("exposure")["shift +20 %"].apply(smooth, 0)
    expected = np.minimum(smooth.pixels + 0.2 * 4095, 4095)
    assert np.allclose(up, expected, atol=0.5)
    bent = named("exposure")["gamma 1.4"].apply(smooth, 0)
    assert np.allclose(bent, 4095 * (smooth.pixels / 4095) ** 1.4, atol=0.5)


def test_the_change_of_a_known_reader_is_known(hip_dataset, blob_reader):
    """The reader's density is the radiograph less 2: a tenth more of that is a tenth more BMD."""
    dataset = read_dataset(hip_dataset)
    images = first_images(dataset.of_split("test"))
    assert len(images) == 24
    denser = Perturbation("known", "denser", 1.0, lambda stored, seed: 2 + np.float32(1.1) * (stored.pixels - 2))
    same = Perturbation("known", "same", 0.0, lambda stored, seed: stored.pixels)
    rows = list(changes(blob_reader(), dataset, images, [denser, same]))
    for row in rows:
        expected = 0.1 * row["bmd_g_cm2"] if row["name"] == "denser" else 0.0
        assert row["change_g_cm2"] == pytest.approx(expected, abs=1e-5)
    assert {row["applied_to"] for row in rows} == {"half image of the data set"}
    levels = robustness(rows, lsc=Estimate(0.03, 0.02, 0.04, "g/cm2"), options=DRAWN)
    assert [level["within_lsc"]["value"] for level in levels] == [0.0, 1.0]
    assert levels[0]["n_subjects"] == 12
    unknown = robustness(rows, lsc=Estimate.undefined("no repeats"), options=DRAWN)
    assert "no repeats" in unknown[0]["within_lsc"]["reason"]


def test_a_whole_radiograph_is_changed_as_it_is_stored(hip_dataset, blob_reader, tmp_path):
    dataset = read_dataset(hip_dataset)
    record = dataset.of_split("test")[0]
    rng = np.random.default_rng(0)
    film = Radiograph(rng.uniform(0, 4095, (96, 96)).astype("f4"), (2.0, 2.0), 1000.0, 900.0, View.AP, Side.BOTH)
    path = tmp_path / "film.dcm"
    write_radiograph_dicom(path, film, DicomOptions(value_range=(0.0, 4095.0)))
    record = dataclasses.replace(
        record, radiograph=path.name, radiograph_sha256=pixels_sha256(read_radiograph(path).pixels)
    )
    files = RadiographFiles({(record.subject, path.name): path})
    rows = list(changes(blob_reader(), dataset, [record], perturbations("noise"), files=files))
    assert {row["applied_to"] for row in rows} == {"radiograph as stored"}
    assert all(row["change_g_cm2"] != 0 for row in rows)
    other = dataclasses.replace(record, radiograph_sha256="0" * 64)
    with pytest.raises(BadManifest, match="not the radiograph"):
        list(changes(blob_reader(), dataset, [other], perturbations("noise"), files=files))
    with pytest.raises(BadManifest, match="no radiograph of pair"):
        list(changes(blob_reader(), dataset, [record], perturbations("noise"), files=RadiographFiles({})))


def test_wilson_by_hand_and_a_share_of_one_keeps_a_width():
    z2 = 1.959964**2
    assert wilson(1.0, 20) == (pytest.approx(20 / (20 + z2)), pytest.approx(1.0))
    found = share_within(np.array([0.01, -0.02, 0.05, 0.0]), ["a", "a", "b", "b"], Estimate(0.03, 0.02, 0.04))
    assert found.value == 0.75
    assert (found.low, found.high) == pytest.approx(wilson(0.75, 2))


def test_the_pose_sweep_is_about_each_hips_mean(hip_dataset, blob_reader):
    dataset = read_dataset(hip_dataset)
    predicted = {r.pair_id: 0.8 + 0.01 * int(r.pair_id[-1]) for r in dataset.of_split("test")}
    rows = list(sweep_rows(("pose",), blob_reader(), dataset, split="test", predicted_g_cm2=predicted))
    assert len(rows) == 48
    assert {row["name"]: round(row["change_g_cm2"], 6) for row in rows} == {"pose 1": -0.005, "pose 2": 0.005}
    single = dataclasses.replace(dataset, records=first_images(dataset.records))
    with pytest.raises(BadManifest, match="no hip was seen more than once"):
        list(sweep_rows(("pose",), blob_reader(), single, split="test", predicted_g_cm2=predicted))


def test_a_nominal_line_against_the_integral_along_rays(hip_dataset, tmp_path):
    """Two rays through voxels of known HU: areal BMD by each line added up, against the formula from qc.csv."""
    dataset = dataclasses.replace(read_dataset(hip_dataset), folder=tmp_path)
    hu = np.array([[300.0, 500.0, 200.0], [100.0, 350.0, 0.0]])
    step_cm = 0.4
    lines = {"train": (0.8, -5.0), "test": (0.9, 10.0)}

    def row(record):
        slope, intercept = lines["test" if record.split == "test" else "train"]
        density = slope * hu[:, : 3 if record.side == "left" else 2] + intercept
        areal = float(np.mean(np.sum(1e-3 * density * step_cm, axis=1)))
        facts = {"bmd_qct_g_cm2": areal, "vbmd_mg_cm3": density.mean(), "slope": slope, "intercept": intercept}
        return {"pair_id": record.pair_id, **facts}

    rows = [row(record) for record in dataset.records]
    write_table(tmp_path / "qc.csv", list(rows[0]), rows)
    found = list(uncalibrated(dataset, dataset.of_split("test")))
    for change, record in zip(found, dataset.of_split("test"), strict=True):
        part = hu[:, : 3 if record.side == "left" else 2]
        expected = float(np.mean(np.sum(1e-3 * (0.8 * part - 5.0) * step_cm, axis=1)))
        assert change["bmd_changed_g_cm2"] == pytest.approx(expected)
    assert {row["applied_to"] for row in found} == {"reference BMD by QCT"}
