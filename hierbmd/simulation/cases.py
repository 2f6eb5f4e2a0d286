"""What a study simulates radiographs of: virtual patients, or one real CT with its bones made denser or thinner."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.anatomy.femur import femoral_head
from hierbmd.anatomy.shape import box_of, subgrid
from hierbmd.data.calibration import Calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import HierbmdError, LabelsMismatch
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.rigid import Vector
from hierbmd.simulation.basis import METAL_HU, nodes
from hierbmd.simulation.morphometry import SIDES
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import NOMINAL_SLOPE, virtual_patient
from hierbmd.units import density_mg_cm3_from_hu

BONES = ("femur_left", "femur_right", "hip_left", "hip_right")
"""The bones whose truth a study records."""

_SCALE_SD = 0.18


@dataclass(frozen=True)
class Case:
    """One subject to be simulated.

    `scan` is the CT that is written, `body` what radiographs are made of (the scan without its noise, where that is
    known), `density` the truth in mg/cm3. `facts` go into truth.json, `person` into the manifest.
    """

    subject: str
    scan: Volume
    body: Volume
    labels: LabelMap
    density: Volume
    calibration: Calibration
    hip_centres_world_mm: dict[str, Vector]
    person: dict[str, Any]
    facts: dict[str, Any]
    aims_world_mm: dict[str, Vector] = field(default_factory=dict)


def virtual_case(index: int, options: PatientOptions) -> Case:
    """A virtual patient as a case."""
    patient = virtual_patient(index, options)
    person = {
        "age": patient.age,
        "sex": patient.sex,
        "height_cm": patient.height_cm,
        "weight_kg": patient.weight_kg,
    }
    metal = [f"femur_{side}" for side, kind in zip(SIDES, patient.anatomy.implants, strict=True) if kind != "none"]
    return Case(
        subject=patient.subject,
        scan=patient.volume,
        body=patient.body,
        labels=patient.labels,
        density=patient.density,
        calibration=patient.calibration,
        hip_centres_world_mm=patient.hip_centres_world_mm,
        person=person,
        facts={"kind": "virtual patient", "anatomy": asdict(patient.anatomy), "metal_in": metal, "fractures": "none"},
        aims_world_mm=patient.aims_world_mm,
    )


def real_case(index: int, ct: Path, labels: Path, *, seed: int) -> Case:
    """A real CT with the density of its bones scaled by a drawn factor; the calibration is nominal and says so.

    Number 0 is the CT as it is. Within the bones' labels what lies above soft tissue is scaled, so that partial volume
    at edges stays right; metal is left alone. LabelsMismatch when the label map has none of the hip's bones.
    """
    volume = read_volume(ct)
    label_map = read_labels(labels, onto=volume.grid)
    present = [name for name in BONES if name in label_map.names_present]
    if not present:
        raise LabelsMismatch("no bone of the hip in the label map", where=labels, mend="names: " + ", ".join(BONES))
    rng = np.random.default_rng([seed, index])
    factor = 1.0 if index == 0 else float(np.exp(np.clip(rng.normal(0.0, _SCALE_SD), -0.5, 0.5)))
    scaled = with_scaled_bones(volume, label_map, present, factor)
    line = Calibration(round(NOMINAL_SLOPE, 4), 0.0, method="given")
    density = density_mg_cm3_from_hu(scaled.values, slope=line.slope, intercept=line.intercept)
    metal = volume.values >= METAL_HU
    bone = np.isin(label_map.ids, [label_map.id_of(name) for name in present])
    truth = np.where(bone & ~metal, density, 0.0).astype(np.float32)
    facts = {
        "kind": "real CT, density scaled",
        "ct": ct.name,
        "density_factor": round(factor, 6),
        "calibration": "nominal",
        "metal_in": [name for name in present if np.any(metal & label_map.mask(name))],
    }
    return Case(
        subject=f"ct{seed:03d}-{index:05d}",
        scan=scaled,
        body=scaled,
        labels=label_map,
        density=Volume(truth, volume.grid, "mg/cm3 HA"),
        calibration=line,
        hip_centres_world_mm=_hip_centres(label_map),
        person={},
        facts=facts,
    )


def with_scaled_bones(volume: Volume, labels: LabelMap, names: list[str], factor: float) -> Volume:
    """The CT with what its bones hold above soft tissue scaled by `factor`; voxels of metal keep their values."""
    soft_hu = nodes()[1]
    bone = np.isin(labels.ids, [labels.id_of(name) for name in names])
    hu = volume.values
    scaled = np.where(hu > soft_hu, np.minimum(soft_hu + factor * (hu - soft_hu), METAL_HU - 1.0), hu)
    return Volume(np.where(bone & (hu < METAL_HU), scaled, hu).astype(np.float32), volume.grid, volume.unit)


def _hip_centres(labels: LabelMap) -> dict[str, Vector]:
    """The centre of each femoral head that can be found; a femur without one is not moved."""
    centres = {}
    for side in ("left", "right"):
        name = f"femur_{side}"
        if name not in labels.names_present:
            continue
        mask = labels.mask(name)
        box = box_of(mask)
        try:
            centres[side] = femoral_head(mask[box], subgrid(labels.grid, box)).centre_world_mm
        except HierbmdError:
            continue
    return centres
