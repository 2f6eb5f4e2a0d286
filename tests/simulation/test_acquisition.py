"""The effects of a realistic radiograph: each alone, each off, each from its own random numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pydicom
import pytest

from hierbmd.errors import BadConfig
from hierbmd.geometry import Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.dicom_write import DicomOptions
from hierbmd.io.radiograph import read_radiograph
from hierbmd.physics.collimator import Field
from hierbmd.simulation.acquisition import draw_acquisition
from hierbmd.simulation.display import DisplayCurve, displayed
from hierbmd.simulation.exposure import chambers_of
from hierbmd.simulation.multiscale import Multiscale
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.radiograph import expose, materials_of, simulate_radiograph
from hierbmd.simulation.storage import field_vertices, write_simulated

EFFECTS = ("heel", "exposure", "collimation", "marker", "response", "multiscale")
REALISTIC = RadiographSimulationOptions(realism="realistic", table=False, step_mm=3.0)
BARE = RadiographSimulationOptions(
    monoenergetic_kev=70.0, scatter=False, noise=False, display=False, focal_spot_mm=0.0, screen_mm=0.0, table=False
)


def _raw(patient, geometry, *, seed=1, **options):
    return simulate_radiograph(
        patient.body, None, geometry, options=dataclasses.replace(BARE, **options), seed=seed
    ).pixels


def test_plain_is_realistic_with_all_of_it_off(patient, small_geometry):
    off = dict.fromkeys(EFFECTS, False)
    same = dataclasses.replace(REALISTIC, **off, scatter=False, bits=12, photometric="MONOCHROME2", compression="none")
    plain = dataclasses.replace(same, realism="plain")
    one, other = (simulate_radiograph(patient.body, None, small_geometry, options=o, seed=3) for o in (plain, same))
    assert one.pixels.tobytes() == other.pixels.tobytes()


@pytest.mark.parametrize("effect", [*EFFECTS, "scatter", "grid", "noise"])
def test_one_effect_off_leaves_what_is_drawn_of_the_others(small_geometry, effect):
    whole = dataclasses.asdict(draw_acquisition(REALISTIC, small_geometry, 5))
    without = dataclasses.asdict(draw_acquisition(dataclasses.replace(REALISTIC, **{effect: False}), small_geometry, 5))
    own = {
        "heel": {"tube"},
        "exposure": {"deviation_db"},
        "collimation": {"field", "shutter", "marker"},
        "marker": {"marker"},
        "response": {"panel"},
        "multiscale": {"multiscale"},
        "grid": {"grid"},
    }
    assert {name for name in whole if whole[name] != without[name]} == own.get(effect, set())


@pytest.mark.parametrize("effect", [*EFFECTS, "scatter_kernel"])
def test_each_effect_alone_shows_and_repeats(patient, small_geometry, effect):
    plain = RadiographSimulationOptions(table=False, step_mm=3.0)
    alone = dataclasses.replace(plain, **{effect: "transport" if effect == "scatter_kernel" else True})
    first, again, without = (
        simulate_radiograph(patient.body, None, small_geometry, options=o, seed=2).pixels for o in (alone, alone, plain)
    )
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, without)


def test_images_of_one_unit_share_what_the_unit_keeps(small_geometry):
    site = dataclasses.replace(REALISTIC, site=4)
    one, other = (draw_acquisition(site, small_geometry, seed) for seed in (1, 2))
    for name in ("tube", "grid", "panel", "multiscale", "storage", "shutter"):
        assert getattr(one, name) == getattr(other, name)
    assert one.field != other.field
    assert one.deviation_db != other.deviation_db
    units = [draw_acquisition(dataclasses.replace(REALISTIC, site=n), small_geometry, 1) for n in range(40)]
    assert len({u.storage.bits for u in units}) == 3
    assert len({u.storage.compression for u in units}) == 4
    assert {u.tube.anode_deg for u in units} == {12, 16}


def test_the_heel_effect_lies_along_the_tube_and_a_flat_field_from_here_leaves_what_the_patient_changes(
    patient, small_geometry
):
    clean = _raw(patient, small_geometry)
    for seed in range(12):
        tube = draw_acquisition(dataclasses.replace(BARE, heel=True), small_geometry, seed).tube
        if tube.flat_field_mm is None and tube.anode_deg == 12:
            break
    lost = _raw(patient, small_geometry, seed=seed, heel=True) - clean
    cathode = {"up": lost[:8], "down": lost[-8:], "left": lost[:, :8], "right": lost[:, -8:]}
    anode = {"up": "down", "down": "up", "left": "right", "right": "left"}[tube.cathode]
    assert cathode[anode].mean() > cathode[tube.cathode].mean() + 0.1
    assert abs(lost[48, 48]) < 0.01
    for other in range(40):
        here = draw_acquisition(dataclasses.replace(BARE, heel=True), small_geometry, other).tube
        if here.flat_field_mm == 1150.0:
            break
    corrected = _raw(patient, small_geometry, seed=other, heel=True) - clean
    assert np.abs(corrected).max() < 0.4 * np.abs(lost).max()
    assert corrected[clean < 1e-6] == pytest.approx(0.0, abs=1e-5)


def test_a_smaller_field_scatters_less_and_is_dark_outside(patient, small_geometry):
    """At the same beam the middle of a collimated image holds less scatter: its log is higher."""
    scattered = {"scatter": True, "grid": False, "scatter_kernel": "transport", "monoenergetic_kev": None, "kvp": 80.0}
    whole = _raw(patient, small_geometry, **scattered)
    coned = _raw(patient, small_geometry, collimation=True, **scattered)
    options = dataclasses.replace(BARE, collimation=True, **scattered)
    field = draw_acquisition(options, small_geometry, 1).field
    inside = field.contains(small_geometry.camera, 15.0)
    outside = ~field.contains(small_geometry.camera, -8.0)
    assert outside.any()
    assert np.all(coned[inside] >= whole[inside] - 0.02)
    assert np.median(coned[outside] - whole[outside]) > 0.5
    primary, coned_primary = _raw(patient, small_geometry), _raw(patient, small_geometry, collimation=True)
    assert coned_primary[inside] == pytest.approx(primary[inside], abs=1e-5)


def test_over_and_underexposure_change_the_noise_not_the_image(patient, small_geometry):
    noisy = {"noise": True, "monoenergetic_kev": None, "kvp": 80.0, "dose_ugy": 2.0}
    clean = _raw(patient, small_geometry, **{**noisy, "noise": False})
    spread, index = [], []
    for seed in (1, 2, 3, 4, 5, 6):
        options = dataclasses.replace(BARE, exposure=True, **noisy)
        index.append(draw_acquisition(options, small_geometry, seed).deviation_db)
        image = _raw(patient, small_geometry, seed=seed, exposure=True, **noisy)[30:66, 20:76] - clean[30:66, 20:76]
        assert abs(np.median(image)) < 0.01
        spread.append(np.log10(np.var(image)))
    assert np.ptp(index) > 2.0
    assert np.polyfit(index, spread, 1)[0] == pytest.approx(-0.1, abs=0.03)


def test_the_open_beam_saturates_the_panel(patient, small_geometry):
    """Where air lets more through than an element holds it reads full, and the patient's shadow is left alone."""
    clean = _raw(patient, small_geometry)
    full = _raw(patient, small_geometry, response=True, dose_ugy=20.0)
    air = full[clean < 0.01]
    assert np.median(air) == pytest.approx(-np.log(60.0 / 20.0 * np.exp(-clean[clean > -np.log(0.6)]).mean()), abs=0.02)
    assert np.median(air) > 0.5
    thick = clean > 3.0
    assert np.median(full[thick] - clean[thick]) == pytest.approx(0.0, abs=0.02)


