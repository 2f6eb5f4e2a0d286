"""Where a registration starts when no geometry file says so: from the radiograph's own tags and a standard view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap
from hierbmd.errors import GeometryMissing, ViewConflict
from hierbmd.geometry import Placement, ProjectionGeometry, Side
from hierbmd.rigid import Vector, transform_points


def start_geometry(radiograph: Radiograph, labels: LabelMap, bones: Sequence[str]) -> ProjectionGeometry:
    """The view's standard pose with the centre of the bones at the isocentre, on the axis through the image's centre.

    Raises GeometryMissing when pixel spacing, source-detector or source-isocentre distance is not known, and
    ViewConflict when the view is not; none is guessed.
    """
    camera = radiograph.camera
    if radiograph.source_isocentre_mm is None:
        raise GeometryMissing("geometry missing", mend="give --source-isocenter-mm, or --geometry")
    if radiograph.view is None:
        raise ViewConflict("the radiograph does not say its view", mend="give --view AP, PA or LAT")
    placement = Placement(radiograph.view, centre_of(labels, bones), radiograph.source_isocentre_mm)
    return ProjectionGeometry(camera, placement.camera_from_world(), radiograph.view, radiograph.side or Side.NONE)


def centre_of(labels: LabelMap, bones: Sequence[str]) -> Vector:
    """The mean of the bones' centroids, LPS mm; each bone counts the same. LabelsMismatch for one that is not there."""
    centroids = [np.argwhere(labels.mask(name)).mean(axis=0) for name in bones]
    return transform_points(labels.grid.world_from_index, np.mean(centroids, axis=0))
