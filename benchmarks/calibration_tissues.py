"""The calibration benchmark's virtual patients: calibrated by their phantom and by their own tissues."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from calibration_scans import options_of

from hierbmd.calibration.internal import calibrate_internally
from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import Volume
from hierbmd.errors import Uncalibrated
from hierbmd.io.labels import resample_labels
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient
from hierbmd.simulation.scanner import scan

INTERNAL, DENSITIES_MG_CM3 = "internal", (100, 400)
"""The trials' kind, and the densities at which lines are compared."""

Row = dict[str, Any]


def internal_trial(phantom: str, number: int, kind: str) -> Row:
    """A virtual patient on a phantom, calibrated by it and by its own tissues, without and with the voltage."""
    rng = np.random.default_rng([number, *kind.encode()])
    patient = virtual_patient(number, PatientOptions(spacing_mm=3.0, seed=11))
    drawn = options_of(phantom, rng, serial=number + 1)
    options = replace(drawn, pixel_mm=1.3, interval_mm=6.0, thickness_mm=6.0, fov_mm=480.0, fov_shift_mm=(0.0, 30.0))
    body = _with_own_tissues(patient.body, rng)
    found = scan(SimpleNamespace(body=body, density=patient.density), options, number)
    assert found.phantom is not None
    assert options.kvp is not None
    labels = resample_labels(patient.labels, found.volume.grid)
    row: Row = {"phantom": phantom, "number": number, "kind": kind, "kvp": options.kvp, "outcome": "calibrated"}
    ways = {
        "by phantom": lambda: calibrate_by_phantom(found.volume, found.phantom.phantom),
        "tissues": lambda: calibrate_internally(found.volume, labels),
        "tissues, voltage known": lambda: calibrate_internally(found.volume, labels, kvp=options.kvp),
    }
    true = found.lines[Material.HA]
    for name, way in ways.items():
        try:
            line = way()
        except Uncalibrated as error:
            row[name] = {"refused": str(error)}
            continue
        assert line.uncertainty is not None
        row[name] = {
            "slope_percent": 100.0 * (line.slope / true.slope - 1.0),
            **{f"at_{at}_mg_cm3": _called(line, true, at) - at for at in DENSITIES_MG_CM3},
            "covered": bool(line.uncertainty.slope_low <= true.slope <= line.uncertainty.slope_high),
        }
    return row


def _called(line: Calibration, true: Calibration, density_mg_cm3: float) -> float:
    """What a line calls a density that is truly so much."""
    return line.slope * (density_mg_cm3 - true.intercept) / true.slope + line.intercept


def _with_own_tissues(body: Volume, rng: np.random.Generator) -> Volume:
    """A body in HU whose fat reads 4 HU (SD) off the average, and its muscle 6."""
    fat, muscle = rng.normal(0.0, 4.0), rng.normal(0.0, 6.0)
    values = body.values
    moved = np.interp(values, [-1000.0, -300.0, -96.0, 53.0, 200.0], [0.0, 0.0, fat, muscle, 0.0])
    return Volume(np.asarray(values + moved, dtype=np.float32), body.grid)
