"""What of the radiograph a bone is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Camera, Grid
from hierbmd.registration.body import make_body
from hierbmd.registration.level import make_levels
from hierbmd.registration.window import make_target

CAMERA = Camera(1000.0, (160, 160), (1.0, 1.0))


def _box(*, metal: bool):
    """A bone of 40 mm a side, with a nail of 3300 HU or without."""
    grid = Grid((40, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))
    values, ids = np.full(grid.shape, 40.0, np.float32), np.zeros(grid.shape, np.uint8)
    values[10:30, 10:30, 10:30] = 500.0
    ids[10:30, 10:30, 10:30] = 75
    if metal:
        values[19:21, 19:21, 19:21] = 3300.0
    labels = LabelMap(ids, grid, {"femur_left": 75})
    return make_body("femur_left", Volume(values, grid), labels, structures=("femur_left",), metal_hu=3000.0)


@pytest.mark.parametrize("whose", ["its own", "a neighbour's"])
def test_nothing_is_compared_where_metal_projects(start, whose):
    plain, nailed = _box(metal=False), _box(metal=True)
    image, metal = nailed.image(CAMERA, start)
    assert metal is not None
    (level,) = make_levels(image + metal, CAMERA, pixel_mm=(1.0,), smoothing_px=1.0)
    without = make_target(level, plain, start, margin_px=8.0)
    if whose == "its own":
        target = make_target(level, nailed, start, margin_px=8.0)
    else:
        target = make_target(level, plain, start, margin_px=8.0, others=((nailed, start),))
    assert target is not None
    assert without is not None
    assert (target.camera, target.inside.shape) == (without.camera, without.inside.shape)
    _, shown = nailed.image(target.camera, start)
    assert shown is not None
    reach_px = target.filter.reach_px
    near = np.zeros_like(target.inside)
    for row, column in np.argwhere(shown > 0):
        near[max(row - reach_px, 0) : row + reach_px + 1, column] = True
        near[row, max(column - reach_px, 0) : column + reach_px + 1] = True
    assert without.inside[near].all()
    assert not target.inside[near].any()
    assert target.inside.sum() > 0.5 * without.inside.sum()
