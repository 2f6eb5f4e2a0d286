"""CT volumes and label maps on their grids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid


@dataclass(frozen=True)
class Volume:
    """A scalar volume: `values` (ni, nj, nk) float32 on `grid`, in `unit` ("HU", or "mg/cm3 HA" after calibration)."""

    values: NDArray[np.float32]
    grid: Grid
    unit: str = "HU"

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise ValueError(f"values {self.values.shape} do not fit the grid {self.grid.shape}")


@dataclass(frozen=True)
class LabelMap:
    """Which structure each voxel belongs to: `ids` (ni, nj, nk) integers on `grid`, 0 is background.

    `scheme` maps a structure's name, as TotalSegmentator v2 names it, to its id in this map.
    """

    ids: NDArray[np.integer]
    grid: Grid
    scheme: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ids.shape != self.grid.shape:
            raise ValueError(f"ids {self.ids.shape} do not fit the grid {self.grid.shape}")

    @cached_property
    def names_present(self) -> tuple[str, ...]:
        """The names in the scheme that have at least one voxel here, in id order."""
        present = set(np.unique(self.ids).tolist())
        return tuple(name for name, i in sorted(self.scheme.items(), key=lambda item: item[1]) if i in present)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """The voxels of one structure, (ni, nj, nk) bool; LabelsMismatch when it is not in the map."""
        return np.asarray(self.ids == self.id_of(name))

    def id_of(self, name: str) -> int:
        """The id of a structure that is present; LabelsMismatch names what is."""
        if name not in self.names_present:
            raise LabelsMismatch(
                f"no structure {name} in the label map", mend="present: " + ", ".join(self.names_present)
            )
        return self.scheme[name]

    def select(self, names: Iterable[str]) -> NDArray[np.uint8]:
        """Channels for the projector: (ni, nj, nk) uint8, 0 for background and n for the n-th name given, from 1."""
        table = np.zeros(int(self.ids.max()) + 1, dtype=np.uint8)
        for channel, name in enumerate(names, start=1):
            table[self.id_of(name)] = channel
        return np.asarray(table[self.ids])
