"""CMA-ES on gradient correlation, one bone at a time: the search of the method's authors, kept as a baseline."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.errors import MissingExtra
from hierbmd.registration.bone import Search, Settled, concluded, evaluate
from hierbmd.registration.level import Level
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.rays import mean_pixel_mm
from hierbmd.registration.refine import Refined
from hierbmd.registration.window import crop_around, make_target
from hierbmd.rigid import Matrix, transform_points

_POPULATION = 30
_GENERATIONS = 60
_FINER_SPREAD = 0.2
"""What the search spreads over at a finer level, of what it did at the first."""
_MARGIN_PX = 3.0
_LEAST_SCALE = np.r_[np.full(3, np.radians(0.5)), np.full(3, 1.0)]

Gradients = NDArray[np.float64]


def register_bone_cma(search: Search) -> BoneRegistration:
    """Find a bone by CMA-ES (Hansen and Ostermeier, Evol Comput 2001;9:159) from its start, coarse to fine.

    At each level the pose is sought within the search's box that has the greatest gradient correlation in one window
    around the start; the other bones are left to the metric. Outcome and uncertainty are judged as those of every
    registration. MissingExtra without the package cma.
    """
    began = time.perf_counter()
    pose, path, spent = search.start, [search.start], 0
    for number, level in enumerate(search.levels):
        found, evaluations = _at_level(search, level, pose, spread=1.0 if number == 0 else _FINER_SPREAD)
        path, spent = [*path, *found], spent + evaluations
        pose = path[-1]
    target = make_target(search.levels[-1], search.body, pose, margin_px=_MARGIN_PX)
    fit = None if target is None else evaluate(search, target, pose)
    finals = []
    if target is not None and fit is not None:
        finals = [Settled(target, Refined(pose, fit, spent, True, tuple(path)))]
    return concluded(search, finals, [], seconds=time.perf_counter() - began)


def gradients(image: NDArray[np.float32]) -> Gradients:
    """The Sobel derivatives (2, H, W) of an image (H, W), along columns then along rows."""
    return np.stack([ndimage.sobel(image, axis=axis, output=np.float64) for axis in (1, 0)])


def gradient_correlation(observed: Gradients, projected: Gradients) -> float:
    """The mean of the two derivatives' normalised cross-correlations, -1 to 1; 0 where either image is flat.

    Penney et al., IEEE TMI 1998;17:586. Both are (2, H, W).
    """
    correlations = []
    for seen, made in zip(observed, projected, strict=True):
        a, b = seen - seen.mean(), made - made.mean()
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        correlations.append(float(np.sum(a * b)) / norm if norm > 0 else 0.0)
    return float(np.mean(correlations))


def _at_level(search: Search, level: Level, pose: Matrix, *, spread: float) -> tuple[list[Matrix], int]:
    """The best pose of every generation, the best of all last, and how many projections they took."""
    depth_mm = float(transform_points(search.start, search.body.pivot_world_mm)[2])
    reach_px = int(np.ceil(search.options.start_in_plane_mm / mean_pixel_mm(level.camera, depth_mm)))
    crop = crop_around(search.body, level.camera, search.start, reach_px)
    if crop is None:
        return [pose], 0
    left, top, (width, height) = crop
    camera = level.camera.cropped(left, top, (width, height))
    observed = gradients(level.pixels[top : top + height, left : left + width])
    box, scale = search.box, _scale(search)

    def cost(x: NDArray[np.float64]) -> float:
        image, _ = search.body.image(camera, box.pose(x * scale))
        return -gradient_correlation(observed, gradients(image))

    strategy = _strategy(box.coordinates(pose) / scale, spread, half=box.half / scale, seed=search.options.seed)
    ways = []
    while not strategy.stop():
        population = strategy.ask()
        costs = [cost(np.asarray(x)) for x in population]
        strategy.tell(population, costs)
        ways.append(box.pose(np.asarray(population[int(np.argmin(costs))]) * scale))
    return [*ways, box.pose(np.asarray(strategy.result.xbest) * scale)], int(strategy.result.evaluations)


def _scale(search: Search) -> NDArray[np.float64]:
    """Half the start ranges, (6,) radians and mm: the spread of the first generation."""
    options = search.options
    turn, across = np.radians(options.start_rotation_deg), options.start_in_plane_mm
    ranges = np.array([turn, turn, turn, across, across, options.start_depth_mm])
    return np.maximum(ranges / 2.0, _LEAST_SCALE)


def _strategy(x: NDArray[np.float64], spread: float, *, half: NDArray[np.float64], seed: int) -> Any:
    try:
        import cma
    except ImportError as error:
        raise MissingExtra(f"CMA-ES needs the package cma ({error})", mend="pip install hierbmd[cma]") from None
    # cma takes seed 0 for the time of day.
    settings = {"bounds": [(-half).tolist(), half.tolist()], "popsize": _POPULATION, "maxiter": _GENERATIONS}
    return cma.CMAEvolutionStrategy(x, spread, {**settings, "seed": seed + 1, "tolx": 1e-3, "verbose": -9})
