"""Images of an atlas registration: resampled to cubes along the patient's axes, and found in one another by bone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.rigid import Vector, transform_points

Floats = NDArray[np.float32]

AIR_HU, DENSE_HU = -150.0, 800.0
"""Range of HU that the registration sees: fat and above, up to dense bone; metal and air tell nothing more."""

_SEARCH_MM = 5.0
_SCALES = (0.9, 1.0, 1.1)
_LEAST_SEEN = 0.6
_SHELL_MM = 15.0


def cubic_grid(grid: Grid, spacing_mm: float) -> Grid:
    """A grid of cubes along the patient's axes that covers another grid."""
    low, high = grid.corners_world_mm.min(axis=0), grid.corners_world_mm.max(axis=0)
    ni, nj, nk = (int(n) for n in np.ceil((high - low) / spacing_mm - 1e-6) + 1)
    matrix = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    matrix[:3, 3] = low
    return Grid((ni, nj, nk), matrix)


def sampled(values: NDArray[np.generic], grid: Grid, onto: Grid, *, order: int = 1, outside: float = 0.0) -> Floats:
    """Values of one grid at the voxel centres of another; coarser voxels take the mean of what they cover."""
    matrix = grid.index_from_world @ onto.world_from_index
    step = np.abs(matrix[:3, :3]).sum(axis=1)
    # Only what the other grid covers is worked on: a whole CT costs seconds each time.
    corners = transform_points(grid.index_from_world, onto.corners_world_mm)
    first, last = corners.min(axis=0) - 3.0 * step - 2.0, corners.max(axis=0) + 3.0 * step + 3.0
    spans = [(int(np.clip(a, 0, n)), int(np.clip(b, 0, n))) for a, b, n in zip(first, last, values.shape, strict=True)]
    if any(a >= b for a, b in spans):
        return np.full(onto.shape, outside, dtype=np.float32)
    image = np.asarray(values[tuple(slice(a, b) for a, b in spans)], dtype=np.float32)
    if order == 1:
        image = ndimage.gaussian_filter(image, np.sqrt(np.maximum(step**2 - 1.0, 0.0)) * 0.35, mode="nearest")
    given = {"output_shape": onto.shape, "order": order, "mode": "grid-constant", "cval": outside}
    start = matrix[:3, 3] - [a for a, _ in spans]
    return np.asarray(ndimage.affine_transform(image, matrix[:3, :3], start, **given))


@dataclass(frozen=True)
class Placed:
    """Where an atlas lies in a target, roughly: target = scale * atlas + shift_mm, and how well (-1 to 1)."""

    scale: float
    shift_mm: Vector
    similarity: float

    def moved(self, grid: Grid) -> Grid:
        """A grid of the atlas where it lies in the target."""
        matrix = grid.world_from_index.copy()
        matrix[:3] *= self.scale
        matrix[:3, 3] += self.shift_mm
        return Grid(grid.shape, matrix)


def placed_by_bone(target: Volume, atlas: Volume, labels: LabelMap, names: tuple[str, ...]) -> Placed:
    """Find an atlas's bones in a target by normalised cross-correlation over every shift, at three sizes.

    Only what both scans show is compared (Padfield, IEEE Trans Image Process 2012), at least 60 % of the bones'
    surroundings, so that fields of view may differ; of two shifts alike the one that shows more is taken.
    LabelsMismatch when no shift shows that much.
    """
    seen = cubic_grid(target.grid, _SEARCH_MM)
    picture = _bone(sampled(target.values, target.grid, seen, outside=-1000.0))
    best: Placed | None = None
    for scale in _SCALES:
        bones = np.isin(labels.ids, [labels.scheme[name] for name in names])
        grown = Placed(scale, np.zeros(3), 0.0).moved(labels.grid)
        own = cubic_grid(grown, _SEARCH_MM)
        inside = sampled(bones, grown, own) > 0.3
        near = ndimage.binary_dilation(inside, iterations=round(_SHELL_MM / _SEARCH_MM))
        grown_hu = sampled(atlas.values, grown, own)
        template = _bone(np.where(ndimage.binary_dilation(inside), grown_hu, 0.0))
        score, offset = _masked_correlation(picture, np.ones(picture.shape), template, near)
        at = np.unravel_index(int(np.argmax(score)), score.shape)
        index = np.array([a + o for a, o in zip(at, offset, strict=True)], dtype=np.float64)
        shift = seen.world_from_index[:3, 3] + index * _SEARCH_MM - own.world_from_index[:3, 3]
        found = Placed(scale, shift, float(score[at]))
        best = found if best is None or found.similarity > best.similarity else best
    assert best is not None
    if not best.similarity > 0.0:
        raise LabelsMismatch("the atlas's bones are nowhere in the CT", mend="is it a CT of the same part of the body?")
    return replace(best, similarity=round(best.similarity, 4))


def _bone(hu: Floats) -> Floats:
    # Blurred by a voxel, so that other patients' bones meet though they are shaped otherwise.
    return np.asarray(ndimage.gaussian_filter(np.clip((hu - 100.0) / 300.0, 0.0, 1.0), 1.0), dtype=np.float32)


def _masked_correlation(
    image: NDArray[np.floating],
    image_mask: NDArray[np.floating],
    template: NDArray[np.floating],
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """The correlation at every shift of the template's first voxel, and the shift of the answer's first element."""
    full = tuple(a + b - 1 for a, b in zip(image.shape, template.shape, strict=True))
    size = [fft.next_fast_len(n, real=True) for n in full]

    def forward(values: NDArray[Any], *, turned: bool) -> NDArray[np.complex128]:
        array = np.asarray(values, dtype=np.float64)
        return np.asarray(fft.rfftn(array[::-1, ::-1, ::-1] if turned else array, size))

    def overlap(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.asarray(fft.irfftn(one * other, size))[tuple(slice(n) for n in full)]

    fi, fii, fm = (forward(x, turned=False) for x in (image * image_mask, image**2 * image_mask, image_mask))
    gt, gtt, gm = (forward(x, turned=True) for x in (template * mask, template**2 * mask, mask))
    count = np.maximum(overlap(fm, gm), 1e-6)
    image_sum, template_sum = overlap(fi, gm), overlap(fm, gt)
    product = overlap(fi, gt) - image_sum * template_sum / count
    spread = (overlap(fii, gm) - image_sum**2 / count) * (overlap(fm, gtt) - template_sum**2 / count)
    score = product / np.sqrt(np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-12)))
    score *= np.sqrt(np.minimum(count / np.count_nonzero(mask), 1.0))
    score[count < _LEAST_SEEN * np.count_nonzero(mask)] = -1.0
    return score, tuple(1 - n for n in template.shape)