def test_automatic_exposure_reads_its_chambers(patient, small_geometry):
    """Behind the chambers, not on average of the patient, lies the dose that was asked for, times the deviation."""
    options = dataclasses.replace(BARE, exposure=True, response=True, dose_ugy=3.0)
    drawn = draw_acquisition(options, small_geometry, 1)
    image = _raw(patient, small_geometry, seed=1, exposure=True, response=True, dose_ugy=3.0)
    clean = _raw(patient, small_geometry)
    chambers = chambers_of(small_geometry.camera)
    assert 0.005 < chambers.mean() < 0.1
    dose_ugy = 3.0 * 10 ** (drawn.deviation_db / 10)
    expected = -np.log(60.0 / dose_ugy * np.exp(-clean[chambers]).mean())
    assert np.median(image[clean < 0.01]) == pytest.approx(expected, abs=0.03)


def test_the_collimators_edge_is_no_structure_of_the_display():
    """Beside a field the values inside are those of the whole image's processing, to the edge."""
    rng = np.random.default_rng(0)
    absorbed = (2.0 + 0.2 * rng.standard_normal((96, 96))).astype(np.float32)
    field = np.zeros(absorbed.shape, bool)
    field[10:80, 12:90] = True
    coned = np.where(field, absorbed, np.float32(7.0))
    curve = DisplayCurve(multiscale=Multiscale())
    whole = displayed(absorbed, field, (1.0, 1.0), curve)
    inside = displayed(coned, field, (1.0, 1.0), curve, field=field)
    assert inside[~field].min() == 4095.0
    middle = (slice(25, 65), slice(27, 75))
    assert np.abs(inside[middle] - whole[middle]).mean() < 60
    assert np.abs(inside[field] - whole[field]).mean() < 120


