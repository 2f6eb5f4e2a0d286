"""Where to start from: turns and depths around the given pose, each slid in plane to where the image fits best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import qmc

from hierbmd.registration.body import Body
from hierbmd.registration.features import gradient_filter
from hierbmd.registration.level import Level
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.rays import pixel_at_depth_mm
from hierbmd.registration.window import background_image, near_cut
from hierbmd.rigid import Matrix, Vector, moved, transform_points

_PEAK_DISTANCE_PX = 3.0


def spread_starts(start: Matrix, pivot_world_mm: Vector, options: RegistrationOptions) -> list[Matrix]:
    """`options.starts` poses: the given one, then turns and depths spread evenly (Halton) over the start ranges.

    In plane they stay: slide_in_plane() searches that exhaustively. The same seed gives the same motions.
    """
    twists = 2.0 * qmc.Halton(4, seed=options.seed).random(options.starts - 1) - 1.0
    turn = np.radians(options.start_rotation_deg)
    poses = [start]
    for wx, wy, wz, depth in twists:
        twist = np.array([wx * turn, wy * turn, wz * turn, 0.0, 0.0, depth * options.start_depth_mm])
        poses.append(moved(start, twist, pivot_world_mm))
    return poses


def slide_in_plane(
    level: Level,
    body: Body,
    pose: Matrix,
    *,
    range_mm: float,
    others: tuple[tuple[Body, Matrix], ...] = (),
    peaks: int = 1,
) -> list[Matrix]:
    """The pose shifted in plane, by up to `range_mm` at the bone, to the best gradient correlations on a level.

    One projection gives the bone's gradients; the correlation with the radiograph's, less what `others` explain of
    it, at every whole-pixel shift comes from Fourier transforms. `peaks` of them come back, the best first, at least
    three pixels apart; the given pose where the bone does not project onto the image.
    """
    image, _ = body.image(level.camera, pose)
    if not np.any(image) or not np.any(level.trust):
        return [pose]
    reach = gradient_filter(level.camera.size_px, level.sigma_px).reach_px
    observed = _unexplained(level, others)
    scores = shift_scores(level, image, observed=observed, spoilt=near_cut(body, level.camera, pose, reach))
    depth = float(transform_points(pose, body.pivot_world_mm)[2])
    mm = pixel_at_depth_mm(level.camera, depth)
    rows, columns = np.indices(scores.shape)
    right, down = columns - level.camera.size_px[0] + 1, rows - level.camera.size_px[1] + 1
    scores[np.hypot(right * mm[0], down * mm[1]) > range_mm] = -np.inf
    slid: list[Matrix] = []
    while len(slid) < peaks and np.isfinite(scores.max()):
        best = int(np.argmax(scores))
        u, v = float(right.flat[best]), float(down.flat[best])
        slid.append(moved(pose, np.array([0.0, 0.0, 0.0, u * mm[0], v * mm[1], 0.0]), body.pivot_world_mm))
        scores[np.hypot(right - u, down - v) < _PEAK_DISTANCE_PX] = -np.inf
    return slid


def _unexplained(level: Level, others: tuple[tuple[Body, Matrix], ...]) -> NDArray[np.float32]:
    """The radiograph's gradients (2, H, W) less the other bones', at the one gain that fits best."""
    background, _ = background_image(level.camera, others)
    if not np.any(background):
        return level.features
    features = gradient_filter(level.camera.size_px, level.sigma_px)(background)
    weights = np.square(level.trust, dtype=np.float64)
    gain = np.sum(weights * features * level.features) / np.sum(weights * features * features)
    return level.features - np.float32(max(gain, 0.0)) * features


def shift_scores(
    level: Level, image: NDArray[np.float32], *, observed: NDArray[np.float32], spoilt: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weighted correlation of a bone's gradients with the radiograph's at all shifts, (2H-1, 2W-1), none at [H-1, W-1].

    Each is sum(w^2 f m) / sqrt(sum(w^2 m^2)) over the image, with f the `observed` gradients (2, H, W) and m the
    shifted gradients of `image` (H, W), left out where `spoilt`.
    """
    filter_ = gradient_filter(level.camera.size_px, level.sigma_px)
    model = np.where(spoilt, 0.0, filter_(image))
    trust = np.square(level.trust, dtype=np.float64)
    flipped = model[:, ::-1, ::-1]
    cross = sum(fftconvolve(trust * seen, part) for seen, part in zip(observed, flipped, strict=True))
    power = fftconvolve(trust, np.sum(flipped**2, axis=0))
    floor = 0.05 * float(power.max())
    return np.asarray(cross / np.sqrt(np.maximum(power, floor)))
