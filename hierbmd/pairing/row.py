"""One row of a manifest: its files read, its pairs made and written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hierbmd.anatomy.hip import measure_hip
from hierbmd.calibration.source import calibration_from
from hierbmd.data.halves import BODY_SIDES, sides_shown
from hierbmd.data.manifest import ManifestRow
from hierbmd.data.pairs import HIP_OF_SCAN
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.site import site_of
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import HierbmdError, Uncalibrated
from hierbmd.geometry import Placement, ProjectionGeometry, Side
from hierbmd.io.ct import read_volume
from hierbmd.io.radiograph import read_wanted_side
from hierbmd.pairing.files import quality_of, record_of, write_made_pair
from hierbmd.pairing.jitter import jittered
from hierbmd.pairing.labels import row_labels
from hierbmd.pairing.make import Patient, Registrar, make_pairs
from hierbmd.pairing.options import JitterOptions, RowOptions
from hierbmd.pairing.quality import write_quality
from hierbmd.pairing.review import Seen, write_review
from hierbmd.registration.patient import register_bones
from hierbmd.registration.start import start_geometry

_LOG = logging.getLogger(__name__)


def make_row(
    row: ManifestRow, key: str, out: Path, options: RowOptions | None = None, *, registrar: Registrar | None = None
) -> dict[str, Any]:
    """Read a row's files, make its pairs and write their images; what the tables need comes back as plain values."""
    options = options or RowOptions()
    patient, labels_from = _read_patient(row, options, out)
    radiograph = _read_radiograph(row, options)
    site = site_of(options.pairing.region.region)
    sides = [side for side in sides_shown(radiograph, site) if row.side in (None, Side.BOTH, Side.NONE, side)]
    start = _start(row, patient, radiograph, [site.label(bone, side) for bone in site.bones[::-1] for side in sides])
    given = make_pairs(
        patient, radiograph, start, sides, options=options.pairing, registrar=registrar or register_bones
    )
    jitter = options.jitter if row.split == "train" else JitterOptions()
    more = jittered(patient, given.made, jitter, name=key)
    made = [(_pair_id(key, one.measured.side), one, pixels_sha256(radiograph.pixels)) for one in given.made]
    made += [
        (f"{_pair_id(key, one.measured.side)}_j{number}", one, pixels_sha256(one.images.radiograph))
        for number, one in more.made
    ]
    extra = {} if site.paired or not made else _hips_of_scan(patient)
    pairs = []
    for place, (pair_id, one, sha256) in enumerate(made):
        record = record_of(one, radiograph, pair_id=pair_id, subject=row.subject, sha256=sha256)
        source = patient.calibration.qct_source
        record = dataclasses.replace(record, bmd_source=source, synthetic=place >= len(given.made), extra=extra)
        write_made_pair(out, record, one)
        facts = {"record": dataclasses.asdict(record), "quality": quality_of(one, patient.calibration) | labels_from}
        pairs.append({"pair_id": pair_id, "material": patient.calibration.material.value, **facts})
    seen = Seen(site, patient, radiograph, start.camera, given.found, options.pairing.registration)
    shown = [side for side in sides if site.label(site.bones[-1], side) in given.found]
    reviews = [write_review(out, _pair_id(key, side), side, seen) for side in shown]
    refused = [dataclasses.asdict(one) for one in (*given.refused, *more.refused)]
    quality = write_quality(out, key, patient, given.measured, target=options.pairing.region.region)
    return {"pairs": pairs, "refusals": refused, "reviews": reviews, "quality": {**quality, "labels": labels_from}}


def _pair_id(key: str, side: Side) -> str:
    return f"{key}_spine" if side == Side.NONE else f"{key}_{side}"


def _hips_of_scan(patient: Patient) -> dict[str, str]:
    """The total-hip BMD of a lumbar pair's own CT, of each side that it holds whole: what lies out of the image."""
    found = {}
    for side in BODY_SIDES:
        try:
            hip = measure_hip(patient.volume, patient.labels, side, patient.calibration)
        except HierbmdError as error:
            _LOG.info("no total hip, %s, from this CT: %s", side, error)
            continue
        if not hip.has_metal:
            found[HIP_OF_SCAN[side]] = f"{hip.bmd.bmd_g_cm2:.5f}"
    return found


def _read_patient(row: ManifestRow, options: RowOptions, out: Path) -> tuple[Patient, dict[str, Any]]:
    """The CT with its labels and line to density, and where the labels come from."""
    source = row.calibration or row.phantom
    if not source and options.calibration is None:
        raise Uncalibrated("uncalibrated: no calibration for this CT", mend="a calibration column, or --slope")
    volume = read_volume(row.ct, resample_tilt=options.resample_tilt)
    labels, labels_from = row_labels(row, volume, options, out)
    calibration = calibration_from(source, volume, labels, ct=row.ct) if source else options.calibration
    assert calibration is not None
    return Patient(volume, labels, calibration), labels_from


def _read_radiograph(row: ManifestRow, options: RowOptions) -> Radiograph:
    """The radiograph, with the manifest's view and side as what the file does not say; contradictions are refused."""
    said = options.radiograph
    said = dataclasses.replace(said, view=row.view or said.view, side=row.side or said.side)
    return read_wanted_side(row.radiograph, said)


def _start(row: ManifestRow, patient: Patient, radiograph: Radiograph, bones: Sequence[str]) -> ProjectionGeometry:
    # One side without labels is that side's refusal, later; the start is set by the bones that are there.
    start = start_geometry(radiograph, patient.labels, [b for b in bones if b in patient.labels.names_present] or bones)
    if row.pose is None:
        return start
    distance_mm = radiograph.source_isocentre_mm
    assert distance_mm is not None, "start_geometry refuses a radiograph without it"
    placement = Placement(start.view, patient.volume.grid.centre_world_mm, distance_mm)
    return dataclasses.replace(start, camera_from_world=placement.camera_from_world(row.pose))
