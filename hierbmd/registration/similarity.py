"""How well a projected bone explains the radiograph's gradients, as least squares with its exact pose Jacobian.

In a window around the bone the radiograph's gradient image f is explained by the bone's own and its neighbours',
times a smooth gain that is fitted at every pose (variable projection, Golub and Pereyra, SIAM J Numer Anal
1973;10:413). With a constant gain the squared residual is 1 - NCC^2 of the gradient images: gradient correlation as
least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Camera
from hierbmd.registration.features import GradientFilter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What the radiograph shows in one window at one scale, ready to be compared with projections.

    `camera` is the window's, (W, H) pixels; `inside` (H, W) marks the m pixels compared, `weights` (2m,) weighs their
    gradients; `observed` (2m,) is the radiograph's weighted gradient and `background` (2m,) the weighted gradient of
    the other bones' projection, in the bone's own unit; `gains` (K, 2m) spans the smooth gain. `psi_slope` is how
    much flatter the robust loss is than the weights make it look, 1 without outlier weights.
    """

    camera: Camera
    filter: GradientFilter
    inside: NDArray[np.bool_]
    weights: Array
    observed: Array
    background: Array
    gains: Array
    psi_slope: float = 1.0

    def gather(self, image: NDArray[np.float32]) -> Array:
        """The weighted gradients (..., 2m) of images (..., H, W) of this window."""
        features = self.filter(np.ascontiguousarray(image, dtype=np.float32))
        picked = features[..., self.inside]
        return picked.reshape(*picked.shape[:-2], -1) * self.weights


@dataclass(frozen=True)
class Fit:
    """A pose's residual (2m,), its derivative (2m, 6) by the twist of rigid.moved(), and what they say.

    Whatever else was asked for by its derivative of the image stands in further columns.

    `cost` is the squared residual over the squared observation, 0 to 1; `similarity` the partial correlation of the
    bone given the background; `gain` the mean gain, negative when the contrast is inverted.
    """

    residual: Array
    jacobian: Array
    cost: float
    similarity: float
    gain: float


def fit(target: Target, image: NDArray[np.float32], jacobian: NDArray[np.float32]) -> Fit:
    """Compare a bone's projection (H, W) and its Jacobian (H, W, 6 or more) with the target.

    The residual is normalised to the observation's length, so that costs at different scales compare. A window
    without gradients, or a projection that leaves it, has cost one and a zero Jacobian.
    """
    norm = float(np.linalg.norm(target.observed))
    bone = target.gather(image)
    if norm == 0.0 or not np.any(bone):
        return Fit(target.observed / (norm or 1.0), np.zeros((bone.size, jacobian.shape[-1])), 1.0, 0.0, 0.0)
    observed = target.observed / norm
    columns = (target.gains * (bone + target.background)).T
    basis, triangle = np.linalg.qr(columns)
    gain = np.linalg.solve(triangle, basis.T @ observed)
    residual = observed - columns @ gain
    slopes = target.gather(np.moveaxis(jacobian, -1, 0)).T
    derivative = _projected_derivative(target.gains, slopes, basis, triangle, gain, residual)
    cost = float(residual @ residual)
    mean_gain = float(np.mean(gain @ target.gains))
    similarity = _partial_correlation(target, observed, cost) if mean_gain > 0 else 0.0
    return Fit(residual, derivative, cost, similarity, mean_gain)


def _projected_derivative(
    gains: Array, slopes: Array, basis: Array, triangle: Array, gain: Array, residual: Array
) -> Array:
    """The derivative of the residual with the gain refitted at every pose, both terms of Golub and Pereyra.

    `slopes` (2m, 6) is the derivative of the bone's weighted gradients; basis and triangle are the QR factors of the
    columns gains * (bone + background).
    """
    moved_columns = (gain @ gains)[:, None] * slopes
    explained = moved_columns - basis @ (basis.T @ moved_columns)
    refit = np.linalg.solve(triangle.T, (gains * residual) @ slopes)
    return -explained - basis @ refit


def _partial_correlation(target: Target, observed: Array, cost: float) -> float:
    """How much of what the background leaves unexplained the bone explains: sqrt(1 - cost / cost without the bone)."""
    without = 1.0
    if np.any(target.background):
        columns = (target.gains * target.background).T
        gain = np.linalg.lstsq(columns, observed, rcond=None)[0]
        without = float(np.sum((observed - columns @ gain) ** 2))
    return float(np.sqrt(max(0.0, 1.0 - cost / max(without, 1e-12))))
