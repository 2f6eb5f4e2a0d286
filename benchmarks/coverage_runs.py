"""Do the stated 95 % intervals hold the truth? A bone's own projection among its neighbours', in noise of two kinds."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage
from torso_trials import OPTIONS, Torso, camera_of, errors_of, random_pose

from hierbmd.registration.body import Body, is_bone, make_body
from hierbmd.registration.bone import Search, register_bone
from hierbmd.registration.level import make_levels
from hierbmd.rigid import Matrix, moved

COVERAGE_BONES = ("femur_right", "hip_right", "vertebrae_L4")
PIXELS = 256
WHITE, CLOUDY, CLOUD_PX = 0.10, 0.30, 3.0
"""Noise in each pixel, and a Gaussian random field of 3 pixels, as shares of the bones' standard deviation: together
the similarity comes to 0.7 to 0.9, as on the simulated radiographs."""

NEAR = replace(OPTIONS, starts=1)


@lru_cache
def _bodies(torso: Torso, bone: str) -> tuple[Body, Body]:
    """The bone, and all others as one."""
    names = [name for name in torso.labels.names_present if is_bone(name) and name != bone]
    made = [
        make_body(name, torso.volume, torso.labels, structures=structures, metal_hu=OPTIONS.metal_hu)
        for name, structures in ((bone, (bone,)), ("others", tuple(names)))
    ]
    return made[0], made[1]


def run_noisy(torso: Torso, bone: str, run: int) -> dict[str, Any]:
    """One noisy image at a random pose: the bone's error over its stated standard error, axis by axis."""
    rng = np.random.default_rng([31, run])
    body, others = _bodies(torso, bone)
    pose: Matrix = random_pose(torso, rng)
    camera = camera_of(PIXELS)
    image = body.image(camera, pose)[0] + others.image(camera, pose)[0]
    clouds = ndimage.gaussian_filter(rng.normal(size=image.shape), CLOUD_PX)
    noise = WHITE * rng.normal(size=image.shape) + CLOUDY * clouds / clouds.std()
    pixels = (image + image.std() * noise).astype(np.float32)
    levels = make_levels(pixels, camera, pixel_mm=(camera.pixel_mm[0],), smoothing_px=NEAR.smoothing_px)
    off = np.r_[np.radians(rng.normal(size=3)), rng.normal(size=2), 4.0 * rng.normal()]
    start = moved(pose, off, body.pivot_world_mm)
    found = register_bone(Search(body, levels, start, NEAR, ((others, pose),)))
    return errors_of(torso, found, pose)
