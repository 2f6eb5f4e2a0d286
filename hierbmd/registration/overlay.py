"""Images to judge a pose by eye: the bone's projected outline on the radiograph, and a checkerboard of the two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.geometry import Camera
from hierbmd.io.image import windowed
from hierbmd.registration.body import Body
from hierbmd.rigid import Matrix, transform_points

Colour = NDArray[np.uint8]

OUTLINE_RGB = (255, 196, 0)
_HEIGHT_PX = 640
_MARGIN_SHARE = 0.3
_TILES = 8
_EDGE_SHARE = 0.03


def overlay(pixels: NDArray[np.float32], camera: Camera, body: Body, camera_from_world: Matrix) -> Colour:
    """Two panels of a bone's neighbourhood, (640, 2W, 3) uint8: radiograph with outline, radiograph and bone in tiles.

    `pixels` (H, W) is the radiograph of `camera`, bone bright. The whole image is shown where the bone lies off it.
    """
    left, top, size = _neighbourhood(body, camera, camera_from_world)
    scale = _HEIGHT_PX / size[1]
    shown = _enlarged(camera.cropped(left, top, size), scale)
    grey = _resampled(pixels[top : top + size[1], left : left + size[0]], shown.size_px)
    image, _ = body.image(shown, camera_from_world)
    seen = windowed(grey, _window(grey, image))
    return np.hstack([_with_outline(seen, image), _tiles(seen, windowed(image))])


def _window(grey: NDArray[np.float32], image: NDArray[np.float32]) -> tuple[float, float] | None:
    """The radiograph's range where the bone projects and around: the rest may be far brighter or darker."""
    near = ndimage.binary_dilation(image > 0, iterations=_HEIGHT_PX // 32)
    if not near.any():
        return None
    low, high = np.percentile(grey[near], [1.0, 99.0])
    return float(low), float(high)


def _neighbourhood(body: Body, camera: Camera, pose: Matrix) -> tuple[int, int, tuple[int, int]]:
    """Left, top and (W, H) of the crop around the bone's projection, the whole image where it lies off it."""
    points = transform_points(pose, body.surface_world_mm)
    whole = (0, 0, camera.size_px)
    if np.any(points[:, 2] <= 1.0):
        return whole
    pixels = camera.pixels_from_camera(points)
    margin = _MARGIN_SHARE * (pixels.max(axis=0) - pixels.min(axis=0))
    low = np.maximum(np.floor(pixels.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(pixels.max(axis=0) + margin) + 1, camera.size_px).astype(int)
    if np.any(high - low < 8):
        return whole
    return int(low[0]), int(low[1]), (int(high[0] - low[0]), int(high[1] - low[1]))


def _enlarged(camera: Camera, scale: float) -> Camera:
    """The camera of the same view with `scale` times as many pixels each way."""
    u0, v0 = camera.centre_px
    return replace(
        camera,
        size_px=(max(1, round(camera.size_px[0] * scale)), max(1, round(camera.size_px[1] * scale))),
        pixel_mm=(camera.pixel_mm[0] / scale, camera.pixel_mm[1] / scale),
        principal_px=((u0 + 0.5) * scale - 0.5, (v0 + 0.5) * scale - 0.5),
    )


def _resampled(pixels: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Linear interpolation at the enlarged camera's pixel centres."""
    height, width = pixels.shape
    rows = (np.arange(size_px[1]) + 0.5) * height / size_px[1] - 0.5
    columns = (np.arange(size_px[0]) + 0.5) * width / size_px[0] - 0.5
    at = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(pixels, at, order=1, mode="nearest"), dtype=np.float32)


def _with_outline(grey: NDArray[np.uint8], image: NDArray[np.float32]) -> Colour:
    panel = np.repeat(grey[..., None], 3, axis=2)
    silhouette = image > _EDGE_SHARE * max(float(image.max()), 1e-6)
    edge = silhouette & ~ndimage.binary_erosion(silhouette, iterations=2, border_value=1)
    panel[edge] = OUTLINE_RGB
    return panel


def _tiles(grey: NDArray[np.uint8], bone: NDArray[np.uint8]) -> Colour:
    side = _HEIGHT_PX // _TILES
    rows, columns = np.indices(grey.shape)
    odd = (rows // side + columns // side) % 2 == 1
    return np.repeat(np.where(odd, bone, grey)[..., None], 3, axis=2)
