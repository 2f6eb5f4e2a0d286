"""A simulated radiograph into its file: stored as its unit does, with the tags of its exposure, and what was drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hierbmd.data.radiograph import Radiograph
from hierbmd.geometry import Camera, ProjectionGeometry
from hierbmd.io.dicom_acquisition import AcquisitionTags, Vertices
from hierbmd.io.dicom_write import DicomOptions, write_radiograph_dicom
from hierbmd.physics.collimator import Field
from hierbmd.simulation.acquisition import draw_acquisition
from hierbmd.simulation.exposure import draw_beam, exposure_rng
from hierbmd.simulation.options import RadiographSimulationOptions


def write_simulated(
    path: str | Path,
    radiograph: Radiograph,
    geometry: ProjectionGeometry,
    *,
    options: RadiographSimulationOptions,
    seed: int,
    dicom: DicomOptions,
) -> dict[str, Any]:
    """Write what `expose` made with these options and this seed; returns what was drawn, for truth.json.

    Depth, polarity, compression and value range of `dicom` are set by the draw; subject, description and UIDs are kept.
    """
    acquisition = draw_acquisition(options, geometry, seed)
    storage = acquisition.storage
    stored = dataclasses.replace(
        dicom,
        simulated=True,
        bits_stored=storage.bits,
        photometric=storage.photometric,
        compression=storage.compression,
        jpeg_quality=storage.jpeg_quality,
        jpeg2000_ratio=storage.jpeg2000_ratio,
        value_range=(0.0, 2.0**storage.bits - 1.0) if options.display else None,
    )
    beam = draw_beam(exposure_rng(seed), options)
    field = None if acquisition.field is None else field_vertices(acquisition.field, geometry.camera)
    tags = AcquisitionTags(
        kvp=beam.kvp,
        filter_material="ALUMINUM\\COPPER" if "Cu" in options.filtration else "ALUMINUM",
        focal_spot_mm=options.focal_spot_mm,
        grid=options.grid and options.scatter,
        exposure_index=100.0 * beam.dose_ugy * 10.0 ** (acquisition.deviation_db / 10.0),
        target_exposure_index=100.0 * beam.dose_ugy,
        field=field,
        shutter=field if acquisition.shutter else None,
    )
    write_radiograph_dicom(path, radiograph, stored, tags)
    return {
        "beam": beam.spectrum.name,
        "dose_ugy": round(beam.dose_ugy, 4),
        "realism": options.realism,
        **dataclasses.asdict(acquisition),
    }


def field_vertices(field: Field, camera: Camera) -> Vertices:
    """The field's corners as (row, column) counted from 1, held within the image."""
    corners = field.corners_mm() / camera.pixel_mm + camera.centre_px
    width, height = camera.size_px
    return tuple(
        (int(min(max(round(row) + 1, 1), height)), int(min(max(round(column) + 1, 1), width)))
        for column, row in corners
    )
