"""The training set on disk: `dataset.json`, `pairs.csv`, and one `pairs/PAIR_ID.npz` a pair."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.density import RESEARCH_USE_ONLY, Material
from hierbmd.data.halves import CANONICAL_SIDE, HalfFrame
from hierbmd.data.pairs import DatasetCard, PairRecord, TrainingPair
from hierbmd.errors import BadManifest, OutputUnwritable
from hierbmd.geometry import Side, View
from hierbmd.io.atomic import atomic_path, read_json, write_json

VERSION = 1

_IMAGES = ("radiograph", "bones", "region", "region_mask")
_FURTHER = "further"
_PLAIN = [f.name for f in dataclasses.fields(PairRecord) if f.name not in ("outcomes", "extra")]


def _optional_float(text: str) -> float | None:
    return float(text) if text else None


def _flag(text: str) -> bool:
    return bool(int(text))


_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("bmd_g_cm2", "bmd_qct_g_cm2", "region_bmd_at_pose_g_cm2", "sdd_mm", "source_isocentre_mm"), float),
    **dict.fromkeys(("age", "height_cm", "weight_kg"), _optional_float),
    **dict.fromkeys(("mirrored", "metal", "burned_in_annotation", "synthetic"), _flag),
    "side": Side,
    "view": View,
}


@dataclass(frozen=True)
class Dataset:
    """A training set: its card and the records of its pairs; the images are read when asked for."""

    folder: Path
    card: DatasetCard
    records: tuple[PairRecord, ...]

    def of_split(self, *splits: str) -> tuple[PairRecord, ...]:
        """The records of the named splits, in order."""
        return tuple(record for record in self.records if record.split in splits)

    def load(self, record: PairRecord) -> TrainingPair:
        """Read one pair's images; BadManifest when the file is missing, broken or of another frame."""
        path = pair_path(self.folder, record.pair_id)
        images = read_pair_images(path)
        width, height = self.card.frame.size_px
        if images["radiograph"].shape != (height, width):
            raise BadManifest(
                f"the pair is {images['radiograph'].shape}, the data set's frame {(height, width)}",
                where=path,
                mend="prepare the data set again",
            )
        channels = len(self.card.regions) + len(self.card.structures)
        if len(images.get(_FURTHER, ())) != channels:
            raise BadManifest(
                f"the pair has {len(images.get(_FURTHER, ()))} further channels, the data set's card {channels}",
                where=path,
                mend="prepare the data set again",
            )
        return TrainingPair(record, **images)

    def digest(self, *splits: str, also: Iterable[Path] = ()) -> str:
        """SHA-256 over the card, the table, the images of the pairs of the named splits, and the contents of `also`."""
        total = hashlib.sha256()
        pairs = (pair_path(self.folder, r.pair_id) for split in splits for r in self.of_split(split))
        for path in (self.folder / "dataset.json", self.folder / "pairs.csv", *pairs, *also):
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


def pair_path(folder: str | Path, pair_id: str) -> Path:
    """Where a pair's images are."""
    return Path(folder) / "pairs" / f"{pair_id}.npz"


def read_dataset(folder: str | Path) -> Dataset:
    """Read a data set's card and records; BadConfig or BadManifest names the file and line that cannot be used."""
    folder = Path(folder)
    card = _card_from(read_json(folder / "dataset.json"), folder / "dataset.json")
    path = folder / "pairs.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadManifest(f"no readable table of pairs ({error})", where=path, mend="run hierbmd prepare") from None
    records = (_record_from(row, card.bones, f"{path} line {n}") for n, row in enumerate(rows, start=2))
    return Dataset(folder, card, tuple(records))


