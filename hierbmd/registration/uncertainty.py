"""How well one image determines a pose: from the curvature of the fit, and from the spread of starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.geometry import Beam
from hierbmd.registration.body import Body
from hierbmd.registration.outcome import Uncertainty
from hierbmd.registration.rays import ray_directions
from hierbmd.registration.refine import Box
from hierbmd.registration.similarity import Fit, Target
from hierbmd.registration.target import target_error
from hierbmd.rigid import Matrix, Vector, transform_points

_BLOCK_PX = 8
_DEPTH = 5

INTERVAL_95 = 2.4
"""How many standard errors on either side make a 95 % interval: a coverage factor (JCGM 100:2008, 6.2), above a
Gaussian's 1.96 for the misfit of bones and their neighbours that residuals do not show. From simulated radiographs of
one CT: it holds 95 % of poses 0 to 19 of the acceptance in benchmarks/registration.py; later poses test it."""


def pose_covariance(target: Target, fit: Fit) -> Matrix | None:
    """The 6x6 covariance of a fitted pose's twist (radians, mm), or None where the image does not determine it.

    Neighbouring residuals are alike (smoothing, soft tissue, edges that no bone explains), so the plain sigma^2 H^-1
    is far too small. This is the sandwich H^-1 M H^-1 with M the covariance of the score, summed over blocks of 8 x 8
    pixels (Liang and Zeger, Biometrika 1986;73:13) and between neighbouring blocks at half weight (Bartlett's kernel,
    as in Newey and West, Econometrica 1987;55:703), times n / (n - 6) for few blocks. Depth's row and column are zero
    in a parallel beam, which does not show it. Where outliers were weighed
    down the curvature H is that of the robust loss: Huber's psi' in place of the weights (Robust Statistics, 1981,
    7.6).
    """
    axes = _moving(target.camera.beam)
    normal = fit.jacobian.T @ fit.jacobian * target.psi_slope
    normal = normal[np.ix_(axes, axes)]
    scale = np.sqrt(np.diag(normal))
    if not np.all(scale > 0):
        return None
    curvature = normal / np.outer(scale, scale)
    if np.linalg.eigvalsh(curvature)[0] < 1e-8:
        return None
    meat, count = score_covariance(target, fit)
    if count <= 6:
        return None
    inverse = np.linalg.inv(curvature) / np.outer(scale, scale)
    meat = meat[np.ix_(axes, axes)]
    covariance = np.zeros((6, 6))
    covariance[np.ix_(axes, axes)] = inverse @ meat @ inverse * count / (count - 6)
    return covariance


def score_covariance(target: Target, fit: Fit) -> tuple[Matrix, int]:
    """The covariance of a fit's score, one row and column a column of its Jacobian, and how many blocks made it."""
    scores = _block_scores(target.inside, fit)
    kernel = np.array([0.5, 1.0, 0.5])
    near = ndimage.convolve1d(ndimage.convolve1d(scores, kernel, axis=0, mode="constant"), kernel, 1, mode="constant")
    return np.einsum("ijp,ijq->pq", scores, near), int(np.count_nonzero(np.any(scores != 0, axis=2)))


def _moving(beam: Beam) -> list[int]:
    """The axes of the twist that move anything on the image: where all rays are parallel, depth does not."""
    return [axis for axis in range(6) if axis != _DEPTH or beam is not Beam.PARALLEL]


def _block_scores(inside: NDArray[np.bool_], fit: Fit) -> NDArray[np.float64]:
    """The score (sum of Jacobian times residual) of each block, (rows, columns, 6 or more)."""
    rows, columns = np.nonzero(inside)
    shape = tuple(n // _BLOCK_PX + 1 for n in inside.shape)
    scores = np.zeros((*shape, fit.jacobian.shape[1]))
    np.add.at(
        scores,
        (np.tile(rows // _BLOCK_PX, 2), np.tile(columns // _BLOCK_PX, 2)),
        fit.jacobian * fit.residual[:, None],
    )
    return scores


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
    apart = _apart(pose, body, agreeing)
    if covariance is None:
        return Uncertainty(np.inf, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf, starts_mm, apart)
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
        starts=apart,
    )


def _apart(pose: Matrix, body: Body, others: list[Matrix]) -> tuple[float, ...]:
    """The root mean square of other poses' motion from a pose, degrees and mm, axis by axis."""
    about = Box(pose, body.pivot_world_mm, np.full(6, np.inf))
    motions = np.array([about.coordinates(other) for other in others]).reshape(-1, 6)
    size = np.sqrt(np.mean(motions**2, axis=0)) if others else np.zeros(6)
    return tuple(float(x) for x in size * np.r_[np.full(3, 180.0 / np.pi), np.ones(3)])


def _cross_matrices(v: Matrix) -> NDArray[np.float64]:
    """(n, 3, 3): each times a vector is the cross product of a row of `v` (n, 3) with it, so d(point) = w x arm + t."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return out - np.swapaxes(out, 1, 2)
