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

KIND = "label map"
_MOST_IDS = 2**32


def read_labels(
    path: str | Path,
    *,
    scheme: str | Path | None = None,
    onto: Grid | None = None,
    max_gib: float = guards.DEFAULT_MAX_GIB,
) -> LabelMap:
    """Read a label map (NIfTI, NRRD, MHA): ids in the smallest unsigned type, names by TotalSegmentator v2 or `scheme`.

    `scheme` is a JSON file {name: id}. With `onto` the ids are carried to that grid by nearest neighbour in physical
    space, whatever the axis order of either; exact where axes are only permuted or flipped. Raises UnreadableFile and
    the other refusals of images, BadConfig (scheme) and LabelsMismatch (negative or broken ids, or no overlap).
    """
    names = TOTALSEGMENTATOR_V2 if scheme is None else read_scheme(scheme)
    if Path(path).is_dir():
        raise guards.unreadable(KIND, path, "is a folder: give a .nii.gz, .mha or .nrrd file")
    values, grid = read_voxels(path, kind=KIND, max_gib=max_gib)
    labels = LabelMap(_as_ids(values, path), grid, names)
    return labels if onto is None or onto == grid else resample_labels(labels, onto, where=path)


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
    from scipy import ndimage

    index_from_onto = labels.grid.index_from_world @ onto.world_from_index
    ids = ndimage.affine_transform(
        labels.ids,
        index_from_onto[:3, :3],
        offset=index_from_onto[:3, 3],
        output_shape=onto.shape,
        order=0,
        mode="grid-constant",
        cval=0,
    )
    if not ids.any():
        raise LabelsMismatch(
            "the label map does not overlap its CT",
            where=where,
            mend=f"labels reach {_extent(labels.grid)}, the CT {_extent(onto)}",
        )
    return LabelMap(ids, onto, labels.scheme)


def smallest_unsigned(ids: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """The same whole numbers in uint8, uint16 or uint32, whichever is the smallest that holds them."""
    return np.ascontiguousarray(ids, dtype=np.min_scalar_type(int(ids.max(initial=0))))


def structures_named(scheme: Mapping[str, int], ids: NDArray[Any]) -> dict[str, int]:
    """The part of a scheme that these ids use."""
    present = set(np.unique(ids).tolist())
    return {name: i for name, i in scheme.items() if i in present}


def _as_ids(values: NDArray[Any], path: str | Path) -> NDArray[np.unsignedinteger[Any]]:
    low, high = values.min(), values.max()
    whole = values.dtype.kind in "iu" or bool(np.all(values == np.rint(values)))
    if not (whole and low >= 0 and high < _MOST_IDS):
        raise LabelsMismatch(
            f"not a label map: values from {low:g} to {high:g}", where=path, mend="ids are whole numbers from 0"
        )
    return smallest_unsigned(values)


def _extent(grid: Grid) -> str:
    low, high = grid.corners_world_mm.min(axis=0), grid.corners_world_mm.max(axis=0)
    return " x ".join(f"{a:.0f}..{b:.0f}" for a, b in zip(low, high, strict=True)) + " mm"