def write_dataset(folder: str | Path, card: DatasetCard, records: Sequence[PairRecord]) -> None:
    """Write `pairs.csv` and, last, `dataset.json`, each atomically; the pairs' images are already there."""
    extra = sorted({name for record in records for name in record.extra})
    with (
        atomic_path(Path(folder) / "pairs.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, [*_PLAIN, *_outcomes(card.bones), *extra], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row_from(record, card.bones) for record in records)
    write_json(Path(folder) / "dataset.json", _json_from(card))


def write_view(folder: str | Path, dataset: Dataset) -> None:
    """Write a data set that shares the images of another: its own card and records, and a link to the other's pairs.

    For subsets and other splits of what was prepared once. OutputUnwritable where the folder holds pairs of its own.
    """
    pairs, theirs = Path(folder) / "pairs", (dataset.folder / "pairs").resolve()
    try:
        pairs.parent.mkdir(parents=True, exist_ok=True)
        if not pairs.is_symlink():
            pairs.symlink_to(os.path.relpath(theirs, pairs.parent.resolve()), target_is_directory=True)
    except OSError as error:
        raise OutputUnwritable(f"cannot link ({error.strerror})", where=pairs, mend="give another folder") from error
    if pairs.resolve() != theirs:
        raise OutputUnwritable("the folder holds another data set", where=folder, mend="give another folder")
    write_dataset(folder, dataset.card, dataset.records)


def write_pair(folder: str | Path, pair: TrainingPair) -> Path:
    """Write one pair's images (and nothing that needs a pickle), atomically; returns the file."""
    path = pair_path(folder, pair.record.pair_id)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        names = _IMAGES if pair.further is None else (*_IMAGES, _FURTHER)
        np.savez_compressed(stream, **{name: getattr(pair, name) for name in names})
    return path


def read_pair_images(path: str | Path) -> dict[str, Any]:
    """The arrays of one pair file by name; BadManifest when it is missing, truncated or holds something else."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            further = (_FURTHER,) if _FURTHER in stored else ()
            return {name: stored[name] for name in (*_IMAGES, *further)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadManifest(f"not a readable pair ({error})", where=path, mend="prepare the data set again") from None


def _json_from(card: DatasetCard) -> dict[str, Any]:
    further = {"regions": list(card.regions), "structures": list(card.structures)}
    return {
        "version": VERSION,
        "frame": {
            "size_px": list(card.frame.size_px),
            "pixel_mm": list(card.frame.pixel_mm),
            "canonical_side": CANONICAL_SIDE.value,
        },
        "bones": list(card.bones),
        **{name: names for name, names in further.items() if names},
        "region": card.region,
        "unit": "g/cm2",
        "material": card.material.value,
        "sdd_mm": card.sdd_mm,
        "source_isocentre_mm": card.source_isocentre_mm,
        "view": None if card.view is None else card.view.value,
        "simulated": card.simulated,
        "research_use_only": RESEARCH_USE_ONLY,
    }


def _card_from(value: Any, path: Path) -> DatasetCard:
    try:
        if value["version"] != VERSION or value["frame"]["canonical_side"] != CANONICAL_SIDE:
            raise BadManifest(
                f"a data set of version {value['version']}, not {VERSION}", where=path, mend="prepare it again"
            )
        (width, height), (du, dv) = value["frame"]["size_px"], value["frame"]["pixel_mm"]
        return DatasetCard(
            frame=HalfFrame((int(width), int(height)), (float(du), float(dv))),
            material=Material(value["material"]),
            region=value["region"],
            bones=tuple(value["bones"]),
            regions=tuple(value.get("regions", ())),
            structures=tuple(value.get("structures", ())),
            sdd_mm=value["sdd_mm"],
            source_isocentre_mm=value["source_isocentre_mm"],
            view=None if value["view"] is None else View(value["view"]),
            simulated=bool(value["simulated"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadManifest(f"not a data set's card ({error!r})", where=path, mend="run hierbmd prepare") from None


def _outcomes(bones: Sequence[str]) -> list[str]:
    return [f"outcome_{bone}" for bone in bones]


def _row_from(record: PairRecord, bones: Sequence[str]) -> dict[str, str]:
    row = {name: _text(getattr(record, name)) for name in _PLAIN}
    row |= {f"outcome_{bone}": record.outcomes.get(bone, "") for bone in bones}
    return {**dict(record.extra), **row}


def _text(value: Any) -> str:
    return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def _record_from(row: dict[str, Any], bones: Sequence[str], where: str) -> PairRecord:
    try:
        values: dict[str, Any] = {name: _READERS.get(name, str)(row[name]) for name in _PLAIN if name in row}
        outcomes = {bone: row[f"outcome_{bone}"] for bone in bones}
        extra = {name: value for name, value in row.items() if name not in (*_PLAIN, *_outcomes(bones))}
        return PairRecord(**values, outcomes=outcomes, extra=extra)
    except (KeyError, TypeError, ValueError) as error:
        raise BadManifest(f"not a pair's record ({error!r})", where=where, mend="prepare the data set again") from None
