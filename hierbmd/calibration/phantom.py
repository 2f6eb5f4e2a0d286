"""A scan calibrated by the phantom in it: found, read, fitted, or refused with what is wrong."""

from __future__ import annotations

import numpy as np

from hierbmd.calibration.fit import fit_phantom
from hierbmd.calibration.locate import locate
from hierbmd.calibration.rods import RodReadings, read_rods
from hierbmd.calibration.slices import Slices, slices_of
from hierbmd.data.calibration import Calibration
from hierbmd.data.phantoms import Phantom
from hierbmd.data.volume import Volume
from hierbmd.errors import Uncalibrated


def calibrate_by_phantom(volume: Volume, phantom: Phantom) -> Calibration:
    """The line of a CT in HU from the rods of the phantom that was scanned along, with its errors and drift.

    The rods are found wherever they lie (up to 15 deg of tilt, any turn in the plane, either end up). Errors, all of
    them kinds of Uncalibrated: PhantomNotFound, RodsOutOfView, MetalInRods, RodsDisagree, ImplausibleLine, ScaleDrifts.
    """
    if volume.unit != "HU":
        raise Uncalibrated(f"uncalibrated: the volume is in {volume.unit}, not HU", mend="give the CT itself")
    slices = slices_of(volume)
    readings = read_phantom_rods(slices, phantom)
    z_mm = slices.world_from_stack[2, 2] * slices.w_mm[readings.slices] + slices.world_from_stack[2, 3]
    return fit_phantom(phantom, readings, np.asarray(z_mm))


def read_phantom_rods(slices: Slices, phantom: Phantom) -> RodReadings:
    """What a phantom's rods read, without a line through them: for phantoms of known HU, and for `calibrate`."""
    return read_rods(slices, phantom, locate(slices, phantom))
