"""Radiographs without a CT: read from a folder, cut into sides, and kept apart from the patients of the test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from hierbmd.data.halves import half_radiograph, sides_shown
from hierbmd.data.pairs import DatasetCard, PairRecord
from hierbmd.data.site import site_of
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import BadManifest, HierbmdError, SplitLeak
from hierbmd.io.radiograph import RadiographOptions, read_radiograph

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnpairedSide:
    """One side of a radiograph without a CT: a name to show, and its half image (H, W), not normalised."""

    name: str
    pixels: NDArray[np.float32]


def read_unpaired(folder: str | Path, card: DatasetCard, not_of: Sequence[PairRecord]) -> tuple[UnpairedSide, ...]:
    """Every side of the radiographs in a folder, its subfolders too, in the order of their names.

    A file that cannot be read is left out and logged with its reason. `not_of` are the held-out images: SplitLeak when
    one of them is in the folder, pixel by pixel. BadManifest when nothing is left.
    """
    held_out = {record.radiograph_sha256: record.pair_id for record in not_of}
    sides: list[UnpairedSide] = []
    for path in files(folder):
        try:
            radiograph = read_radiograph(path, RadiographOptions())
            shown = sides_shown(radiograph, site_of(card.region))
            halves = [(side, half_radiograph(radiograph, side, card.frame)) for side in shown]
        except HierbmdError as error:
            _LOG.warning("left out: %s", error)
            continue
        leaked = held_out.get(pixels_sha256(radiograph.pixels))
        if leaked is not None:
            raise SplitLeak("a held-out radiograph among the unpaired", where=f"{path} is {leaked}", mend="remove it")
        sides += [UnpairedSide(f"{path.name} {side}", half.pixels) for side, half in halves]
    if not sides:
        raise BadManifest("no usable radiograph", where=folder, mend="DICOM that says its view and side")
    return tuple(sides)


class RadiographsAlone(TorchDataset[dict[str, Any]]):
    """Half radiographs by name, normalised; an item is asked for by (index, seed) and augmented by the seed."""

    def __init__(
        self,
        images: Sequence[tuple[str, NDArray[np.float32]]],
        augment: Callable[[dict[str, Any], int], dict[str, Any]],
    ) -> None:
        self.images, self.augment = images, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        name, pixels = self.images[draw[0]]
        sample = self.augment({"radiograph": pixels[None]}, draw[1])
        return {"radiograph": torch.from_numpy(sample["radiograph"]), "pair_id": name}


def files(folder: str | Path) -> list[Path]:
    """The files of a folder and its subfolders, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())
