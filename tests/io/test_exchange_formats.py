"""Geometry in other programs' words: round trips, and refusals of what a format cannot say or a file does not hold."""

from __future__ import annotations

import dataclasses
import shlex

import numpy as np
import pytest

from hierbmd.errors import BadConfig, GeometryMissing, NotRigid, SuspectedUnit
from hierbmd.geometry import Beam, Camera, Motion, Placement, View
from hierbmd.io import exchange_dicom, exchange_diffdrr, exchange_matrix, exchange_nanodrr, exchange_plastimatch
from hierbmd.rigid import transform_points

CAMERA = Camera(1040.0, (24, 17), (0.9, 1.1), (10.2, 9.7))
CENTRE = np.array([10.0, -20.0, 30.0])
POSES = [Placement(view, CENTRE, 800.0).camera_from_world(Motion(10, -20, 30, 1, 2, 3)) for view in View]


def assert_same(found, camera, pose):
    np.testing.assert_allclose(found[0].pixel_mm, camera.pixel_mm, rtol=1e-9)
    np.testing.assert_allclose(found[0].centre_px, camera.centre_px, rtol=1e-9)
    assert found[0].sdd_mm == pytest.approx(camera.sdd_mm, rel=1e-12)
    assert (found[0].size_px, found[0].beam) == (camera.size_px, camera.beam)
    np.testing.assert_allclose(found[1], pose, atol=1e-8)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("scale", [1.0, -3.7e-4])
def test_projection_matrix(pose, scale):
    matrix = scale * exchange_matrix.matrix_from_geometry(CAMERA, pose)
    again = exchange_matrix.matrix_from_text(exchange_matrix.matrix_text(matrix))
    assert np.array_equal(again, matrix)
    assert_same(exchange_matrix.geometry_from_matrix(again, CAMERA.size_px, sdd_mm=1040.0), CAMERA, pose)
    point = np.array([15.0, 2.0, -7.0])
    projected = matrix @ [*point, 1.0]
    np.testing.assert_allclose(projected[:2] / projected[2], CAMERA.pixels_from_camera(transform_points(pose, point)))


def test_projection_matrix_that_is_none_is_refused():
    matrix = exchange_matrix.matrix_from_geometry(CAMERA, POSES[0])
    for bad in (matrix[:, :3], np.zeros((3, 4)), matrix * np.nan):
        with pytest.raises(NotRigid, match="not a projection matrix"):
            exchange_matrix.geometry_from_matrix(bad, CAMERA.size_px, sdd_mm=1040.0)
    skew = np.eye(3)
    skew[0, 1] = 0.1
    with pytest.raises(NotRigid, match="skewed"):
        exchange_matrix.geometry_from_matrix(skew @ matrix, CAMERA.size_px, sdd_mm=1040.0)
    with pytest.raises(SuspectedUnit, match="metres"):
        exchange_matrix.geometry_from_matrix(matrix, CAMERA.size_px, sdd_mm=1.04)
    for text in ("1 2 3", "1 " * 13, "a " * 12):
        with pytest.raises(NotRigid, match=r"three lines of four numbers"):
            exchange_matrix.matrix_from_text(text)


def test_a_matrix_may_be_written_with_brackets_and_commas():
    text = "[[1, 2, 3, 4],\n [5, 6, 7, 8],\n [9, 10, 11, 12]]"
    assert np.array_equal(exchange_matrix.matrix_from_text(text), np.arange(1.0, 13).reshape(3, 4))


def test_dicom():
    centred = dataclasses.replace(CAMERA, principal_px=None)
    tags = exchange_dicom.dicom_from_camera(centred, source_isocentre_mm=800.0)
    # Row spacing, between rows, comes first.
    assert tags["ImagerPixelSpacing"] == [1.1, 0.9]
    assert (tags["Rows"], tags["Columns"], tags["DistanceSourceToPatient"]) == (17, 24, 800.0)
    assert exchange_dicom.camera_from_dicom(tags) == centred
    with pytest.raises(GeometryMissing, match="principal point"):
        exchange_dicom.dicom_from_camera(CAMERA)
    with pytest.raises(GeometryMissing, match="no DistanceSourceToDetector"):
        exchange_dicom.camera_from_dicom({k: v for k, v in tags.items() if k != "DistanceSourceToDetector"})
    with pytest.raises(GeometryMissing, match="ImagerPixelSpacing is not 2 finite numbers"):
        exchange_dicom.camera_from_dicom(tags | {"ImagerPixelSpacing": [1.0]})
    with pytest.raises(GeometryMissing, match="no image size"):
        exchange_dicom.camera_from_dicom(tags | {"Rows": 0})
    with pytest.raises(SuspectedUnit):
        exchange_dicom.camera_from_dicom(tags | {"DistanceSourceToDetector": 1.04})


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("beam", [Beam.CONE, Beam.PARALLEL])
def test_nanodrr(pose, beam):
    camera = dataclasses.replace(CAMERA, beam=beam)
    given = exchange_nanodrr.nanodrr_json(exchange_nanodrr.nanodrr_from_geometry(camera, pose))
    again = exchange_nanodrr.nanodrr_from_json(given)
    assert_same(exchange_nanodrr.geometry_from_nanodrr(again), camera, pose)