@pytest.fixture(scope="module")
def written(patient, tmp_path_factory):
    """Realistic radiographs of some seeds, written: (path, radiograph, geometry, options, seed, record)."""
    pose = Placement(View.AP, patient.body.grid.centre_world_mm, 1000.0).camera_from_world(Motion())
    from hierbmd.geometry import Camera

    geometry = ProjectionGeometry(Camera(1150.0, (72, 80), (5.4, 5.0)), pose, View.AP, Side.BOTH)
    basis = materials_of(patient.body, REALISTIC)
    folder, found = tmp_path_factory.mktemp("written"), []
    for seed in range(12):
        radiograph = expose(basis, geometry, options=REALISTIC, seed=seed)
        path = folder / f"{seed}.dcm"
        dicom = DicomOptions(subject="s", uid_seed="7")
        record = write_simulated(path, radiograph, geometry, options=REALISTIC, seed=seed, dicom=dicom)
        found.append((path, radiograph, geometry, seed, record))
    return found


def test_files_read_back_as_what_was_stored(written):
    seen = set()
    for path, radiograph, _, _, record in written:
        storage = record["storage"]
        seen |= {storage["bits"], storage["photometric"], storage["compression"]}
        back = read_radiograph(path)
        assert (back.view, back.side, back.sdd_mm) == (View.AP, Side.BOTH, 1150.0)
        assert back.pixel_mm == pytest.approx((5.4, 5.0))
        error = np.abs(back.pixels - radiograph.pixels) / (2 ** storage["bits"] - 1)
        lossy = storage["compression"] in ("jpeg", "jpeg2000-lossy")
        assert error.mean() < (0.02 if lossy else 1e-6)
        assert np.corrcoef(back.pixels.ravel(), radiograph.pixels.ravel())[0, 1] > 0.99
    assert {8, 12, "MONOCHROME1", "MONOCHROME2"} <= seen
    assert len(seen & {"none", "jpeg2000", "jpeg2000-lossy", "jpeg"}) >= 3


def test_the_header_says_how_it_was_taken(written):
    for path, _, geometry, seed, record in written:
        dataset = pydicom.dcmread(path)
        drawn = draw_acquisition(REALISTIC, geometry, seed)
        assert f"{float(dataset.KVP):.0f} kVp"[:2] == record["beam"][:2] or 75 <= float(dataset.KVP) <= 90
        assert dataset.Grid == "FOCUSED"
        assert float(dataset.DeviationIndex) == pytest.approx(drawn.deviation_db, abs=0.02)
        assert dataset.CollimatorShape == "POLYGONAL"
        assert len(dataset.VerticesOfThePolygonalCollimator) == 8
        assert ("ShutterShape" in dataset) == drawn.shutter
        assert "Simulated" in dataset.ImageComments
        assert dataset.BurnedInAnnotation == "NO"
        lossy = drawn.storage.compression in ("jpeg", "jpeg2000-lossy")
        assert dataset.LossyImageCompression == ("01" if lossy else "00")
        assert ("LossyImageCompressionRatio" in dataset) == lossy


def test_outside_a_shutter_all_is_black(written):
    shuttered = [w for w in written if w[4]["shutter"] and w[4]["storage"]["compression"] in ("none", "jpeg2000")]
    assert shuttered
    for path, _, geometry, seed, record in shuttered:
        field = draw_acquisition(REALISTIC, geometry, seed).field
        outside = ~field.contains(geometry.camera)
        if record["marker"] is None or record["marker"]["kind"] == "lead":
            assert read_radiograph(path).pixels[outside].max() == 0.0


def test_vertices_are_the_corners_by_row_and_column_from_one(small_geometry):
    camera = small_geometry.camera
    field = Field((0.0, 0.0), (20.4 * 4.3, 10.4 * 4.3))
    assert field_vertices(field, camera) == ((43, 38), (43, 59), (54, 59), (54, 38))
    huge = field_vertices(Field((0.0, 0.0), (9e3, 9e3)), camera)
    assert huge == ((1, 1), (1, 96), (96, 96), (96, 1))


@pytest.mark.parametrize(
    "wrong",
    [{"compression": "jpeg", "bits": 12}, {"jpeg_quality": 101}, {"jpeg2000_ratio": 0.5}, {"bits": 7}],
)
def test_what_cannot_be_stored_is_refused(wrong):
    with pytest.raises(BadConfig):
        RadiographSimulationOptions(**wrong)
