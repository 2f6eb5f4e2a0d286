"""The one reader of label maps, and their way onto another grid in physical space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap
from hierbmd.errors import BadConfig, LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.io import guards
from hierbmd.io.atomic import read_json
from hierbmd.io.ct import read_voxels
from hierbmd.io.nifti import is_nifti, read_label_table
from hierbmd.rigid import Matrix

KIND = "label map"
_MOST_IDS = 2**32
_STRAY_STEP = 1e-6


def read_labels(
    path: str | Path,
    *,
    scheme: str | Path | None = None,
    onto: Grid | None = None,
    max_gib: float = guards.DEFAULT_MAX_GIB,
) -> LabelMap:
    """Read a label map (NIfTI, NRRD, MHA): ids in the smallest unsigned type, with their names.

    Names come from `scheme`, a JSON file {name: id}; else from the label table that the file itself carries (a NIfTI of
    TotalSegmentator's does); else by TotalSegmentator v2's ids. With `onto` the ids are carried to that grid by nearest
    neighbour in physical space, whatever the axis order of either; exact where axes are only permuted or flipped.

    Raises UnreadableFile and the other refusals of images, BadConfig (scheme) and LabelsMismatch (negative or broken
    ids, or no overlap).
    """
    if Path(path).is_dir():
        raise guards.unreadable(KIND, path, "is a folder: give a .nii.gz, .mha or .nrrd file")
    values, grid = read_voxels(path, kind=KIND, max_gib=max_gib)
    labels = as_label_map(values, grid, scheme_of(path, scheme)[0], where=path)
    return labels if onto is None or onto == grid else resample_labels(labels, onto, where=path)


def scheme_of(path: str | Path, scheme: str | Path | None = None) -> tuple[dict[str, int], str]:
    """The names of a label map's ids, and in words where they come from."""
    if scheme is not None:
        return read_scheme(scheme), f"the scheme {Path(scheme).name}"
    table = read_label_table(path, KIND) if is_nifti(Path(path)) else {}
    if table:
        return table, "the file's own label table"
    return TOTALSEGMENTATOR_V2, "TotalSegmentator v2's ids, for the file names none"


def read_scheme(path: str | Path) -> dict[str, int]:
    """A scheme file, JSON {name: id} with ids above 0, each used once; BadConfig otherwise."""
    table = read_json(path)
    fits = isinstance(table, dict) and all(
        isinstance(i, int) and not isinstance(i, bool) and 0 < i < _MOST_IDS for i in table.values()
    )
    if not fits or not table:
        raise BadConfig("not a label scheme", where=path, mend='a JSON object {"name": id}, ids whole numbers above 0')
    if len(set(table.values())) != len(table):
        twice = next(i for i in table.values() if list(table.values()).count(i) > 1)
        names = ", ".join(name for name, i in table.items() if i == twice)
        raise BadConfig(f"the scheme gives id {twice} to {names}", where=path, mend="one name an id")
    return dict(table)


def resample_labels(labels: LabelMap, onto: Grid, *, where: object = "") -> LabelMap:
    """The label map on another grid: each voxel takes the id nearest to its centre in the world, 0 outside.

    LabelsMismatch when no labelled voxel lands on the grid.
    """
    index_from_onto = labels.grid.index_from_world @ onto.world_from_index
    if _axis_parallel(index_from_onto[:3, :3]):
        ids = _looked_up_by_axis(labels.ids, index_from_onto, onto.shape)
    else:
        ids = _looked_up(labels.ids, index_from_onto, onto.shape)
    if not ids.any():
        raise LabelsMismatch(
            "the label map does not overlap its CT",
            where=where,
            mend=f"labels reach {_extent(labels.grid)}, the CT {_extent(onto)}",
        )
    return LabelMap(ids, onto, labels.scheme)


def _axis_parallel(linear: Matrix) -> bool:
    """Whether each axis of one grid runs along an axis of the other."""
    return bool(np.all(np.sum(np.abs(linear) > _STRAY_STEP * np.abs(linear).max(), axis=0) == 1))


def _looked_up_by_axis(ids: NDArray[Any], index_from_onto: Matrix, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Nearest ids where axes are parallel: one list of indices an axis, so it is quick and permutations are exact."""
    source_of = [int(np.argmax(np.abs(index_from_onto[:3, axis]))) for axis in range(3)]
    picks, inside = [], []
    for axis, source in enumerate(source_of):
        step, start = index_from_onto[source, axis], index_from_onto[source, 3]
        # Rounded first, so that a centre half way between two falls the same way on every machine.
        index = np.floor(np.round(start + step * np.arange(shape[axis]), 6) + 0.5).astype(np.int64)
        inside.append((index >= 0) & (index < ids.shape[source]))
        picks.append(np.clip(index, 0, ids.shape[source] - 1))
    found = ids.transpose(source_of)[np.ix_(*picks)]
    found[~(inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :])] = 0
    return np.ascontiguousarray(found)


def _looked_up(ids: NDArray[Any], index_from_onto: Matrix, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Nearest ids under any affine; "grid-constant" lets a voxel reach half a voxel beyond its centre at the rim."""
    from scipy import ndimage

    linear, offset = index_from_onto[:3, :3], index_from_onto[:3, 3]
    return np.asarray(
        ndimage.affine_transform(ids, linear, offset, output_shape=shape, order=0, mode="grid-constant", cval=0)
    )


def smallest_unsigned(ids: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """The same whole numbers in uint8, uint16 or uint32, whichever is the smallest that holds them."""
    return np.ascontiguousarray(ids, dtype=np.min_scalar_type(int(ids.max(initial=0))))


def as_label_map(values: NDArray[Any], grid: Grid, scheme: Mapping[str, int], *, where: object = "") -> LabelMap:
    """Whole numbers from 0 as a label map; LabelsMismatch for other values."""
    low, high = values.min(), values.max()
    whole = values.dtype.kind in "iu" or bool(np.all(values == np.rint(values)))
    if not (whole and low >= 0 and high < _MOST_IDS):
        raise LabelsMismatch(
            f"not a label map: values from {low:g} to {high:g}", where=where, mend="ids are whole numbers from 0"
        )
    return LabelMap(smallest_unsigned(values), grid, scheme)


def _extent(grid: Grid) -> str:
    low, high = grid.corners_world_mm.min(axis=0), grid.corners_world_mm.max(axis=0)
    return " x ".join(f"{a:.0f}..{b:.0f}" for a, b in zip(low, high, strict=True)) + " mm"
