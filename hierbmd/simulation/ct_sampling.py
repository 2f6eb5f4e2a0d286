"""A scanner's lattice: where its pixels and slices lie, and what each averages of the patient.

Sampling a volume of voxels is three matrices, one an axis: what is between voxel centres is linear, a pixel averages
over its width, and a slice over its section-sensitivity profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hierbmd.data.volume import Volume
from hierbmd.errors import NotOrthogonal
from hierbmd.geometry import Grid

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

_MIDPOINTS = 9
_OBLIQUE = 1e-3


@dataclass(frozen=True)
class Lattice:
    """The centres of the pixels along x (nx,) and y (ny,), left and posterior, and of the slices along z (nz,), mm.

    `thickness_mm` is the full width at half maximum of the section-sensitivity profile, "rectangle" or "bell".
    """

    x_mm: Floats
    y_mm: Floats
    z_mm: Floats
    pixel_mm: float
    thickness_mm: float = 0.0
    profile: str = "rectangle"

    @property
    def slice_profile(self) -> tuple[Floats, Floats]:
        """Offsets in mm from a slice's middle, and weights that add up to 1."""
        return profile(self.profile, self.thickness_mm)

    @property
    def grid(self) -> Grid:
        """The scan's grid: columns to the left, rows to the back, slices upward, LPS mm."""
        step_z = float(self.z_mm[1] - self.z_mm[0]) if len(self.z_mm) > 1 else 1.0
        matrix = np.diag([self.pixel_mm, self.pixel_mm, step_z, 1.0])
        matrix[:3, 3] = self.x_mm[0], self.y_mm[0], self.z_mm[0]
        return Grid((len(self.x_mm), len(self.y_mm), len(self.z_mm)), matrix)


def profile(kind: str, thickness_mm: float) -> tuple[Floats, Floats]:
    """Offsets in mm and weights (m,) of a section-sensitivity profile of this full width at half maximum.

    "rectangle" is that of sequential slices; "bell", a Gaussian, that of a spiral (Kalender, Computed Tomography,
    2011). The integral is by midpoints.
    """
    if thickness_mm <= 0:
        return np.zeros(1), np.ones(1)
    if kind == "rectangle":
        return thickness_mm * ((np.arange(_MIDPOINTS) + 0.5) / _MIDPOINTS - 0.5), np.full(_MIDPOINTS, 1.0 / _MIDPOINTS)
    offsets = thickness_mm * np.linspace(-1.25, 1.25, 2 * _MIDPOINTS + 1)
    weights = np.exp(-4.0 * np.log(2.0) * (offsets / thickness_mm) ** 2)
    return offsets, weights / weights.sum()


def cell_weights(lattice: Lattice) -> Floats:
    """What a slice takes from the cells, one an interval, around it, (2 r + 1,); their squares add up to 1."""
    step_mm = float(lattice.z_mm[1] - lattice.z_mm[0]) if len(lattice.z_mm) > 1 else np.inf
    offsets_mm, shares = lattice.slice_profile
    cells = np.rint(offsets_mm / step_mm).astype(int)
    reach = int(np.max(np.abs(cells)))
    weights = np.bincount(cells + reach, shares, 2 * reach + 1)
    return np.asarray(weights / np.linalg.norm(weights))


def upright(volume: Volume) -> Volume:
    """The same voxels with index axes along +L, +P and +S; NotOrthogonal for a volume that lies oblique."""
    matrix = volume.grid.world_from_index
    directions = matrix[:3, :3] / volume.grid.spacing_mm
    order = [int(np.argmax(np.abs(directions[axis]))) for axis in range(3)]
    if np.max(np.abs(np.abs(directions[:, order]) - np.eye(3))) > _OBLIQUE:
        raise NotOrthogonal("the volume lies oblique in the world", mend="resample it along the patient's axes")
    values = np.transpose(volume.values, order)
    placed = np.eye(4)
    placed[:3, :3], placed[:3, 3] = matrix[:3, order], matrix[:3, 3]
    for axis in range(3):
        if placed[axis, axis] < 0:
            values = np.flip(values, axis)
            placed[:3, 3] += placed[:3, axis] * (values.shape[axis] - 1)
            placed[:3, axis] *= -1.0
    ni, nj, nk = values.shape
    return Volume(np.ascontiguousarray(values), Grid((ni, nj, nk), placed), volume.unit)


class Sampler:
    """Slices of an upright volume on a lattice, each value the mean over a pixel and the profile.

    A voxel is a mean over itself already: only what a pixel or slice is wider than that, in variance, is averaged.
    Beside the volume there is `outside`; above and below it goes on as it ends, as a patient does.
    """

    def __init__(self, volume: Volume, lattice: Lattice, *, outside: float) -> None:
        origin, step = volume.grid.world_from_index[:3, 3], volume.grid.spacing_mm
        widths_mm = (lattice.pixel_mm, lattice.pixel_mm, lattice.thickness_mm)
        self._matrices = []
        for n, (centres, width_mm) in enumerate(
            zip((lattice.x_mm, lattice.y_mm, lattice.z_mm), widths_mm, strict=True)
        ):
            more_mm = float(np.sqrt(max(width_mm**2 - step[n] ** 2, 0.0)))
            kernel = profile("rectangle" if n < 2 else lattice.profile, more_mm)
            axis = (origin[n], step[n], volume.grid.shape[n])
            self._matrices.append(_sampling_matrix(centres, kernel, axis, goes_on=n == 2))
        self._values, self._outside = volume.values, np.float32(outside)

    def slice(self, k: int) -> Image:
        """The k-th slice, (nx, ny)."""
        by_x, by_y, by_z = self._matrices
        row = by_z[k]
        plane = np.zeros(self._values.shape[:2], dtype=np.float32)
        for j, weight in zip(row.indices, row.data, strict=True):
            plane += np.float32(weight) * (self._values[:, :, j] - self._outside)
        return np.asarray((by_y @ (by_x @ plane).T).T + self._outside, dtype=np.float32)


def _sampling_matrix(
    centres: Floats, kernel: tuple[Floats, Floats], axis: tuple[float, float, int], *, goes_on: bool
) -> sparse.csr_matrix:
    """(n_out, n_in): the mean over centre + offset, weighted, of linear interpolation on an axis (origin, step, count).

    Half a voxel beyond the first and last centre still belongs to them; further out there is nothing, unless the axis
    `goes_on`.
    """
    (offsets, weights), (origin, step, count) = kernel, axis
    at = (centres[:, None] + offsets[None, :] - origin) / step
    weight = np.where(goes_on | ((at >= -0.5) & (at <= count - 0.5)), weights[None, :], 0.0)
    at = np.clip(at, 0.0, count - 1.0)
    low = np.minimum(np.floor(at).astype(int), max(count - 2, 0))
    share = at - low
    row = np.broadcast_to(np.arange(len(centres))[:, None], at.shape)
    rows, columns = np.concatenate([row, row]), np.concatenate([low, np.minimum(low + 1, count - 1)])
    shares = np.concatenate([weight * (1.0 - share), weight * share])
    found = sparse.csr_matrix((shares.ravel(), (rows.ravel(), columns.ravel())), (len(centres), count), np.float32)
    found.eliminate_zeros()
    return found
