"""The part of the radiograph that a bone is compared with: its projected neighbourhood, cropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.geometry import Camera
from hierbmd.registration.body import Body
from hierbmd.registration.features import gradient_filter
from hierbmd.registration.level import Level
from hierbmd.registration.similarity import Target
from hierbmd.rigid import Matrix, transform_points

_SILHOUETTE = 0.02
"""A pixel shows the bone where it attenuates at least this share of the bone's largest attenuation."""


def share_on_image(points_world_mm: Matrix, camera: Camera, pose: Matrix) -> float:
    """The share, 0 to 1, of points (n, 3) that project onto the image; those behind the source do not."""
    points = transform_points(pose, points_world_mm)
    ahead = points[:, 2] > 1.0
    pixels = camera.pixels_from_camera(points[ahead])
    inside = np.all((pixels > -0.5) & (pixels < np.array(camera.size_px) - 0.5), axis=1)
    return float(np.count_nonzero(inside)) / len(points)


def make_target(
    level: Level, body: Body, pose: Matrix, *, margin_px: float, others: tuple[tuple[Body, Matrix], ...] = ()
) -> Target | None:
    """The window of a level around a bone's projection at a pose, or None where no pixel of it can be compared.

    It reaches `margin_px` beyond the bone's silhouette. `others` are neighbours with their poses:
    the background. Where the bone's or a neighbour's metal projects nothing is compared.
    """
    reach = gradient_filter(level.camera.size_px, level.sigma_px).reach_px
    crop = crop_around(body, level.camera, pose, int(np.ceil(margin_px)) + reach)
    if crop is None:
        return None
    left, top, size = crop
    camera = level.camera.cropped(left, top, size)
    view = (slice(top, top + size[1]), slice(left, left + size[0]))
    image, metal = body.image(camera, pose)
    background, their_metal = background_image(camera, others)
    silhouette = np.abs(image) > _SILHOUETTE * np.abs(image).max()
    trust = np.where(_grown(silhouette, margin_px), level.trust[view], 0.0)
    for mask in (metal, their_metal):
        if mask is not None:
            trust[_grown(mask > 0, float(reach))] = 0.0
    trust[near_cut(body, camera, pose, reach)] = 0.0
    if np.count_nonzero(trust) < 32 or not np.any(image):
        return None
    return _target(level, view, camera, trust, background)


def near_cut(body: Body, camera: Camera, pose: Matrix, reach_px: int) -> NDArray[np.bool_]:
    """The pixels (H, W) that the end of the CT, projected with the bone, spoils: within the filter's reach of it."""
    spoilt = np.zeros((camera.size_px[1], camera.size_px[0]), dtype=bool)
    points = transform_points(pose, body.cut_world_mm)
    if len(points) == 0 or np.any(points[:, 2] <= 1.0):
        return spoilt
    pixels = np.round(camera.pixels_from_camera(points)).astype(int)
    inside = np.all((pixels >= 0) & (pixels < np.array(camera.size_px)), axis=1)
    spoilt[pixels[inside, 1], pixels[inside, 0]] = True
    return _grown(spoilt, float(reach_px))


def background_image(
    camera: Camera, others: tuple[tuple[Body, Matrix], ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The sum of the other bones' projections (H, W), and of their metal's."""
    total = np.zeros((camera.size_px[1], camera.size_px[0]), dtype=np.float32)
    metal: NDArray[np.float32] | None = None
    for body, pose in others:
        image, alloy = body.image(camera, pose)
        total += image
        if alloy is not None:
            metal = alloy if metal is None else metal + alloy
    return total, metal


def reweighted(target: Target, residual: NDArray[np.float64]) -> Target:
    """The target with outliers of a fit's residual (2m,) weighed down: edges that no bone explains.

    Each pixel's gradient residual r counts by 1 / (1 + u^2), u = r / 3s, in the residual, its square in the cost:
    Geman and McClure's weights (Bull ISI 1987;52:5), with s from the median absolute residual (1.4826 makes it the
    standard deviation of a Gaussian). The loss's second derivative is (1 - 3 u^2) / (1 + u^2)^3.
    """
    size = np.sqrt(np.sum(residual.reshape(2, -1) ** 2, axis=0) / 2.0)
    scale = 1.4826 * float(np.median(size)) + 1e-12
    squared = (size / (3.0 * scale)) ** 2
    factor = np.tile(1.0 / (1.0 + squared), 2)
    slope = float(np.mean((1.0 - 3.0 * squared) / (1.0 + squared) ** 3) / np.mean(1.0 / (1.0 + squared) ** 2))
    return replace(
        target,
        weights=target.weights * factor,
        observed=target.observed * factor,
        background=target.background * factor,
        psi_slope=max(slope, 0.3),
    )


def _target(
    level: Level, view: tuple[slice, slice], camera: Camera, trust: NDArray[np.float32], background: NDArray[np.float32]
) -> Target:
    inside = trust > 0
    weights = np.tile(trust[inside].astype(np.float64), 2)
    observed = level.features[(slice(None), *view)][:, inside].reshape(-1) * weights
    filter_ = gradient_filter(camera.size_px, level.sigma_px)
    gains = np.ones((1, weights.size))
    bare = Target(camera, filter_, inside, weights, observed, np.zeros_like(observed), gains)
    return replace(bare, background=bare.gather(background)) if np.any(background) else bare


def crop_around(body: Body, camera: Camera, pose: Matrix, margin_px: int) -> tuple[int, int, tuple[int, int]] | None:
    """Left, top and (W, H) of the image around a bone's projection; None where nothing of it is on the image."""
    points = transform_points(pose, body.surface_world_mm)
    if np.any(points[:, 2] <= 1.0):
        return None
    pixels = camera.pixels_from_camera(points)
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - margin_px, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + margin_px + 1, np.array(camera.size_px))
    width, height = (int(n) for n in high - low)
    return (int(low[0]), int(low[1]), (width, height)) if min(width, height) > 0 else None


def _grown(mask: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= by_px)
