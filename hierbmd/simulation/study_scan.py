"""A subject's CT on disk: plain noise or a QCT scan with its phantom, NIfTI or DICOM, and what it truly is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hierbmd.data.density import Material
from hierbmd.errors import Uncalibrated
from hierbmd.io.calibration_file import write_calibration
from hierbmd.io.dicom_write import CtAcquisition, DicomOptions, write_ct_dicom
from hierbmd.io.image import write_volume
from hierbmd.io.phantom_file import write_phantom
from hierbmd.simulation.basis import without_table
from hierbmd.simulation.cases import Case
from hierbmd.simulation.options import CtOptions
from hierbmd.simulation.scan_truth import acquisition_of, scan_truth
from hierbmd.simulation.scanner import scan


def write_ct(folder: Path, case: Case, options: CtOptions, *, seed: tuple[int, ...], real: bool) -> dict[str, Any]:
    """Write a subject's CT and what calibrates it; returns their names and the true line for truth.json.

    A scan with a phantom comes with the rod table of its serial and not with its line: that is to be measured.
    """
    volume, line, acquisition = case.scan, case.calibration, CtAcquisition()
    said: dict[str, Any] = {"calibration_file": "calibration.json"}
    if options.scan == "qct":
        if line.material is not Material.HA:
            raise Uncalibrated(
                f"uncalibrated: a scan of a density in {line.material.value} cannot be had",
                where=case.subject,
                mend="scans are made of HA; HA and K2HPO4 scales are never mixed",
            )
        # A real CT brings the table that it was scanned on.
        body = without_table(case.body) if real else case.body
        found = scan(dataclasses.replace(case, body=body), options.scanner, seed)
        volume, line, acquisition = found.volume, found.lines[Material.HA], acquisition_of(found)
        said["scan"] = scan_truth(found)
        if found.phantom is not None:
            said["calibration_file"] = "phantom.json"
            write_phantom(folder / "phantom.json", found.phantom.phantom)
    if said["calibration_file"] == "calibration.json":
        write_calibration(folder / "calibration.json", line)
    if options.ct_format == "dicom":
        dicom = DicomOptions(subject=case.subject, simulated=True, uid_seed=f"hierbmd simulate CT {seed}")
        write_ct_dicom(folder / "ct", volume, dicom, acquisition)
    else:
        write_volume(folder / "ct.nii.gz", volume)
    truth = {"slope": line.slope, "intercept": line.intercept, "material": line.material.value}
    return {"ct": "ct" if options.ct_format == "dicom" else "ct.nii.gz", **said, "calibration_line": truth}