def test_nanodrr_that_is_none_is_refused():
    given = exchange_nanodrr.nanodrr_json(exchange_nanodrr.nanodrr_from_geometry(CAMERA, POSES[0]))
    with pytest.raises(GeometryMissing, match=r"rt_inv is not 4x4 finite numbers: g\.json"):
        exchange_nanodrr.nanodrr_from_json(given | {"rt_inv": given["k_inv"]}, "g.json")
    with pytest.raises(GeometryMissing, match="sdd is not a finite number"):
        exchange_nanodrr.nanodrr_from_json({key: value for key, value in given.items() if key != "sdd"})
    with pytest.raises(BadConfig, match="k_inv is no inverse"):
        exchange_nanodrr.nanodrr_from_json(given | {"k_inv": np.ones((3, 3)).tolist()})


@pytest.mark.parametrize("pose", POSES)
def test_diffdrr(pose):
    given = exchange_diffdrr.diffdrr_json(exchange_diffdrr.diffdrr_from_geometry(CAMERA, pose, CENTRE))
    again = exchange_diffdrr.diffdrr_from_json(given)
    assert_same(exchange_diffdrr.geometry_from_diffdrr(again, CENTRE), CAMERA, pose)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("source_isocentre_mm", [None, 812.5])
def test_plastimatch(pose, source_isocentre_mm):
    isocentre = {"source_isocentre_mm": source_isocentre_mm}
    given = exchange_plastimatch.plastimatch_from_geometry(CAMERA, pose, **isocentre)
    assert_same(exchange_plastimatch.geometry_from_plastimatch(given), CAMERA, pose)
    command = "plastimatch drr -t pfm " + shlex.join(given.arguments()) + " -P none -I ct.mha -O drr_"
    again = exchange_plastimatch.plastimatch_from_command(command)
    assert again == given
    text = exchange_plastimatch.plastimatch_text(CAMERA, pose, **isocentre)
    assert_same(exchange_plastimatch.geometry_from_plastimatch_text(text, CAMERA.size_px), CAMERA, pose)


def test_plastimatch_command_has_short_names_and_the_programs_defaults():
    given = exchange_plastimatch.plastimatch_from_command("-n '0 -2 0' -r '40 30' -z '80 90' --sid=1200")
    assert (given.vup, given.isocentre, given.sad, given.sid) == ((0, 0, 1), (0, 0, 0), 1000.0, 1200.0)
    camera, pose = exchange_plastimatch.geometry_from_plastimatch(given)
    assert camera == Camera(1200.0, (40, 30), (2.0, 3.0))
    # Its detector is behind a patient who faces the source: our AP.
    np.testing.assert_allclose(pose, Placement(View.AP, np.zeros(3), 1000.0).camera_from_world(), atol=1e-12)


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        ("--gantry-angle 30 -r '4 4' -z '8 8'", GeometryMissing, "no --nrm"),
        ("--nrm '0 -1 0'", GeometryMissing, "no --dim, --detector-size"),
        ("--nrm 0 -1 0 -r '4 4' -z '8 8'", BadConfig, "not 3 finite numbers: '0'"),
        ("--nrm '0 -1 x' -r '4 4' -z '8 8'", BadConfig, "not 3 finite numbers"),
        ("--nrm '0 0 1' -r '4 4' -z '8 8'", NotRigid, "vup may not lie along nrm"),
        ("--nrm '0 -1 0' -r '0 4' -z '8 8'", GeometryMissing, "no image size"),
        ("--nrm '0 -1 0' -r '4 4' -z '8 8' --sid 1.5", SuspectedUnit, "metres"),
        ("--nrm '0 -1 0", BadConfig, "not a command line"),
    ],
)
def test_plastimatch_commands_that_are_refused(command, error, text):
    with pytest.raises(error, match=text):
        exchange_plastimatch.geometry_from_plastimatch(exchange_plastimatch.plastimatch_from_command(command))


@pytest.mark.parametrize("text", ["", "1 2 3", "a b", "1 " * 18 + "nan"])
def test_a_text_that_is_none_of_plastimatchs_is_refused(text):
    with pytest.raises(BadConfig, match="not a geometry file of plastimatch"):
        exchange_plastimatch.geometry_from_plastimatch_text(text, (4, 4))


@pytest.mark.parametrize("beam", [Beam.PARALLEL, Beam.SLOT])
def test_beams_that_a_format_cannot_say_are_refused(beam):
    camera = dataclasses.replace(CAMERA, beam=beam, principal_px=None)
    refused = [
        lambda: exchange_dicom.dicom_from_camera(camera),
        lambda: exchange_diffdrr.diffdrr_from_geometry(camera, POSES[0], CENTRE),
        lambda: exchange_plastimatch.plastimatch_from_geometry(camera, POSES[0]),
        lambda: exchange_plastimatch.plastimatch_text(camera, POSES[0]),
    ]
    if beam is Beam.SLOT:
        refused.append(lambda: exchange_nanodrr.nanodrr_from_geometry(camera, POSES[0]))
    for write in refused:
        with pytest.raises(BadConfig, match=f"cannot say a {beam.value} beam"):
            write()
    with pytest.raises(GeometryMissing, match=f"a {beam.value} beam has no matrix"):
        exchange_matrix.matrix_from_geometry(camera, POSES[0])
