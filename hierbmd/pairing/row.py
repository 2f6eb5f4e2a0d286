"""One row of a manifest: its files read, its pairs made and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hierbmd.calibration.source import calibration_from
from hierbmd.data.halves import sides_shown
from hierbmd.data.manifest import ManifestRow
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import LabelsMismatch, Uncalibrated
from hierbmd.geometry import Placement, ProjectionGeometry, Side
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.io.radiograph import read_wanted_side
from hierbmd.pairing.files import quality_of, record_of, write_made_pair
from hierbmd.pairing.jitter import jittered
from hierbmd.pairing.make import Patient, Registrar, make_pairs
from hierbmd.pairing.options import JitterOptions, RowOptions
from hierbmd.pairing.review import Seen, write_review
from hierbmd.registration.patient import register_bones
from hierbmd.registration.start import start_geometry


def make_row(
    row: ManifestRow, key: str, out: Path, options: RowOptions | None = None, *, registrar: Registrar | None = None
) -> dict[str, Any]:
    """Read a row's files, make its pairs and write their images; what the tables need comes back as plain values."""
    options = options or RowOptions()
    patient = _read_patient(row, options)
    radiograph = _read_radiograph(row, options)
    sides = [side for side in sides_shown(radiograph) if row.side in (None, Side.BOTH, Side.NONE, side)]
    start = _start(row, patient, radiograph, sides)
    given = make_pairs(
        patient, radiograph, start, sides, options=options.pairing, registrar=registrar or register_bones
    )
    jitter = options.jitter if row.split == "train" else JitterOptions()
    more = jittered(patient, given.made, jitter, name=key)
    made = [(f"{key}_{one.hip.side}", one, pixels_sha256(radiograph.pixels)) for one in given.made]
    made += [
        (f"{key}_{one.hip.side}_j{number}", one, pixels_sha256(one.images.radiograph)) for number, one in more.made
    ]
    pairs = []
    for place, (pair_id, one, sha256) in enumerate(made):
        record = record_of(one, radiograph, pair_id=pair_id, subject=row.subject, sha256=sha256)
        record = dataclasses.replace(record, synthetic=place >= len(given.made))
        write_made_pair(out, record, one)
        facts = {"record": dataclasses.asdict(record), "quality": quality_of(one, patient.calibration)}
        pairs.append({"pair_id": pair_id, "material": patient.calibration.material.value, **facts})
    seen = Seen(patient, radiograph, start.camera, given.found, options.pairing.registration)
    reviews = [write_review(out, f"{key}_{side}", side, seen) for side in sides if f"femur_{side}" in given.found]
    refused = [dataclasses.asdict(one) for one in (*given.refused, *more.refused)]
    return {"pairs": pairs, "refusals": refused, "reviews": reviews}


def _read_patient(row: ManifestRow, options: RowOptions) -> Patient:
    source = row.calibration or row.phantom
    if not source and options.calibration is None:
        raise Uncalibrated("uncalibrated: no calibration for this CT", mend="a calibration column, or --slope")
    if row.labels is None:
        raise LabelsMismatch("no label map for this CT", mend="give one in the labels column")
    volume = read_volume(row.ct, resample_tilt=options.resample_tilt)
    calibration = calibration_from(source, volume) if source else options.calibration
    assert calibration is not None
    return Patient(volume, read_labels(row.labels, scheme=options.scheme, onto=volume.grid), calibration)


def _read_radiograph(row: ManifestRow, options: RowOptions) -> Radiograph:
    """The radiograph, with the manifest's view and side as what the file does not say; contradictions are refused."""
    said = options.radiograph
    said = dataclasses.replace(said, view=row.view or said.view, side=row.side or said.side)
    return read_wanted_side(row.radiograph, said)


def _start(row: ManifestRow, patient: Patient, radiograph: Radiograph, sides: Sequence[Side]) -> ProjectionGeometry:
    bones = [f"femur_{side}" for side in sides] + [f"hip_{side}" for side in sides]
    # One side without labels is that side's refusal, later; the start is set by the bones that are there.
    start = start_geometry(radiograph, patient.labels, [b for b in bones if b in patient.labels.names_present] or bones)
    if row.pose is None:
        return start
    distance_mm = radiograph.source_isocentre_mm
    assert distance_mm is not None, "start_geometry refuses a radiograph without it"
    placement = Placement(start.view, patient.volume.grid.centre_world_mm, distance_mm)
    return dataclasses.replace(start, camera_from_world=placement.camera_from_world(row.pose))
