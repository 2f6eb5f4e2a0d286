"""How far a model's BMD moves when the radiograph changes, against the least significant change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hierbmd.data.halves import half_radiograph
from hierbmd.data.pairs import PairRecord
from hierbmd.data.pseudonyms import pseudonymised
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import BadManifest
from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped
from hierbmd.evaluation.cases import half_of
from hierbmd.evaluation.estimate import CONFIDENCE, Estimate
from hierbmd.evaluation.perturb import Perturbation, Stored
from hierbmd.io.dataset import Dataset
from hierbmd.io.radiograph import RadiographOptions, StatedRadiograph, read_stated, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hierbmd.data.halves import Half
    from hierbmd.predict import Predictor

HALF_IMAGE_BITS = 12
"""The grey levels that a half image without its file is taken to have had."""

Row = dict[str, Any]


@dataclass(frozen=True)
class RadiographFiles:
    """Where the radiographs of a data set lie: the file of each (subject, name), as its manifest says."""

    paths: Mapping[tuple[str, str], Path]

    @classmethod
    def of_manifest(cls, path: str | Path, salt: bytes | None = None) -> RadiographFiles:
        """Those of a manifest, by their pseudonyms where the data set was prepared with a salt; BadManifest."""
        from hierbmd.io.manifest import read_manifest

        manifest = read_manifest(path)
        rows = (manifest if salt is None else pseudonymised(manifest, salt)).rows
        return cls({(row.subject, row.radiograph_name): row.radiograph for row in rows})


def first_images(records: Sequence[PairRecord]) -> tuple[PairRecord, ...]:
    """One image of each hip, the first: images of one hip change alike."""
    first: dict[tuple[str, str], PairRecord] = {}
    for record in records:
        first.setdefault((record.subject, record.side.value), record)
    return tuple(first.values())


def changes(
    predictor: Predictor,
    dataset: Dataset,
    records: Sequence[PairRecord],
    applied: Sequence[Perturbation],
    *,
    files: RadiographFiles | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Row]:
    """A row for every image and perturbation: BMD as it is and perturbed, and the difference, g/cm2.

    With `files` the whole radiograph is changed as it is stored, before it is cut in halves and normalised; without,
    the half image of the data set is, which is coarser. BadManifest when a file is not the one that the data set was
    made of.
    """
    for done, record in enumerate(records, start=1):
        source = _File(record, dataset, files) if files else _HalfImage(record, dataset)
        as_it_is = predictor.predict_half(source.half(source.stored.pixels)).bmd.value_g_cm2
        for number, one in enumerate(applied):
            changed = one.apply(source.stored, number + len(applied) * done)
            value = predictor.predict_half(source.half(changed)).bmd.value_g_cm2
            yield {
                "sweep": one.sweep,
                "name": one.name,
                "level": one.level,
                "pair_id": record.pair_id,
                "subject": record.subject,
                "applied_to": source.what,
                "bmd_g_cm2": as_it_is,
                "bmd_changed_g_cm2": value,
                "change_g_cm2": value - as_it_is,
            }
        on_image(done, len(records))


class _File:
    """A radiograph read from its file, changed as it is stored."""

    what = "radiograph as stored"

    def __init__(self, record: PairRecord, dataset: Dataset, files: RadiographFiles) -> None:
        path = files.paths.get((record.subject, record.radiograph))
        if path is None:
            raise BadManifest(f"no radiograph of pair {record.pair_id} in the manifest", where=record.radiograph)
        self.record, self.frame, self.path = record, dataset.card.frame, path
        self.stated: StatedRadiograph = read_stated(path)
        self.options = RadiographOptions(
            view=record.view, sdd_mm=record.sdd_mm, source_isocentre_mm=record.source_isocentre_mm
        )
        if pixels_sha256(resolve(self.stated, self.options, where=path).pixels) != record.radiograph_sha256:
            raise BadManifest(
                f"not the radiograph that pair {record.pair_id} was made of", where=path, mend="prepare again"
            )

    @property
    def stored(self) -> Stored:
        return Stored(self.stated.stored, self.stated.stored_range, self.stated.bits_stored)

    def half(self, pixels: np.ndarray) -> Half:
        whole = resolve(replace(self.stated, stored=pixels), self.options, where=self.path)
        return half_radiograph(whole, self.record.side, self.frame)


class _HalfImage:
    """The half image that the data set keeps."""

    what = "half image of the data set"

    def __init__(self, record: PairRecord, dataset: Dataset) -> None:
        self.pair, self.dataset = dataset.load(record), dataset

    @property
    def stored(self) -> Stored:
        pixels = self.pair.radiograph
        return Stored(pixels, (float(pixels.min()), float(pixels.max())), HALF_IMAGE_BITS)

    def half(self, pixels: np.ndarray) -> Half:
        return half_of(replace(self.pair, radiograph=pixels), self.dataset)


def robustness(rows: Sequence[Row], *, lsc: Estimate, options: BootstrapOptions) -> list[dict[str, Any]]:
    """Figures of every level: mean change and SD of the change with patient-bootstrap intervals, share within the LSC.

    `lsc` is the least significant change in g/cm2; where it is undefined, so is the share.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    return [_level([row for row in rows if row["name"] == name], lsc, options) for name in names]


def _level(rows: Sequence[Row], lsc: Estimate, options: BootstrapOptions) -> dict[str, Any]:
    change = np.array([row["change_g_cm2"] for row in rows])
    subjects = [row["subject"] for row in rows]
    mean = bootstrapped(lambda at: float(change[at].mean()), subjects, unit="g/cm2", options=options)
    spread = bootstrapped(lambda at: float(change[at].std()), subjects, unit="g/cm2", options=options)
    return {
        **{key: rows[0][key] for key in ("sweep", "name", "level", "applied_to")},
        "n_images": len(rows),
        "n_subjects": len(set(subjects)),
        "mean_change_g_cm2": mean.as_json(),
        "sd_change_g_cm2": spread.as_json(),
        "largest_change_g_cm2": float(np.max(np.abs(change))),
        "within_lsc": share_within(change, subjects, lsc).as_json(),
    }


def share_within(change_g_cm2: np.ndarray, subjects: Sequence[str], lsc: Estimate) -> Estimate:
    """The share of images whose |change| is at most the LSC.

    Wilson's interval with as many observations as there are patients: a patient's images are not independent, and a
    bootstrap of a share of one would have no width.
    """
    if lsc.value is None:
        return Estimate.undefined(f"no least significant change: {lsc.reason}")
    share = float(np.mean(np.abs(change_g_cm2) <= lsc.value))
    low, high = wilson(share, len(set(subjects)))
    return Estimate(share, low, high)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a share of n observations, which need not be a whole number of them."""
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2.0))
    middle, width = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, float((middle - width) / scale)), min(1.0, float((middle + width) / scale))
