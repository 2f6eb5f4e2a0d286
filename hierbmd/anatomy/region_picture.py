"""A picture to judge regions by eye: a site's bone at the standard view, each region painted on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.areal import MeasuredSite, project_density, project_region, standard_view
from hierbmd.anatomy.overlay import REGION_RGB
from hierbmd.data.site import site_of
from hierbmd.io.image import windowed

Colour = NDArray[np.uint8]

PARTS_RGB = ((255, 170, 40), (80, 220, 80), (90, 150, 255), (255, 220, 60))
_MARGIN_PX, _ENLARGED, _TINT = 20, 3, 0.35


def regions_picture(measured: MeasuredSite) -> Colour:
    """The areal density of the bones that carry the regions, (H, W, 3) uint8, a colour for each part of the site.

    Seen as the region's areal BMD is measured: at the bone's own standard view, 1 mm to three pixels. The region that
    is asked for is outlined in red; a region that holds others is not painted. What is far from the regions is cut off.
    """
    site = site_of(measured.target)
    bone = np.any([measured.bones[name] for name in site.carriers], axis=0)
    camera, pose = standard_view(measured.density.grid, bone, measured.axes)
    picture = np.repeat(windowed(project_density(measured.density, bone, camera, pose))[..., None], 3, axis=-1)
    whole = np.any([region.mask for region in measured.regions.values()], axis=0)
    parts = [region.mask for region in measured.regions.values() if (region.mask != whole).any()]
    for mask, colour in zip(parts, PARTS_RGB * len(parts), strict=False):
        seen = project_region(measured.density, mask, camera, pose)[1] > 0
        picture[seen] = ((1.0 - _TINT) * picture[seen] + _TINT * np.array(colour)).astype(np.uint8)
    target = project_region(measured.density, measured.regions[measured.target].mask, camera, pose)[1] > 0
    picture = np.repeat(np.repeat(picture, _ENLARGED, axis=0), _ENLARGED, axis=1)
    large = np.repeat(np.repeat(target, _ENLARGED, axis=0), _ENLARGED, axis=1)
    picture[large & ~ndimage.binary_erosion(large, iterations=2)] = REGION_RGB
    rows = np.flatnonzero(project_region(measured.density, whole, camera, pose)[1].any(axis=1))
    first, last = max(int(rows[0]) - _MARGIN_PX, 0), int(rows[-1]) + _MARGIN_PX
    return picture[_ENLARGED * first : _ENLARGED * last]
