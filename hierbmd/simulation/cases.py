"""What a study simulates radiographs of: a virtual patient, or a body made from a real CT (`real_case`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hierbmd.data.calibration import Calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.rigid import Vector
from hierbmd.simulation.morphometry import SIDES
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

BONES = ("femur_left", "femur_right", "hip_left", "hip_right")
"""The bones whose truth a study records."""


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
