"""How well one image determines a pose: from the curvature of the fit, and from the spread of starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.geometry import Beam
from hierbmd.registration.body import Body
from hierbmd.registration.outcome import Uncertainty
from hierbmd.registration.rays import ray_directions
from hierbmd.registration.similarity import Fit, Target
from hierbmd.registration.target import target_error
from hierbmd.rigid import Matrix, Vector, transform_points

_BLOCK_PX = 8
_DEPTH = 5
_RIDGE = 1e-9

Blocks = NDArray[np.float64]


def pose_covariance(target: Target, fit: Fit) -> Matrix | None:
    """The 6x6 covariance of a fitted pose's twist (radians, mm), or None where the image does not determine it.

    Neighbouring residuals are alike (smoothing, soft tissue, edges that no bone explains), so the plain sigma^2 H^-1
    is far too small. This is the sandwich H^-1 M H^-1 with M the covariance of the score, summed over blocks of 8 x 8
    pixels (Liang and Zeger, Biometrika 1986;73:13) and between neighbouring blocks at half weight (Bartlett's kernel,
    as in Newey and West, Econometrica 1987;55:703). A small bone has few blocks, each of which draws the pose towards
    itself and so hides its own error: the scores are those that the fit without their block leaves (Bell and McCaffrey,
    Survey Methodology 2002;28:169). Depth's row and column are zero in a parallel beam, which does not show it. Where
    outliers were weighed down the curvature H is that of the robust loss: Huber's psi' in place of the weights (Robust
    Statistics, 1981, 7.6).
    """
    axes = _moving(target.camera.beam)
    jacobian = fit.jacobian[:, axes]
    scale = np.sqrt(np.sum(jacobian**2, axis=0) * target.psi_slope)
    if not np.all(scale > 0):
        return None
    jacobian = jacobian / scale
    curvature = jacobian.T @ jacobian * target.psi_slope
    if np.linalg.eigvalsh(curvature)[0] < 1e-8:
        return None
    scores = _by_block(target.inside, jacobian * fit.residual[:, None])
    outer = jacobian[:, :, None] * jacobian[:, None, :] * target.psi_slope
    scores = without_own_block(scores, _by_block(target.inside, outer), curvature)
    meat, count = _neighbourly(scores)
    if count <= 6:
        return None
    inverse = np.linalg.inv(curvature)
    covariance = np.zeros((6, 6))
    covariance[np.ix_(axes, axes)] = inverse @ meat @ inverse / np.outer(scale, scale) * (count - 1) / count
    return covariance


def without_own_block(scores: Blocks, curvatures: Blocks, curvature: Matrix) -> Blocks:
    """Each block's score (..., p) as it is where the fit without that block leaves off, to first order.

    `curvatures` (..., p, p) are the blocks' shares of the whole `curvature` (p, p), whose diagonal is one.
    """
    rest = curvature - curvatures + _RIDGE * np.eye(len(curvature))
    return np.asarray((curvature @ np.linalg.solve(rest, scores[..., None]))[..., 0])


def score_covariance(target: Target, fit: Fit) -> tuple[Matrix, int]:
    """The covariance of a fit's score, one row and column a column of its Jacobian, and how many blocks made it."""
    return _neighbourly(_by_block(target.inside, fit.jacobian * fit.residual[:, None]))


def _neighbourly(scores: Blocks) -> tuple[Matrix, int]:
    kernel = np.array([0.5, 1.0, 0.5])
    near = ndimage.convolve1d(ndimage.convolve1d(scores, kernel, axis=0, mode="constant"), kernel, 1, mode="constant")
    return np.einsum("ijp,ijq->pq", scores, near), int(np.count_nonzero(np.any(scores != 0, axis=2)))


def _moving(beam: Beam) -> list[int]:
    """The axes of the twist that move anything on the image: where all rays are parallel, depth does not."""
    return [axis for axis in range(6) if axis != _DEPTH or beam is not Beam.PARALLEL]


def _by_block(inside: NDArray[np.bool_], values: Blocks) -> Blocks:
    """The sums over blocks (rows, columns, ...) of what stands at every pixel inside, twice: (2m, ...)."""
    rows, columns = np.nonzero(inside)
    shape = tuple(n // _BLOCK_PX + 1 for n in inside.shape)
    block = np.tile((rows // _BLOCK_PX) * shape[1] + columns // _BLOCK_PX, 2)
    order = np.argsort(block, kind="stable")
    present, first = np.unique(block[order], return_index=True)
    sums = np.zeros((shape[0] * shape[1], *values.shape[1:]))
    sums[present] = np.add.reduceat(values[order], first, axis=0)
    return sums.reshape(*shape, *values.shape[1:])


def in_plane_std_mm(
    covariance: Matrix, pose: Matrix, pivot_world_mm: Vector, points_world_mm: Matrix, *, beam: Beam = Beam.CONE
) -> float:
    """The root-mean-square displacement across the beam, over points (n, 3), that a twist covariance implies, mm."""
    points = transform_points(pose, points_world_mm)
    arms = points - transform_points(pose, pivot_world_mm)
    rays = ray_directions(points, beam)
    moves = np.concatenate([-_cross_matrices(arms), np.broadcast_to(np.eye(3), (len(arms), 3, 3))], axis=2)
    across = moves - rays[:, :, None] * np.einsum("nc,ncp->np", rays, moves)[:, None, :]
    return float(np.sqrt(np.mean(np.einsum("ncp,pq,ncq->n", across, covariance, across))))


def uncertainty(
    covariance: Matrix | None, pose: Matrix, body: Body, agreeing: list[Matrix], *, beam: Beam = Beam.CONE
) -> Uncertainty:
    """Per axis in camera axes about the bone's centroid; `agreeing` are the poses of the starts that agree with it."""
    points = body.surface_world_mm
    spread = [target_error(other, pose, points, beam=beam).in_plane_mm for other in agreeing]
    starts_mm = float(np.sqrt(np.mean(np.square(spread)))) if spread else 0.0
    if covariance is None:
        return Uncertainty(np.inf, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf, starts_mm)
    std = np.sqrt(np.diag(covariance))
    rx_deg, ry_deg, rz_deg = (float(x) for x in np.degrees(std[:3]))
    return Uncertainty(
        rx_deg=rx_deg,
        ry_deg=ry_deg,
        rz_deg=rz_deg,
        tx_mm=float(std[3]),
        ty_mm=float(std[4]),
        depth_mm=np.inf if beam is Beam.PARALLEL else float(std[_DEPTH]),
        in_plane_mm=in_plane_std_mm(covariance, pose, body.pivot_world_mm, points, beam=beam),
        starts_in_plane_mm=starts_mm,
    )


def _cross_matrices(v: Matrix) -> NDArray[np.float64]:
    """(n, 3, 3): each times a vector is the cross product of a row of `v` (n, 3) with it, so d(point) = w x arm + t."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return out - np.swapaxes(out, 1, 2)
